"""One spill file of the journal's while it is written: front to back, past the page cache where the disk can.

What a journal's record may name must be on the disk anyway, so nothing is gained by a copy of it in memory first: that
costs ten times the processor of handing the bytes to the device (10 MiB on ext4: 27 ms and 3), and pushes out of memory
what readers want. Direct I/O wants whole blocks from aligned memory: they are gathered in buffers that threads borrow,
and what fills no block waits for more. Where the file system has no direct I/O, or the file will be read and written
once more, it is written as any other.

What comes on top and is known only at the end has `room` there, if its size was foretold.

All methods block: for pool threads, one at a time.
"""

from __future__ import annotations

import errno
import mmap
import os
import zlib
from collections.abc import Sequence
from typing import Final

from ..disk import Disk
from .checksum import crc32_of_both

__all__ = ["SpillFile"]

_BLOCK: Final = 4096
"""What direct I/O's offsets and sizes are multiples of; some devices are content with less."""
_PIECE: Final = 512 * 1024
"""Octets that go to the device at once, at most."""
_KEPT: Final = 4

# Memory from the kernel is dear: what a thread has borrowed is kept for the next one. There are as many as threads that
# write, at most.
_buffers: list[mmap.mmap] = []


class SpillFile:
    """A new file at `path`, with `room` octets at its front for what `finish` puts there. Raises OSError, as all of
    it does.

    `direct`: it is not going to be read soon. `crc` and `size` are those of what was written, without the room.
    """

    __slots__ = ("_carry", "_direct", "_disk", "_fd", "_offset", "crc", "path", "room", "size")

    def __init__(self, disk: Disk, path: str, room: int = 0, *, direct: bool) -> None:
        self._disk = disk
        self.path = path
        self.room = room
        self.crc = 0
        self.size = 0
        self._fd = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        # What comes at `_offset` and is less than a block.
        self._carry = bytes(room)
        self._offset = 0
        self._direct = False
        if direct:
            try:
                self._direct = disk.direct(self._fd, True)
            except BaseException:
                self.remove()
                raise

    def write(self, blocks: Sequence[bytes]) -> None:
        """Add them."""
        for block in blocks:
            self.crc = zlib.crc32(block, self.crc)
            self.size += len(block)
        self._add(blocks)

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` octets of what was written; fewer only at its end."""
        self._settle()
        return self._disk.pread(self._fd, size, self.room + offset)

    def copy(self, path: str, top: bytes) -> SpillFile:
        """Another file at `path`, with `top` before what was written here; this one is for `remove`."""
        new = SpillFile(self._disk, path, direct=True)
        try:
            new.write([top])
            offset = 0
            while block := self.read(offset, _PIECE):
                new._add([block])
                offset += len(block)
            new.crc = crc32_of_both(new.crc, self.crc, offset)
            new.size += offset
        except BaseException:
            new.remove()
            raise
        return new

    def finish(self, top: bytes) -> None:
        """Put `top` into the room, all of which it fills, sync and close. Closed it is also when that fails."""
        assert len(top) == self.room, "the room is for this"
        try:
            self._settle()
            if top:
                self._disk.pwrite(self._fd, top, 0)
                self.crc = crc32_of_both(zlib.crc32(top), self.crc, self.size)
                self.size += len(top)
                self.room = 0
            self._disk.fdatasync(self._fd)
        finally:
            self.close()

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._disk.close(fd)

    def remove(self) -> None:
        """Close it and take it away."""
        self.close()
        self._disk.unlink(self.path)

    def _add(self, blocks: Sequence[bytes]) -> None:
        if not self._direct:
            self._put(b"".join((self._carry, *blocks)))
            self._carry = b""
            return
        try:
            buffer = _buffers.pop()
        except IndexError:
            buffer = mmap.mmap(-1, _PIECE)
        with memoryview(buffer) as view:
            self._gather(view, blocks)
        if len(_buffers) < _KEPT:
            _buffers.append(buffer)

    def _gather(self, view: memoryview, blocks: Sequence[bytes]) -> None:
        """Write by way of `view`; what fills no block is carried over."""
        at = len(self._carry)
        view[:at] = self._carry
        for block in blocks:
            start, end = 0, len(block)
            while start < end:
                size = min(end - start, _PIECE - at)
                view[at : at + size] = block[start : start + size]
                start += size
                at += size
                if at == _PIECE:
                    self._put(view)
                    at = 0
        whole = at - at % _BLOCK if self._direct else at
        if whole:
            self._put(view[:whole])
        self._carry = bytes(view[whole:at])

    def _put(self, data: bytes | memoryview) -> None:
        try:
            self._disk.pwrite(self._fd, data, self._offset)
        except OSError as error:
            if error.errno != errno.EINVAL or not self._direct:
                raise
            # Some file systems say only now that they cannot.
            self._direct = False
            self._disk.direct(self._fd, False)
            self._disk.pwrite(self._fd, data, self._offset)
        self._offset += len(data)

    def _settle(self) -> None:
        """From here on as any other file."""
        if self._direct:
            self._direct = False
            self._disk.direct(self._fd, False)
        if self._carry:
            carry, self._carry = self._carry, b""
            self._put(carry)
