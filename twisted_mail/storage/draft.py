"""A message on its way in: in memory while small, in a file of the journal's when it grows.

The draft takes blocks with LF line ends, counts them, and knows a checksum. Over `SPILL_OVER` bytes, or fewer when many
drafts wait for one record, it moves to a spill file, written in pool threads, a bounded number of bytes ahead; `finish`
syncs that file and its folder, so that the journal's record may name it. What is known only at the end and stands on
top (signatures, Authentication-Results) comes by `put_on_top`: when its size was foretold there is room for it, else a
spill file is written once more. Nothing here is a promise to anybody: a draft that is dropped leaves nothing.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..world import World
from .errors import refusal
from .spill_file import SpillFile

__all__ = ["SPILL_OVER", "Draft"]

SPILL_OVER = 256 * 1024
"""Bytes kept in memory, and copied into the journal's record, at most."""
AHEAD = 512 * 1024
"""Bytes that may wait for the disk before the writer is told to wait."""
TOGETHER = 512 * 1024
"""Bytes that are written to the spill file at once, at least: each time a thread is asked, and answers."""

_log = Logger()


class Draft:
    """Content being received. `size` in bytes as stored, `lines` the LFs in it.

    Use: `write` as often as there is something, then `finish` once, then give it to the store; or `discard`.
    """

    __slots__ = (
        "_busy",
        "_crc",
        "_file",
        "_keep",
        "_room",
        "_top",
        "_waiters",
        "_world",
        "blocks",
        "error",
        "foretold",
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
        self.spill: str | None = None
        """The spill file's name in the spill directory, or None while the content is in `blocks`."""
        self.foretold: Callable[[], int | None] = _nothing
        """Asked once, when the spill file is begun: the octets that are going to be put on top, None when nobody knows
        yet. Must not raise."""
        self._room: int | None = 0
        self.error: BaseException | None = None
        # Of what was in the spill file, once it is finished.
        self._crc = 0
        self._file: SpillFile | None = None
        self._top = b""
        self._busy = False
        self._waiters: list[Deferred[None]] = []

    @property
    def crc(self) -> int:
        """The CRC-32 of all of it, after `finish` and until `forget`."""
        crc = self._crc
        for block in self.blocks:
            crc = zlib.crc32(block, crc)
        return crc

    def write(self, block: bytes, lines: int | None = None) -> Deferred[None] | None:
        """Take a block; `lines`: its LFs, if known. A Deferred, when there is one, fires when there is room."""
        if self.error is not None or not block:
            return None
        self.size += len(block)
        self.lines += block.count(b"\n") if lines is None else lines
        self.blocks.append(block)
        self.held += len(block)
        if self.size <= self._keep:
            return None
        if not self._busy and self.held >= min(TOGETHER, self._keep):
            self._flush()
        if self.held <= AHEAD:
            return None
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        return waiter

    def put_on_top(self, top: bytes) -> None:
        """`top` comes before all that was written, and before what was put there before it; after the last `write`."""
        if self.error is not None or not top:
            return
        self.size += len(top)
        self.lines += top.count(b"\n")
        if self.spill is not None or self._busy:
            # The whole of it, with its checksum, is made when it is finished.
            self._top = top + self._top
            return
        self.blocks.insert(0, top)
        self.held += len(top)

    async def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes of what was written, from `offset`; b"" at its end. Raises MailError.

        Nothing may be written meanwhile.
        """
        if self.spill is None and not self._busy and self.error is None:
            return _slice(self.blocks, offset, size)
        while self.blocks and self.error is None:
            if not self._busy:
                self._flush()
            await self._idle()
        await self._idle()
        if self.error is not None:
            raise refusal(self.error)
        assert self._file is not None
        # Busy, so that nobody closes the file under the thread.
        self._busy = True
        reading = self._world.threads.call(self._file.read, offset, size)
        found: list[bytes] = []
        await self._until(reading.addCallback(found.append))
        if not found:
            raise refusal(self.error or ValueError("discarded"))
        return found[0]

    async def finish(self, *, spill: bool = False) -> None:
        """All of it is in `blocks`, or (always with `spill`) synced in the spill file. Raises MailError.

        No file stays open. May be called more than once.
        """
        if self._file is not None or self._busy or (spill and self.blocks):
            await self._idle()
            if self.error is None and (self._file is not None or self.blocks):
                self._busy = True
                await self._until(self._world.threads.call(self._sync))
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

    async def _until(self, work: Deferred[Any]) -> None:
        work.addBoth(self._flushed)
        await self._idle()

    async def _idle(self) -> None:
        """Return when no thread works for this draft. Cancelling the wait does not cancel the work."""
        while self._busy:
            waiter: Deferred[None] = Deferred()
            self._waiters.append(waiter)
            await waiter

    def _flush(self) -> None:
        blocks, self.blocks, self.held = self.blocks, [], 0
        self._busy = True
        if self._file is None:
            self._room = self.foretold()
        self._world.threads.call(self._append, blocks).addBoth(self._flushed)

    def _append(self, blocks: list[bytes]) -> None:
        if self._file is None:
            # What is written once more need not go to the disk before that.
            self._open(self._room or 0, direct=self._room is not None)
        assert self._file is not None
        self._file.write(blocks)

    def _open(self, room: int, *, direct: bool) -> None:
        name, path = self._new_name()
        self._file = SpillFile(self._world.disk, path, room, direct=direct)
        self.spill = name

    def _new_name(self) -> tuple[str, str]:
        name = self._world.entropy(12).hex()
        return name, os.path.join(self.spill_directory, name)

    def _sync(self) -> None:
        if self.blocks:
            blocks, self.blocks, self.held = self.blocks, [], 0
            self._append(blocks)
        file, top = self._file, self._top
        assert file is not None
        if len(top) != file.room:
            file = self._written_anew(file, top)
            top = b""
        self._top = b""
        self._file = None
        file.finish(top)
        self._crc = file.crc
        self._world.disk.sync_directory(self.spill_directory)

    def _written_anew(self, old: SpillFile, top: bytes) -> SpillFile:
        """Another spill file that has `top` before what was written, in place of the `old` one."""
        name, path = self._new_name()
        new = old.copy(path, top)
        self._file, self.spill = new, name
        old.remove()
        return new

    def _flushed(self, result: object) -> None:
        self._busy = False
        if isinstance(result, Failure) and self.error is None:
            self.error = result.value
            self.blocks, self.held = [], 0
        if self.error is not None:
            self._drop()
        elif self.blocks and self.held >= min(TOGETHER, self._keep):
            self._flush()
        if self.held <= AHEAD or not self._busy:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(None)

    def _drop(self) -> None:
        file, self._file = self._file, None
        name, self.spill = self.spill, None
        if file is not None or name is not None:
            self._world.threads.call(self._remove, file, name).addErrback(
                lambda failure: _log.error(
                    "a spill file could not be removed: {error}", error=str(failure.value)
                )
            )

    def _remove(self, file: SpillFile | None, name: str | None) -> None:
        if file is not None:
            file.close()
        if name is not None:
            self._world.disk.unlink(os.path.join(self.spill_directory, name))


def _nothing() -> int:
    return 0


def _slice(blocks: list[bytes], offset: int, size: int) -> bytes:
    found: list[bytes] = []
    for block in blocks:
        if offset >= len(block):
            offset -= len(block)
            continue
        found.append(block[offset : offset + size])
        size -= len(found[-1])
        offset = 0
        if size <= 0:
            break
    return b"".join(found)
