"""The queue on the disk as the rest of the house sees it: awaitables, and nothing of files.

Implements `queue.interfaces.Spool` (that room lies above this one), and offers `view` to those who look at the queue
from outside. Changes that count go through `MailStore.change` and `MailStore.accept`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence

from twisted.logger import Logger

from ..content import BytesContent
from ..interfaces import Content
from ..status import MailError
from ..world import World, call_or_drop
from .queued import Backoff, QueuedMessage, Taken, Turn
from .reading import FileContent
from .spool import Spool
from .spool_due import TAKEN, Due
from .spool_view import PRUNED, View

__all__ = ["Outgoing"]

_log = Logger()
AT_ONCE = 256 * 1024
"""Octets of a message that is read in one go."""
PRUNINGS = 100
"""Transactions in which one `prune` forgets messages. With one a minute, that keeps up with 300 messages a second."""
FRESH = 30.0
"""Seconds for which a file that was just written is taken to be in memory, with its name."""


class Outgoing:
    """The queue in the data directory `data`, with the `spool` that the journal fills.

    `settle`: settles what processes that died left of the journal, and what is parked; called before this one runs the
    queue. False: not all of it just now.
    """

    def __init__(
        self, world: World, data: str, spool: Spool, settle: Callable[[], Awaitable[bool]]
    ) -> None:
        self._world = world
        self._spool = spool
        self._settle = settle
        self._due = Due(world.disk, spool, os.path.join(data, "queue.lock"))
        self.view = View(spool)

    async def acquire(self) -> bool:
        """See `queue.interfaces.Spool`, as for all that follows."""
        if not await self._world.threads.call(self._due.lock):
            return False
        try:
            # What the one before committed and did not write down would be sent again.
            ready = await self._settle()
            if ready:
                await self._world.threads.call(self._due.begin)
        except BaseException:
            await self._world.threads.call(self._due.release)
            raise
        if not ready:
            _log.warn("the queue does not run yet: outcomes are committed and not written down")
            await self._world.threads.call(self._due.release)
        return ready

    async def release(self) -> None:
        self._spool.claim = self._spool.claimed = self._spool.dropped = None
        try:
            await self._world.threads.call(self._due.end)
        except sqlite3.Error as error:
            _log.error("what was being sent waits for the next start: {error}", error=str(error))

    def attach(
        self,
        claim: Callable[[QueuedMessage], bool],
        claimed: Callable[[Sequence[QueuedMessage]], None],
        dropped: Callable[[Sequence[QueuedMessage]], None] = lambda _: None,
    ) -> None:
        back = self._world.threads.back
        self._spool.claimed = lambda messages: back(claimed, messages)
        self._spool.dropped = lambda messages: back(dropped, messages)
        self._spool.claim = claim

    def announce(self, waiting: Callable[[], object]) -> None:
        """Have `waiting` called when there is new mail that is not this process's to send."""
        back = self._world.threads.back
        self._spool.waiting = lambda: back(waiting)

    def changed(self) -> bool:
        return self._spool.changed()

    async def take(
        self, now: float, limit: int, share: Callable[[str], int], reopened: Sequence[str] = ()
    ) -> Turn:
        return await self._world.threads.call(self._due.take, now, limit, share, reopened)

    async def put_back(self, items: Sequence[tuple[str, int]], due: float) -> None:
        await self._world.threads.call(self._due.put_back, items, due)

    async def back_off(self, state: Backoff) -> None:
        await self._world.threads.call(self._due.back_off, state)

    async def backoffs(self, hops: Sequence[str]) -> dict[str, Backoff]:
        return await self._world.threads.call(self._due.backoffs, hops)

    async def rehop(self, items: Sequence[tuple[str, int]], hops: Sequence[str]) -> None:
        await self._world.threads.call(self._due.rehop, items, hops)

    async def expired(self, now: float, limit: int) -> Sequence[Taken]:
        return await self._taken(await self._world.threads.call(self._due.expired, now, limit))

    async def overdue(self, now: float, limit: int) -> Sequence[Taken]:
        return await self._taken(await self._world.threads.call(self._due.overdue, now, limit))

    async def current(self, ids: Sequence[str]) -> dict[tuple[str, int], Taken]:
        keys: list[tuple[int, int]] = []
        for start in range(0, len(ids), TAKEN):
            part = ids[start : start + TAKEN]
            keys += await self._world.threads.call(self._due.active, part)
        return {(one.message.id, one.number): one for one in await self._taken(keys)}

    async def _taken(self, keys: Sequence[tuple[int, int]]) -> list[Taken]:
        """Some at a time: meanwhile nobody else has the connection, and commits wait for it."""
        found: list[Taken] = []
        for start in range(0, len(keys), TAKEN):
            part = keys[start : start + TAKEN]
            found += await self._world.threads.call(self._due.taken, part)
        return found

    async def open(self, message: QueuedMessage) -> Content:
        disk = self._world.disk
        path = self._spool.path(message.id)
        try:
            if 0 <= self._world.now() - message.arrived < FRESH:
                fd = disk.open(path, os.O_RDONLY)
            else:
                fd = await call_or_drop(
                    self._world.threads, disk.close, disk.open, path, os.O_RDONLY
                )
        except OSError as error:
            if isinstance(error, FileNotFoundError) and disk.exists(self._spool.directory):
                raise _lost(path, "is not there") from error
            # All of them are gone: that can be mended.
            raise MailError(451, "4.3.0", "Its content cannot be read", error) from error
        content = FileContent(self._world, fd, message.skip)
        if message.size - message.skip > AT_ONCE:
            if disk.fstat(fd).st_size == message.size:
                return content
            # Half of a message would be sent as a whole one.
            content.close()
            raise _lost(path, "is damaged")
        missing = message.size - message.skip
        blocks: list[bytes] = []
        try:
            while missing > 0 and (block := await content.read(missing)):
                blocks.append(block)
                missing -= len(block)
        finally:
            content.close()
        if missing:
            raise _lost(path, "is damaged")
        return BytesContent(b"".join(blocks))

    async def prune(self, before: float, keep: int) -> None:
        for _ in range(PRUNINGS):
            if await self._world.threads.call(self.view.prune, before, keep) < PRUNED:
                break


def _lost(path: str, how: str) -> MailError:
    # Nothing that the journal knows of is ever without its file: a disk, or somebody, has taken it.
    return MailError(554, "5.3.0", "Its content was lost at this server", f"{path} {how}")
