"""A store in a simulated world, as the tests of storage use it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from twisted_mail.disk import Disk, OsDisk
from twisted_mail.message.wire import wire_size
from twisted_mail.storage.queued import Change, QueuedMessage, QueuedRecipient, State, Taken
from twisted_mail.storage.spool_view import Filter
from twisted_mail.storage.store import MailStore
from twisted_mail.testing.world import simulated_world

_MEMORY = "/dev/shm"


def seen(account: Any) -> list[Any]:
    """The rows of an account's inbox, once it was compared with the Maildir."""
    gone = account.refresh()
    return [row for row in account.rows() if row[1] not in gone]


made: list[str] = []
"""By `scratch`, and to be removed at the end of the test."""


def scratch(*, kept: bool = False) -> str:
    """A new directory, in memory where that can be had. `kept`: who asked for it removes it, not the test's end."""
    path = tempfile.mkdtemp(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)
    if not kept:
        made.append(path)
    return path


running: list[Site] = []
"""Every site of the test under way, to be killed at its end."""


class Site:
    """One process with the store open. `boot` changes with a power cut."""

    def __init__(
        self,
        data: str,
        *,
        disk: Disk | None = None,
        seed: int = 1,
        boot: str = "boot-1",
        segment_size: int = 1 << 20,
    ) -> None:
        running.append(self)
        self.data = data
        self.disk = disk or OsDisk()
        self.world = simulated_world(seed=seed, disk=self.disk)
        self.store = MailStore(self.world, data, host="test", boot=boot, segment_size=segment_size)

    def run(self, coroutine: Any) -> Any:
        """Drive the simulated world until the coroutine is done; its result, or its exception."""
        results: list[Any] = []
        ensureDeferred(coroutine).addBoth(results.append)
        for _ in range(100_000):
            if results:
                break
            self.world.reactor.advance(0)
        assert results, "nothing more happens"
        if isinstance(results[0], Failure):
            raise results[0].value
        return results[0]

    def start(self) -> Site:
        self.run(self.store.start())
        return self

    def stop(self) -> None:
        self.run(self.store.stop())

    def begin(self, content: bytes, *accounts: str) -> list[Any]:
        """Start a delivery; the list gets its result."""
        results: list[Any] = []
        ensureDeferred(self.accept(content, accounts)).addBoth(results.append)
        return results

    async def accept(self, content: bytes, accounts: Sequence[str], **queue: Any) -> None:
        draft = self.store.draft()
        for at in range(0, len(content), 65536):
            waiting = draft.write(content[at : at + 65536])
            if waiting is not None:
                await waiting
        await self.store.accept(draft, accounts, ascii_size=None, envelope={}, **queue)

    def deliver(self, content: bytes, *accounts: str) -> None:
        self.run(self.accept(content, accounts))

    def enqueue(
        self,
        content: bytes,
        id_: str,
        *to: str,
        accounts: Sequence[str] = (),
        sender: str = "alice@here.example",
        changes: Sequence[Change] = (),
        **fields: Any,
    ) -> QueuedMessage:
        """A message to the addresses `to`, whose hops are their domains, and to mailboxes."""
        now = self.world.now()
        recipients = tuple(QueuedRecipient(one, one.rpartition("@")[2]) for one in to)
        times = {"expires": now + 432_000, "warn": now + 14_400}
        message = QueuedMessage(id_, sender, recipients, now, **{**times, **fields})
        self.run(self.accept(content, accounts, queue=message, changes=changes))
        return message

    def change(self, *changes: Change) -> None:
        self.run(self.store.change(changes))

    def take(
        self, limit: int = 100, share: int = 100, reopened: Sequence[str] = ()
    ) -> tuple[list[Taken], float | None]:
        queue = self.store.queue
        return self.run(queue.take(self.world.now(), limit, lambda _: share, reopened))

    def states(self) -> dict[tuple[str, str], State]:
        """Of every recipient of every message that is known: (id, address) → state."""
        which = Filter(states=tuple(State))
        return {
            (row.id, row.recipient): row.state
            for row in self.store.queue.view.page(which, limit=10_000)
        }

    def queued_file(self, id_: str) -> bytes | None:
        """The content of a queued message as it lies on the disk."""
        path = self.store._spool.path(id_)
        if not os.path.exists(path):
            return None
        with open(path, "rb") as file:
            return file.read()

    def turn(self, times: int = 50) -> None:
        for _ in range(times):
            self.world.reactor.advance(0)

    async def _read(self, account: str) -> list[tuple[str, bytes]]:
        inbox = await self.store.open_inbox(account)
        try:
            found = []
            for index, info in enumerate(inbox.messages):
                content = await inbox.fetch(index)
                blocks = []
                while block := await content.read(65536):
                    blocks.append(block)
                content.close()
                data = b"".join(blocks)
                assert info.size == wire_size(data)
                found.append((info.uidl, data))
            return found
        finally:
            await inbox.close()

    def read(self, account: str) -> list[tuple[str, bytes]]:
        """(UIDL, content) of every message, in order."""
        return self.run(self._read(account))

    def contents(self, account: str) -> list[bytes]:
        return sorted(content for _, content in self.read(account))

    async def _delete(self, account: str, indexes: Sequence[int]) -> None:
        inbox = await self.store.open_inbox(account)
        try:
            await inbox.remove(indexes)
        finally:
            await inbox.close()

    def delete(self, account: str, *indexes: int) -> None:
        self.run(self._delete(account, indexes))

    def kill(self) -> None:
        """The process is gone: nothing more of it runs, and its locks are free."""
        journal: Any = self.store._journal
        for fd in list(journal._locks.values()):
            os.close(fd)
        journal._locks.clear()
        journal._checkpoints.close()
        if journal._segment is not None:
            os.close(journal._segment.fd)
            journal._segment = None
        self.store._accounts.close()
        self.store._spool.close()
        self.store.queue._due.release()
        self.world.reactor.calls.clear()

    def maildir(self, account: str) -> str:
        return os.path.join(self.data, "mail", account, "Maildir")
