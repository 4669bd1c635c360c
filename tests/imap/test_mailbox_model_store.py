"""The model of the mailbox over the real store: two processes of ours, and other programs in the same Maildir.

Clients 0 and 2 are with one process, client 1 with another; what others do comes by delivery and POP3, from the second
process, or from a program that knows only files. Between two steps there is time enough to see what happened in a
directory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from imap_dialogue import Dialogue
from mailbox_model import MailboxModel
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from twisted_mail.interfaces import IMailboxAccount
from twisted_mail.mailboxes import Appending, StoreMode
from twisted_mail.storage.maildir import base_of
from twisted_mail.storage.store import MailStore
from twisted_mail.testing import SimulatedWorld, simulated_world

KEY = "d/a"
SEEN_IN_TIME = 0.1
"""Seconds within which one process sees what another did."""
_MEMORY = "/dev/shm"
_LETTERS = {"\\Seen": "S", "\\Deleted": "T", "\\Flagged": "F"}


@implementer(IMailboxAccount)
class Account:
    """What a realm would give."""

    name = "alice@example.org"

    def __init__(self, store: MailStore) -> None:
        self.store = store

    def open_mailboxes(self) -> Any:
        return self.store.open_mailboxes(KEY)


class Process:
    """A server with the store open, and one session of its own to change mailboxes with."""

    def __init__(self, world: SimulatedWorld, data: str) -> None:
        self.world = world
        self.store = MailStore(world, data, host="test", boot="boot-1", segment_size=1 << 20)
        self.run(self.store.start())
        self.session = self.run(self.store.open_mailboxes(KEY))
        self.factory: Any = None

    def run(self, work: Any) -> Any:
        async def done() -> Any:
            return await work

        return self.world.run(done())

    def client(self) -> StoreWire:
        account = Account(self.store)
        dialogue = Dialogue(account, world=self.world, factory=self.factory)
        self.factory = dialogue.factory
        return StoreWire(dialogue)

    async def append(self, box: str, content: bytes) -> None:
        draft = self.session.write()
        draft.write(content)
        await self.session.append(box, [Appending(draft)])

    async def deliver(self, content: bytes) -> None:
        draft = self.store.draft()
        draft.write(content)
        await self.store.accept(draft, [KEY], ascii_size=None, envelope={})

    async def store_flags(
        self, box: str, uids: list[int], mode: StoreMode, flags: list[str]
    ) -> None:
        opened = await self.session.open(box)
        try:
            await opened.store(uids, mode, flags)
        finally:
            await opened.close()

    async def remove(self, box: str, uids: list[int]) -> None:
        opened = await self.session.open(box)
        try:
            await opened.store(uids, StoreMode.ADD, ["\\Deleted"])
            await opened.expunge(uids)
        finally:
            await opened.close()

    async def remove_by_pop3(self, uids: list[int], bases: list[str]) -> None:
        inbox = await self.store.open_inbox(KEY)
        try:
            gone = [at for at, info in enumerate(inbox.messages) if info.uidl in bases]
            assert len(gone) == len(uids)
            await inbox.remove(gone)
        finally:
            await inbox.close()


class StoreWire:
    """A client's connection; what it says is answered, and then seen by all."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._world = dialogue.world
        self.login()

    def login(self) -> None:
        assert b"l OK" in self.ask(b"l LOGIN alice secret\r\n")

    def ask(self, data: bytes) -> bytes:
        tag = data.partition(b" ")[0] if data != b"DONE\r\n" else b"idle"
        end = b"+ " if b" IDLE\r\n" in data else tag + b" "
        said = self._dialogue.ask(data)
        for _ in range(1000):
            if any(line.startswith(end) for line in said.split(b"\r\n")):
                break
            self._world.reactor.advance(0.001)
            said += self._dialogue.client.read()
        else:
            raise AssertionError((data, said))
        return said + self.later(SEEN_IN_TIME)

    def later(self, seconds: float) -> bytes:
        return self._dialogue.later(seconds)

    def close(self) -> None:
        self._dialogue.client.close()


