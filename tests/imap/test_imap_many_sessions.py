"""Several sessions on one mailbox, all the way through the protocol: no client's view ever diverges.

Each client is strict: it knows only what it was told, numbers its messages by EXISTS, EXPUNGE and VANISHED alone, and
asks for UID and FLAGS of messages it has not heard of. Now and then somebody else changes the mailbox.
"""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from imap_dialogue import MESSAGE, Dialogue

from twisted_mail.imap.sequence import SequenceSet
from twisted_mail.mailboxes import StoreMode

FLAGS = ("\\Seen", "\\Deleted", "\\Flagged", "$work")


class Client:
    def __init__(self, dialogue: Dialogue, enable: bytes) -> None:
        self.dialogue = dialogue
        self.enabled = enable
        self.messages: list[tuple[int, frozenset[str]] | None] = []
        self.idling = False
        dialogue.ask(b"l LOGIN alice secret\r\n")
        if enable:
            dialogue.ask(b"e ENABLE %s\r\n" % enable)
        self.do(b"SELECT INBOX")

    def hear(self, said: bytes, *, expunges: bool = True) -> None:
        for line in said.split(b"\r\n"):
            if found := re.match(rb"\* (\d+) EXISTS", line):
                count = int(found[1])
                assert count >= len(self.messages)
                self.messages += [None] * (count - len(self.messages))
            elif found := re.match(rb"\* (\d+) EXPUNGE", line):
                assert expunges and b"QRESYNC" not in self.enabled
                del self.messages[int(found[1]) - 1]
            elif found := re.match(rb"\* VANISHED (\S+)", line):
                assert expunges and b"QRESYNC" in self.enabled
                for low, high in SequenceSet.parse(found[1]).ranges:
                    for uid in range(low, high + 1):
                        # In IDLE it may be one of those whose UID was not asked for yet
                        known = uid in self.uids
                        at = self.uids.index(uid) if known else len(self.messages) - 1
                        assert known or self.messages[at] is None
                        del self.messages[at]
            elif found := re.match(rb"\* (\d+) FETCH \((.*)\)", line):
                self.fetched(int(found[1]) - 1, found[2])

    def fetched(self, at: int, items: bytes) -> None:
        known = self.messages[at]
        uid = re.search(rb"UID (\d+)", items)
        flags = re.search(rb"FLAGS \((.*?)\)", items)
        if known is not None and uid:
            assert known[0] == int(uid[1])
        if known is None and not uid:
            return  # asked for below
        if known is None and not flags:
            return
        number = int(uid[1]) if uid else known[0] if known else 0
        names = (
            frozenset(flags[1].decode().split()) if flags else known[1] if known else frozenset()
        )
        self.messages[at] = (number, names)

    @property
    def uids(self) -> list[int]:
        return [0 if one is None else one[0] for one in self.messages]

    def do(self, command: bytes, *, expunges: bool = True) -> bytes:
        if self.idling:
            self.hear(self.dialogue.ask(b"DONE\r\n"))
            self.idling = False
        self.hear(self.dialogue.client.read())
        said = self.dialogue.ask(b"a %s\r\n" % command)
        assert re.search(rb"^a (OK|NO) ", said, re.MULTILINE), said
        self.hear(said, expunges=expunges)
        if None in self.messages:
            first = self.messages.index(None) + 1
            fetched = self.dialogue.ask(b"f FETCH %d:* (UID FLAGS)\r\n" % first)
            self.hear(fetched, expunges=False)
            if b"EXPUNGEISSUED" in fetched:
                # Gone before it was ever seen: NOOP tells
                self.hear(self.dialogue.ask(b"n NOOP\r\n"))
        return said

    def store(self, at: list[int], what: bytes, flags: list[str], silent: bool, uid: bool) -> None:
        numbers = sorted({n % len(self.messages) for n in at}) if self.messages else []
        if not numbers:
            return
        chosen = [self.uids[n] if uid else n + 1 for n in numbers]
        names = " ".join(flags).encode()
        command = b"%sSTORE %s %sFLAGS%s (%s)" % (
            b"UID " if uid else b"",
            ",".join(map(str, chosen)).encode(),
            what,
            b".SILENT" if silent else b"",
            names,
        )
        if silent:
            before = {self.uids[n]: n for n in numbers}
            for n in numbers:
                known = self.messages[n]
                assert known is not None
                new = frozenset(flags)
                old = known[1]
                made = old | new if what == b"+" else old - new if what == b"-" else new
                self.messages[n] = (known[0], made)
            assert before
        self.do(command, expunges=uid)


indexes = st.lists(st.integers(0, 20), min_size=1, max_size=4)
flags = st.lists(st.sampled_from(FLAGS), unique=True, max_size=3)
client = st.integers(0, 2)
steps = st.one_of(
    st.tuples(
        st.just("store"),
        client,
        indexes,
        st.sampled_from([b"", b"+", b"-"]),
        flags,
        st.booleans(),
        st.booleans(),
    ),
    st.tuples(st.just("do"), client, st.sampled_from([b"NOOP", b"EXPUNGE", b"CHECK"])),
    st.tuples(st.just("fetch"), client, st.sampled_from([b"", b"UID "])),
    st.tuples(st.just("append"), client),
    st.tuples(st.just("move"), client, st.integers(0, 20)),
    st.tuples(st.just("idle"), client),
    st.tuples(st.just("deliver"), st.integers(1, 3)),
    st.tuples(st.just("remove"), indexes),
    st.tuples(st.just("flag"), indexes, flags),
)


@settings(max_examples=60)
@given(st.lists(steps, max_size=30))
def test_no_session_ever_diverges(history: list[Any]) -> None:
    dialogue = Dialogue()
    account = dialogue.account
    account.make("Other")
    box = account.box("INBOX")
    box.add([(MESSAGE, (), 0)] * 4, 0)
    clients = [
        Client(dialogue, b""),
        Client(dialogue.session(), b"CONDSTORE"),
        Client(dialogue.session(), b"QRESYNC IMAP4rev2"),
    ]
    for what, *rest in history:
        if what == "deliver":
            box.add([(MESSAGE, (), 0)] * rest[0], 0)
        elif what in ("remove", "flag"):
            uids = [box.snapshot.uids[n] for n in rest[0] if n < len(box.snapshot)]
            if what == "remove":
                box.remove(uids)
            else:
                box.store(sorted(set(uids)), StoreMode.REPLACE, rest[1])
        else:
            play(clients[rest[0]], what, rest[1:])
    for one in clients:
        one.do(b"NOOP")
        one.do(b"NOOP")
        now = box.snapshot
        assert one.messages == [
            (uid, frozenset(now.names(bits))) for uid, bits in zip(now.uids, now.flags, strict=True)
        ]


def play(client: Client, what: str, rest: list[Any]) -> None:
    if client.idling and what in ("store", "move", "fetch"):
        client.do(b"NOOP")
    if what == "store":
        client.store(*rest)
    elif what == "do":
        client.do(rest[0])
    elif what == "fetch" and client.messages:
        client.do(rest[0] + b"FETCH 1:* (FLAGS)", expunges=bool(rest[0]))
    elif what == "append":
        client.do(b"APPEND INBOX (\\Flagged) {%d+}\r\n%s" % (len(MESSAGE), MESSAGE))
    elif what == "move" and client.messages:
        client.do(b"MOVE %d Other" % (rest[0] % len(client.messages) + 1))
    elif what == "idle" and not client.idling:
        client.hear(client.dialogue.ask(b"i IDLE\r\n"))
        client.idling = True
