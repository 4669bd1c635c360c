"""A model of an account's mailboxes, and clients that know only what they were told.

`MailboxModel` is a hypothesis state machine over a `Provider`: make a class of it with another one to try another
store. Its model says what every command must do to the mailboxes; each `Client` keeps message numbers and flags from
untagged responses alone. After every step the mailboxes are those of the model, and no client's numbers or flags
contradict them; what a client has not been told yet can only be EXPUNGE, where that must not be told.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from imap_dialogue import Dialogue

from twisted_mail.mailboxes import StoreMode

__all__ = ["Client", "MailboxModel", "MemoryProvider", "Provider"]

BOXES = ("INBOX", "Other")
FLAGS = ("\\Seen", "\\Deleted", "\\Flagged", "Label")
MODES = {StoreMode.REPLACE: "FLAGS", StoreMode.ADD: "+FLAGS", StoreMode.REMOVE: "-FLAGS"}
ITEMS = (
    b"(UID FLAGS)",
    b"(UID ENVELOPE)",
    b"(UID BODY.PEEK[]<0.60>)",
    b"(UID BODY[TEXT])",
    b"(BODY[HEADER] UID FLAGS)",
)
_FETCH = re.compile(rb"\* (\d+) FETCH \((.*)\)", re.DOTALL)


class Wire(Protocol):
    """A client's connection."""

    def ask(self, data: bytes) -> bytes: ...

    def later(self, seconds: float) -> bytes: ...


class Provider(Protocol):
    """Mailboxes INBOX and Other, both empty, and what changes them behind IMAP's back."""

    def connect(self) -> Wire:
        """A client that has logged in."""

    def deliver(self, box: str, content: bytes) -> None:
        """A new message, without flags."""

    def store(self, box: str, uids: list[int], mode: StoreMode, flags: list[str]) -> None:
        """Another program changes flags …"""

    def remove(self, box: str, uids: list[int]) -> None:
        """… or takes messages away."""

    def truth(self, box: str) -> list[tuple[int, frozenset[str]]]:
        """(UID, flags) of all messages."""

    def close(self) -> None: ...


class MemoryProvider:
    """Over `testing.mailboxes`."""

    def __init__(self) -> None:
        self._first = Dialogue()
        self._used = False
        self.account = self._first.account
        self.account.large = 100
        self.account.make("Other")

    def connect(self) -> Dialogue:
        client = self._first.session() if self._used else self._first
        self._used = True
        client.login()
        return client

    def deliver(self, box: str, content: bytes) -> None:
        self.account.deliver(content, box)

    def store(self, box: str, uids: list[int], mode: StoreMode, flags: list[str]) -> None:
        self.account.box(box).store(uids, mode, flags)

    def remove(self, box: str, uids: list[int]) -> None:
        self.account.box(box).remove(uids)

    def truth(self, box: str) -> list[tuple[int, frozenset[str]]]:
        now = self.account.box(box).snapshot
        return [
            (uid, frozenset(now.names(bits))) for uid, bits in zip(now.uids, now.flags, strict=True)
        ]

    def close(self) -> None:
        pass


@dataclass
class Entry:
    """A message as a client knows it; None: it has not been told."""

    uid: int | None = None
    flags: frozenset[str] | None = None