class StoreProvider:
    """`mailbox_model.Provider`. `by`: who the others are."""

    def __init__(self) -> None:
        memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        self.data = tempfile.mkdtemp(dir=memory)
        first = simulated_world()
        self.processes = [Process(first, self.data), Process(first.at("192.0.2.7"), self.data)]
        self.by = "server"
        self.names = 0
        self.wires: list[StoreWire] = []
        self.run(self.processes[0].session.create("Other"))
        self.wait()

    def run(self, work: Any) -> Any:
        return self.processes[0].run(work)

    def wait(self) -> None:
        self.processes[0].world.reactor.advance(SEEN_IN_TIME)

    @property
    def process(self) -> Process:
        return self.processes[self.by == "process"]

    def connect(self) -> StoreWire:
        wire = self.processes[len(self.wires) == 1].client()
        self.wires.append(wire)
        return wire

    def path(self, box: str) -> str:
        maildir = os.path.join(self.data, "mail", KEY, "Maildir")
        return maildir if box == "INBOX" else os.path.join(maildir, f".{box}")

    def deliver(self, box: str, content: bytes) -> None:
        if self.by == "program":
            self.names += 1
            name = f"{self.names}.program"
            with open(os.path.join(self.path(box), "tmp", name), "wb") as file:
                file.write(content)
            os.rename(
                os.path.join(self.path(box), "tmp", name), os.path.join(self.path(box), "new", name)
            )
            self.wait()
            # Somebody must find it, so that it has a UID
            self.run(self.processes[self.names % 2].session.status(box))
        elif box == "INBOX":
            self.process.run(self.process.deliver(content))
        else:
            self.process.run(self.process.append(box, content))
        self.wait()

    def store(self, box: str, uids: list[int], mode: StoreMode, flags: list[str]) -> None:
        if self.by == "program":
            self._rename(box, uids, mode, flags)
        else:
            self.process.run(self.process.store_flags(box, uids, mode, flags))
        self.wait()

    def _rename(self, box: str, uids: list[int], mode: StoreMode, flags: list[str]) -> None:
        letters = {self._letters(box)[flag] for flag in flags}
        there = self._files(box)
        for uid in uids:
            sub, name = there[uid]
            before = set(name.partition(":2,")[2])
            if mode is StoreMode.ADD:
                after = before | letters
            else:
                after = before - letters if mode is StoreMode.REMOVE else letters
            to = f"{name.partition(':')[0]}:2,{''.join(sorted(after))}"
            os.rename(
                os.path.join(self.path(box), sub, name), os.path.join(self.path(box), "cur", to)
            )

    def remove(self, box: str, uids: list[int]) -> None:
        there = self._files(box)
        if self.by == "program":
            for uid in uids:
                os.unlink(os.path.join(self.path(box), *there[uid]))
        elif self.by == "server" and box == "INBOX":
            bases = [base_of(there[uid][1]) for uid in uids]
            self.run(self.process.remove_by_pop3(uids, bases))
        elif uids:
            self.process.run(self.process.remove(box, uids))
        self.wait()

    def _files(self, box: str) -> dict[int, tuple[str, str]]:
        """UID → (sub, name), as the files are."""
        found: dict[int, tuple[str, str]] = {}
        for sub in ("new", "cur"):
            for name in os.listdir(os.path.join(self.path(box), sub)):
                uid = int(
                    name.partition(",T=")[2].partition(":")[0].partition(",")[0].partition(".")[2]
                )
                assert uid not in found, "one file a UID"
                found[uid] = (sub, name)
        return found

    def _letters(self, box: str, *, write: bool = True) -> dict[str, str]:
        """Flag → letter; with `write`, "Label" has got one."""
        found = dict(_LETTERS)
        path = os.path.join(self.path(box), "dovecot-keywords")
        if os.path.exists(path):
            with open(path) as file:
                for line in file:
                    number, name = line.split()
                    found[name] = chr(ord("a") + int(number))
        elif write:
            with open(path, "w") as file:
                file.write("0 Label\n")
            found["Label"] = "a"
        return found

    def truth(self, box: str) -> list[tuple[int, frozenset[str]]]:
        """As the files have it, whatever anybody has seen of it."""
        letters = {letter: flag for flag, letter in self._letters(box, write=False).items()}
        return [
            (uid, frozenset(letters[one] for one in name.partition(":2,")[2]))
            for uid, (_, name) in sorted(self._files(box).items())
        ]

    def close(self) -> None:
        try:
            for process in self.processes:
                process.run(process.session.close())
            for wire in self.wires:
                wire.close()
            self.wait()
            for process in self.processes:
                process.run(process.store.stop())
                assert process.world.watcher.watched == [], "nobody is there to watch for"
        finally:
            shutil.rmtree(self.data)


