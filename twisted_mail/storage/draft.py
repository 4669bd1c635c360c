"""A message on its way in: in memory while small, in a file of the journal's when it grows.

The draft takes blocks with LF line ends, counts them, and knows a checksum. Over `SPILL_OVER` bytes, or fewer when many
drafts wait for one record, it moves to a spill file, written in pool threads, a bounded number of bytes ahead; `finish`
syncs that file and its folder, so that the journal's record may name it. Nothing here is a promise to anybody: a draft
that is dropped leaves nothing.
"""

from __future__ import annotations

import os
import zlib

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..world import World
from .errors import refusal

__all__ = ["SPILL_OVER", "Draft"]

SPILL_OVER = 256 * 1024
"""Bytes kept in memory, and copied into the journal's record, at most."""
AHEAD = 256 * 1024
"""Bytes that may wait for the disk before the writer is told to wait."""

_log = Logger()


class Draft:
    """Content being received. `size` in bytes as stored, `lines` the LFs in it, `crc` its CRC-32.

    Use: `write` as often as there is something, then `finish` once, then give it to the store; or `discard`.
    """

    __slots__ = (
        "_busy",
        "_fd",
        "_keep",
        "_waiters",
        "_world",
        "blocks",
        "crc",
        "error",
        "held",
        "lines",
        "size",
        "spill",
        "spill_directory",
    )

    def __init__(self, world: World, spill_directory: str, keep: int = SPILL_OVER) -> None:
        self._world = world
        self._keep = keep
        self.spill_directory = spill_directory
        self.blocks: list[bytes] = []
        self.held = 0
        self.size = 0
        self.lines = 0
        self.crc = 0
        self.spill: str | None = None
        """The spill file's name in the spill directory, or None while the content is in `blocks`."""
        self.error: BaseException | None = None
        self._fd = -1
        self._busy = False
        self._waiters: list[Deferred[None]] = []

    def write(self, block: bytes) -> Deferred[None] | None:
        """Take a block. A Deferred, when there is one, fires when there is room for more."""
        if self.error is not None or not block:
            return None
        self.size += len(block)
        self.lines += block.count(b"\n")
        self.crc = zlib.crc32(block, self.crc)
        self.blocks.append(block)
        self.held += len(block)
        if self.size <= self._keep:
            return None
        if not self._busy:
            self._flush()
        if self.held <= AHEAD:
            return None
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        return waiter

    async def finish(self, *, spill: bool = False) -> None:
        """All of it is in `blocks`, or (always with `spill`) synced in the spill file. Raises MailError."""
        if self.spill is not None or self._busy or (spill and self.blocks):
            await self._idle()
            if self.error is None:
                self._busy = True
                self._world.threads.call(self._sync).addBoth(self._flushed)
                await self._idle()
        if self.error is not None:
            error = self.error
            self.discard()
            raise refusal(error)

    def discard(self) -> None:
        """Forget it all. May be called at any time, and more than once."""
        if self.error is None:
            self.error = ValueError("discarded")
        self.blocks = []
        self.held = 0
        if not self._busy:
            self._drop()

    def forget(self) -> None:
        """The store has taken the content over: keep no bytes, and leave the spill file to the journal."""
        self.blocks = []
        self.held = 0
        self.spill = None

    async def _idle(self) -> None:
        """Return when no thread works for this draft. Cancelling the wait does not cancel the work."""
        while self._busy:
            waiter: Deferred[None] = Deferred()
            self._waiters.append(waiter)
            await waiter

    def _flush(self) -> None:
        blocks, self.blocks, self.held = self.blocks, [], 0
        self._busy = True
        self._world.threads.call(self._append, blocks).addBoth(self._flushed)

    def _append(self, blocks: list[bytes]) -> None:
        disk = self._world.disk
        if self._fd < 0:
            name = self._world.entropy(12).hex()
            self._fd = disk.open(
                os.path.join(self.spill_directory, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL
            )
            self.spill = name
        disk.write(self._fd, b"".join(blocks))

    def _sync(self) -> None:
        disk = self._world.disk
        if self.blocks:
            blocks, self.blocks, self.held = self.blocks, [], 0
            self._append(blocks)
        fd, self._fd = self._fd, -1
        try:
            disk.fdatasync(fd)
        finally:
            disk.close(fd)
        disk.sync_directory(self.spill_directory)

    def _flushed(self, result: object) -> None:
        self._busy = False
        if isinstance(result, Failure) and self.error is None:
            self.error = result.value
            self.blocks, self.held = [], 0
        if self.error is not None:
            self._drop()
        elif self.blocks:
            self._flush()
        if self.held <= AHEAD or not self._busy:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(None)

    def _drop(self) -> None:
        fd, self._fd = self._fd, -1
        name, self.spill = self.spill, None
        if fd >= 0 or name is not None:
            self._world.threads.call(self._remove, fd, name).addErrback(
                lambda failure: _log.error(
                    "a spill file could not be removed: {error}", error=str(failure.value)
                )
            )

    def _remove(self, fd: int, name: str | None) -> None:
        if fd >= 0:
            self._world.disk.close(fd)
        if name is not None:
            self._world.disk.unlink(os.path.join(self.spill_directory, name))