@dataclass
class Client:
    """One client, and what it knows. `renumbers`: EXPUNGE may come now."""

    wire: Wire
    qresync: bool
    box: str = ""
    entries: list[Entry] = field(default_factory=list)
    idling: bool = False
    renumbers: bool = True
    tags: int = 0

    def command(self, text: bytes, renumbers: bool = True) -> bytes:
        """The tagged line, after all untagged ones were taken in."""
        self.tags += 1
        tag = b"t%d" % self.tags
        said = self.wire.ask(tag + b" " + text + b"\r\n")
        self.renumbers = renumbers
        lines = _lines(said)
        assert lines and lines[-1].startswith(tag + b" "), said
        for line in lines[:-1]:
            self.hear(line)
        self.renumbers = True
        assert b" BAD " not in lines[-1] and b"SERVERBUG" not in lines[-1], (text, lines[-1])
        return lines[-1]

    def select(self, box: str) -> None:
        self.box, self.entries = box, []
        assert b" OK " in self.command(b"SELECT " + box.encode())
        self.ask_for_new()

    def hear(self, line: bytes) -> None:
        words = line.split()
        if words[-1] == b"EXISTS":
            count = int(words[1])
            assert count >= len(self.entries), "EXISTS never makes it less"
            self.entries += [Entry() for _ in range(count - len(self.entries))]
        elif words[-1] == b"EXPUNGE":
            assert self.renumbers and not self.qresync
            del self.entries[int(words[1]) - 1]
        elif line.startswith(b"* VANISHED"):
            assert self.renumbers and self.qresync and b"EARLIER" not in line
            for uid in _numbers(words[2]):
                self._vanish(uid)
        elif found := _FETCH.fullmatch(line):
            self._learn(int(found[1]), found[2])

    def _vanish(self, uid: int) -> None:
        for at, entry in enumerate(self.entries):
            if entry.uid == uid:
                del self.entries[at]
                return
        # One of which it does not know the UID yet stands where that UID would
        below = [n for n, one in enumerate(self.entries) if one.uid is not None and one.uid < uid]
        at = below[-1] + 1 if below else 0
        assert at < len(self.entries) and self.entries[at].uid is None, f"VANISHED {uid}?"
        del self.entries[at]

    def _learn(self, number: int, items: bytes) -> None:
        assert 0 < number <= len(self.entries), f"FETCH of {number} of {len(self.entries)}"
        entry = self.entries[number - 1]
        if uid := re.search(rb"\bUID (\d+)", items):
            assert entry.uid in (None, int(uid[1])), f"{number} was {entry.uid}, is {uid[1]!r}"
            entry.uid = int(uid[1])
        if flags := re.search(rb"\bFLAGS \(([^)]*)\)", items):
            entry.flags = frozenset(flags[1].decode().split())

    def ask_for_new(self) -> None:
        """As clients do: what is new is asked for by number."""
        unknown = [n for n, entry in enumerate(self.entries, 1) if entry.uid is None]
        if unknown:
            self.command(b"FETCH %d:%d (UID FLAGS)" % (unknown[0], unknown[-1]), renumbers=False)

    def set(self, uids: list[int], by_uid: bool) -> bytes:
        """Those of `uids` that it knows, as a set; b"" for none."""
        known = [
            uid if by_uid else n
            for n, entry in enumerate(self.entries, 1)
            if (uid := entry.uid) is not None and uid in uids
        ]
        return b",".join(b"%d" % one for one in known)


def _lines(said: bytes) -> list[bytes]:
    """Whole responses; a literal becomes ``""``."""
    lines = []
    line = b""
    at = 0
    while at < len(said):
        end = said.index(b"\r\n", at) + 2
        line += said[at:end]
        at = end
        if found := re.search(rb"~?\{(\d+)\}\r\n\Z", line):
            line = line[: found.start()] + b'""'
            at += int(found[1])
        else:
            lines.append(line[:-2])
            line = b""
    assert not line
    return lines


def _numbers(text: bytes) -> list[int]:
    numbers: list[int] = []
    for part in text.split(b","):
        low, _, high = part.partition(b":")
        numbers += range(int(low), int(high or low) + 1)
    return numbers


def changed(before: frozenset[str], mode: StoreMode, flags: list[str]) -> frozenset[str]:
    if mode is StoreMode.ADD:
        return before | frozenset(flags)
    return before - frozenset(flags) if mode is StoreMode.REMOVE else frozenset(flags)


boxes = st.sampled_from(BOXES)
some_flags = st.lists(st.sampled_from(FLAGS), unique=True, max_size=3)
modes = st.sampled_from(list(StoreMode))
picks = st.lists(st.integers(0, 11), max_size=5)
clients = st.integers(0, 2)