class StoreModel(MailboxModel):
    provider = StoreProvider

    @rule(by=st.sampled_from(["server", "process", "program"]))
    def others_are(self, by: str) -> None:
        self.there.by = by  # type: ignore[attr-defined]


TestMailboxesInTheStore = StoreModel.TestCase
TestMailboxesInTheStore.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_keyword_that_another_process_has_named() -> None:
    provider = StoreProvider()
    try:
        mine, theirs = provider.connect(), provider.connect()
        provider.deliver("INBOX", b"Subject: x\n\n")
        assert b"s OK" in mine.ask(b"s SELECT INBOX\r\n")
        assert b"s OK" in theirs.ask(b"s SELECT INBOX\r\n")
        mine.ask(b"e ENABLE CONDSTORE\r\n")
        # The name is given, no message has it
        assert b"[MODIFIED 1]" in mine.ask(b"a STORE 1 (UNCHANGEDSINCE 1) FLAGS (Label)\r\n")
        assert b"b OK" in theirs.ask(b"b APPEND INBOX (Label) {4+}\r\nx:y\n\r\n")
        assert b"* 2 FETCH (FLAGS (Label))" in theirs.ask(b"c FETCH 2 FLAGS\r\n")
    finally:
        provider.close()


def test_a_keyword_that_another_program_has_named() -> None:
    provider = StoreProvider()
    try:
        client = provider.connect()
        provider.deliver("INBOX", b"Subject: x\n\n")
        assert b"s OK" in client.ask(b"s SELECT INBOX\r\n")
        provider.by = "program"
        provider.store("INBOX", [1], StoreMode.ADD, ["Label"])
        said = client.ask(b"a NOOP\r\n")
        assert b"Label" in said.partition(b"* FLAGS")[2].partition(b"\r\n")[0]
        assert b"* 1 FETCH (FLAGS (Label))" in said
    finally:
        provider.close()


def test_who_has_a_mailbox_open_that_is_deleted_fills_no_log() -> None:
    provider = StoreProvider()
    said: list[str] = []

    def observe(event: Any) -> None:
        if event["log_level"] in (LogLevel.error, LogLevel.critical):
            said.append(formatEvent(event))

    try:
        mine, theirs = provider.connect(), provider.connect()
        provider.deliver("Other", b"Subject: x\n\n")
        assert b"s OK" in mine.ask(b"s SELECT Other\r\n")
        assert b"s OK" in theirs.ask(b"s SELECT Other\r\n")
        globalLogPublisher.addObserver(observe)
        assert b"d OK" in mine.ask(b"d DELETE Other\r\n")
        assert b"* 1 EXPUNGE" in mine.ask(b"m NOOP\r\n") + mine.ask(b"m NOOP\r\n")
        assert b"* 1 EXPUNGE" in theirs.ask(b"t NOOP\r\n") + theirs.ask(b"t NOOP\r\n")
        assert mine.ask(b"n NOOP\r\n").startswith(b"n OK")
        assert said == []
    finally:
        globalLogPublisher.removeObserver(observe)
        provider.close()
