"""A committed message's bytes, ready to be linked into Maildirs.

A source with a `date` gives it to the file as its modification time, which is what a Maildir has for INTERNALDATE, and
what other programs read, too.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Sequence

from ..disk import Disk

__all__ = ["InlineSource", "LinkedSource", "SpilledSource"]

# open(2): a file system without O_TMPFILE, or a kernel that takes the flag for O_DIRECTORY
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})
BLOCK = 1024 * 1024


class _Source:
    """What all have. `size` as stored, `wire` with CRLF, `ascii` downgraded; `crc`: None when it is not known."""

    __slots__ = ("_disk", "ascii", "crc", "date", "size", "wire")

    def __init__(
        self,
        disk: Disk,
        *,
        size: int,
        wire: int,
        ascii_size: int | None,
        crc: int | None = None,
        date: int | None = None,
    ) -> None:
        self._disk = disk
        self.size = size
        self.wire = wire
        self.ascii = ascii_size
        self.crc = crc
        self.date = date

    def replace(self, target: str) -> None:
        """Put the bytes in the place of the file `target`; they and the name are on the disk afterwards."""
        raise NotImplementedError

    def mend(self, path: str) -> None:
        """See that the file `path`, which a power cut may have damaged, is whole.

        Not synced: thousands may be damaged, and who mends them syncs the file system before the record is dropped.
        """
        status = self._disk.stat(path)
        if not self._whole(path, status):
            self.replace(path)
        elif self.date is not None and int(status.st_mtime) != self.date:
            self._disk.utime(path, self.date)

    def _whole(self, path: str, status: os.stat_result) -> bool:
        return (
            self.crc is not None
            and status.st_size == self.size
            and _checksum(self._disk, path) == self.crc
        )


class InlineSource(_Source):
    """Bytes that stand in the journal's record, written once to a file that gets a name a place.

    The file has no name of its own where the file system can do that (O_TMPFILE), else one in `scratch`.
    """

    __slots__ = ("_blocks", "_fd", "_name", "_scratch")

    def __init__(
        self,
        disk: Disk,
        scratch: str,
        blocks: Sequence[bytes | memoryview],
        *,
        size: int,
        wire: int,
        ascii_size: int | None,
        crc: int | None = None,
        date: int | None = None,
    ) -> None:
        super().__init__(disk, size=size, wire=wire, ascii_size=ascii_size, crc=crc, date=date)
        self._scratch = scratch
        self._blocks = blocks
        self._fd = -1
        self._name: str | None = None

    def link(self, target: str) -> None:
        if self._fd < 0:
            self._open(os.path.basename(target))
        if self._name is None:
            self._disk.link_fd(self._fd, target)
        else:
            self._disk.link(self._name, target)

    def replace(self, target: str) -> None:
        scratch = os.path.join(self._scratch, f"{os.path.basename(target)}.new")
        if self._disk.exists(scratch):
            self._disk.unlink(scratch)
        self.link(scratch)
        self._disk.rename(scratch, target)

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._disk.close(fd)
        if self._name is not None:
            name, self._name = self._name, None
            self._disk.unlink(name)

    def _open(self, unique: str) -> None:
        try:
            self._fd = self._disk.open_nameless(self._scratch)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            name = os.path.join(self._scratch, f"{unique}.tmp")
            self._fd = self._disk.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            self._name = name
        try:
            self._disk.write(self._fd, b"".join(self._blocks))
            if self.date is not None:
                self._disk.utime(self._fd, self.date)
        except BaseException:
            self.close()
            raise


class SpilledSource(_Source):
    """Bytes in a spill file of the journal's, which stays until the record that names it is dropped.

    What has its inode is whole, as it was synced before the record was.
    """

    __slots__ = ("_path",)

    def __init__(
        self,
        disk: Disk,
        path: str,
        *,
        size: int,
        wire: int,
        ascii_size: int | None,
        crc: int | None = None,
        date: int | None = None,
    ) -> None:
        super().__init__(disk, size=size, wire=wire, ascii_size=ascii_size, crc=crc, date=date)
        self._path = path

    def link(self, target: str) -> None:
        if self.date is not None:
            self._disk.utime(self._path, self.date)
        self._disk.link(self._path, target)

    def replace(self, target: str) -> None:
        scratch = f"{self._path}.new"
        if self._disk.exists(scratch):
            self._disk.unlink(scratch)
        self.link(scratch)
        self._disk.rename(scratch, target)

    def _whole(self, path: str, status: os.stat_result) -> bool:
        own = self._disk.stat(self._path)
        if (own.st_ino, own.st_dev) == (status.st_ino, status.st_dev):
            return True
        return super()._whole(path, status)

    def close(self) -> None:
        """Nothing is open."""


class LinkedSource:
    """A stored message that is copied: one more name of its file while that is where it was, else `copy` is written.

    The file is immutable and so is its date, which the copy shall have, too.
    """

    __slots__ = ("_copy", "_disk", "_path", "ascii", "date", "size", "wire")

    def __init__(self, disk: Disk, path: str, copy: InlineSource) -> None:
        self._disk = disk
        self._path = path
        self._copy = copy
        self.size = copy.size
        self.wire = copy.wire
        self.ascii = copy.ascii
        self.date = copy.date

    def link(self, target: str) -> None:
        try:
            self._disk.link(self._path, target)
        except FileExistsError:
            raise
        except OSError:
            # Moved or deleted meanwhile, or it has as many names as the file system allows.
            self._copy.link(target)

    def replace(self, target: str) -> None:
        self._copy.replace(target)

    def mend(self, path: str) -> None:
        self._copy.mend(path)

    def close(self) -> None:
        self._copy.close()


def _checksum(disk: Disk, path: str) -> int:
    fd = disk.open(path, os.O_RDONLY)
    try:
        crc = at = 0
        while block := disk.pread(fd, BLOCK, at):
            crc = zlib.crc32(block, crc)
            at += len(block)
        return crc
    finally:
        disk.close(fd)