class MailboxModel(RuleBasedStateMachine):
    """Two clients of plain IMAP and one with QRESYNC."""

    provider: Callable[[], Provider] = MemoryProvider

    @initialize()
    def begin(self) -> None:
        self.there: Provider = type(self).provider()
        # UIDs and flags, in the order in which they came
        self.boxes: dict[str, dict[int, frozenset[str]]] = {box: {} for box in BOXES}
        self.clients = [Client(self.there.connect(), n == 2) for n in range(3)]
        self.clients[2].command(b"ENABLE QRESYNC")
        self.count = 0
        for _ in range(5):
            self.deliver("INBOX", 3)
        for client in self.clients:
            client.select("INBOX")

    # What others do

    @rule(box=boxes, lines=st.integers(0, 30))
    def deliver(self, box: str, lines: int) -> None:
        self.count += 1
        self.there.deliver(box, b"Subject: %d\n\n" % self.count + b"text\n" * lines)
        self._added(box, [frozenset()])

    @rule(box=boxes, picked=picks, mode=modes, flags=some_flags)
    def store_by_others(
        self, box: str, picked: list[int], mode: StoreMode, flags: list[str]
    ) -> None:
        uids = self._picked(box, picked)
        self.there.store(box, uids, mode, flags)
        self._store(box, uids, mode, flags)

    @rule(box=boxes, picked=picks)
    def remove_by_others(self, box: str, picked: list[int]) -> None:
        uids = self._picked(box, picked)
        self.there.remove(box, uids)
        self._remove(box, uids)

    # What clients do

    @rule(n=clients, box=boxes, flags=some_flags)
    def append(self, n: int, box: str, flags: list[str]) -> None:
        if client := self._free(n):
            text = b"Subject: x\r\n\r\nappended\r\n"
            listed = " ".join(flags).encode()
            line = client.command(
                b"APPEND %s (%s) {%d+}\r\n%s" % (box.encode(), listed, len(text), text)
            )
            assert b" OK [APPENDUID " in line
            self._added(box, [frozenset(flags)])
            self._up_to_date(client)

    @rule(n=clients, box=boxes)
    def select(self, n: int, box: str) -> None:
        if client := self._free(n):
            client.select(box)
            self._up_to_date(client)

    @rule(n=clients)
    def noop(self, n: int) -> None:
        if client := self._free(n):
            client.command(b"NOOP")
            self._up_to_date(client)

    @rule(n=clients, picked=picks, gone=picks, uid=st.booleans(), item=st.sampled_from(ITEMS))
    def fetch(self, n: int, picked: list[int], gone: list[int], uid: bool, item: bytes) -> None:
        """Some go just before."""
        client = self._free(n)
        if client is None or not (chosen := client.set(uids := self._known(client, picked), uid)):
            return
        self.remove_by_others(client.box, gone)
        verb = b"UID FETCH " if uid else b"FETCH "
        line = client.command(verb + chosen + b" " + item, renumbers=uid)
        if b"BODY[" in item:
            self._store(client.box, uids, StoreMode.ADD, ["\\Seen"])
            if not uid:
                complete = set(uids) <= set(self.boxes[client.box])
                assert (b" OK " if complete else b" NO [EXPUNGEISSUED]") in line
        self._up_to_date(client, ghosts=not uid)

    @rule(n=clients, gone=picks.filter(bool), item=st.sampled_from(ITEMS))
    def fetch_around_ghosts(self, n: int, gone: list[int], item: bytes) -> None:
        """What went before keeps its numbers as long as there is nothing but FETCH."""
        client = self._free(n)
        if client is not None and client.entries:
            client.command(b"FETCH 1:* (UID FLAGS)", renumbers=False)
            self.remove_by_others(client.box, gone)
            client.command(b"FETCH 1:* (UID FLAGS)", renumbers=False)
            told = dict(self.boxes[client.box])
            client.command(b"FETCH 1:* " + item, renumbers=False)
            if b"BODY[" in item:
                self._store(client.box, list(told), StoreMode.ADD, ["\\Seen"])
            self._up_to_date(client, ghosts=True)

    @rule(
        n=clients,
        picked=picks,
        uid=st.booleans(),
        mode=modes,
        flags=some_flags,
        silent=st.booleans(),
        unchanged=st.booleans(),
        others=st.tuples(picks, modes, some_flags),
    )
    def store(
        self,
        n: int,
        picked: list[int],
        uid: bool,
        mode: StoreMode,
        flags: list[str],
        silent: bool,
        unchanged: bool,
        others: tuple[list[int], StoreMode, list[str]],
    ) -> None:
        """Others change flags just before."""
        client = self._free(n)
        if client is None or not (chosen := client.set(uids := self._known(client, picked), uid)):
            return
        self.store_by_others(client.box, *others)
        # With 1 it fails for every message
        condition = b" (UNCHANGEDSINCE 1)" if unchanged and client.qresync else b""
        if silent and not condition:
            for entry in client.entries:
                if entry.uid in uids and entry.flags is not None:
                    entry.flags = changed(entry.flags, mode, flags)
        line = client.command(
            b"%s%s%s %s%s (%s)"
            % (
                b"UID STORE " if uid else b"STORE ",
                chosen,
                condition,
                MODES[mode].encode(),
                b".SILENT" if silent else b"",
                " ".join(flags).encode(),
            ),
            renumbers=uid,
        )
        there = self.boxes[client.box]
        if condition:
            assert (b"[MODIFIED " in line) == any(one in there for one in uids), line
        else:
            self._store(client.box, uids, mode, flags)
            assert (b" NO [EXPUNGEISSUED]" in line) == (not uid and not set(uids) <= set(there))
        self._up_to_date(client, ghosts=not uid)

    @rule(n=clients)
    def expunge(self, n: int) -> None:
        if client := self._free(n):
            client.command(b"EXPUNGE")
            self._remove(client.box, self._deleted(client.box))
            self._up_to_date(client)

    @rule(n=clients, picked=picks)
    def uid_expunge(self, n: int, picked: list[int]) -> None:
        if (client := self._free(n)) and (
            chosen := client.set(uids := self._known(client, picked), True)
        ):
            client.command(b"UID EXPUNGE " + chosen)
            self._remove(client.box, [one for one in self._deleted(client.box) if one in uids])
            self._up_to_date(client)

    @rule(n=clients, picked=picks, uid=st.booleans(), move=st.booleans(), box=boxes)
    def copy(self, n: int, picked: list[int], uid: bool, move: bool, box: str) -> None:
        client = self._free(n)
        if client is None or not (chosen := client.set(uids := self._known(client, picked), uid)):
            return
        verb = (b"UID " if uid else b"") + (b"MOVE " if move else b"COPY ")
        line = client.command(verb + chosen + b" " + box.encode(), renumbers=uid or move)
        source = self.boxes[client.box]
        there = [one for one in uids if one in source]
        if len(there) < len(uids) and not uid:
            assert b" NO [EXPUNGEISSUED]" in line
        else:
            assert b" OK " in line
            flags = [source[one] for one in there]
            if move:
                self._remove(client.box, there)
            self._added(box, flags)
        self._up_to_date(client, ghosts=not uid and not (move and b" OK " in line))

    @rule(n=clients)
    def idle(self, n: int) -> None:
        if client := self._free(n):
            lines = _lines(client.wire.ask(b"idle IDLE\r\n"))
            for line in lines:
                if not line.startswith(b"+"):
                    client.hear(line)
            client.idling = True

    @rule(n=clients)
    def done(self, n: int) -> None:
        client = self.clients[n]
        if client.idling:
            client.idling = False
            lines = _lines(client.wire.ask(b"DONE\r\n"))
            assert lines[-1].startswith(b"idle OK")
            for line in lines[:-1]:
                client.hear(line)
            self._up_to_date(client)

    # What must hold

    @invariant()
    def mailboxes_are_those_of_the_model(self) -> None:
        for box, messages in getattr(self, "boxes", {}).items():
            assert self.there.truth(box) == list(messages.items())

    @invariant()
    def who_idles_is_told_everything(self) -> None:
        for client in getattr(self, "clients", ()):
            if client.idling:
                for line in _lines(client.wire.later(0.2)):
                    client.hear(line)
                self._check(client, ghosts=False)

    def _up_to_date(self, client: Client, ghosts: bool = False) -> None:
        """After a command; `ghosts`: it did not allow EXPUNGE."""
        self._check(client, ghosts)
        client.ask_for_new()
        self._check(client, ghosts)

    def _check(self, client: Client, ghosts: bool) -> None:
        there = self.boxes[client.box]
        known = [entry.uid for entry in client.entries if entry.uid is not None]
        assert known == sorted(set(known)), "UIDs ascend"
        if not ghosts:
            assert len(client.entries) == len(there)
            assert all(
                entry.uid in (None, uid) for entry, uid in zip(client.entries, there, strict=True)
            )
        for entry in client.entries:
            if entry.uid in there and entry.flags is not None:
                assert entry.flags == there[entry.uid], f"flags of {entry.uid}"

    # The model

    def _free(self, n: int) -> Client | None:
        client = self.clients[n]
        return None if client.idling else client

    def _picked(self, box: str, picked: list[int]) -> list[int]:
        there = list(self.boxes[box])
        return sorted({there[one % len(there)] for one in picked}) if there else []

    def _known(self, client: Client, picked: list[int]) -> list[int]:
        known = [entry.uid for entry in client.entries if entry.uid is not None]
        return sorted({known[one % len(known)] for one in picked}) if known else []

    def _store(self, box: str, uids: list[int], mode: StoreMode, flags: list[str]) -> None:
        there = self.boxes[box]
        for uid in uids:
            if uid in there:
                there[uid] = changed(there[uid], mode, flags)

    def _remove(self, box: str, uids: list[int]) -> None:
        for uid in uids:
            self.boxes[box].pop(uid, None)

    def _deleted(self, box: str) -> list[int]:
        return [uid for uid, flags in self.boxes[box].items() if "\\Deleted" in flags]

    def _added(self, box: str, flags: list[frozenset[str]]) -> None:
        """UIDs are the store's to give, above all that there were."""
        there = self.boxes[box]
        last = max(there, default=0)
        new = [uid for uid, _ in self.there.truth(box) if uid > last and uid not in there]
        assert len(new) == len(flags)
        there.update(zip(new, flags, strict=True))

    def teardown(self) -> None:
        if hasattr(self, "there"):
            self.there.close()
