"""A committed message's bytes, ready to be linked into Maildirs."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from ..disk import Disk

__all__ = ["InlineSource", "SpilledSource"]

# open(2): a file system without O_TMPFILE, or a kernel that takes the flag for O_DIRECTORY
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


class InlineSource:
    """Bytes that stand in the journal's record, written once to a file that gets a name a place.

    The file has no name of its own where the file system can do that (O_TMPFILE), else one in `scratch`.
    """

    __slots__ = ("_blocks", "_disk", "_fd", "_name", "_scratch", "ascii", "size", "wire")

    def __init__(
        self,
        disk: Disk,
        scratch: str,
        blocks: Sequence[bytes | memoryview],
        *,
        size: int,
        wire: int,
        ascii_size: int | None,
    ) -> None:
        self._disk = disk
        self._scratch = scratch
        self._blocks = blocks
        self._fd = -1
        self._name: str | None = None
        self.size = size
        self.wire = wire
        self.ascii = ascii_size

    def link(self, target: str) -> None:
        if self._fd < 0:
            self._open(os.path.basename(target))
        if self._name is None:
            self._disk.link_fd(self._fd, target)
        else:
            self._disk.link(self._name, target)

    def replace(self, target: str) -> None:
        """Put the bytes in the place of the file `target`; they and the name are on the disk afterwards."""
        scratch = os.path.join(self._scratch, f"{os.path.basename(target)}.new")
        if self._disk.exists(scratch):
            self._disk.unlink(scratch)
        self.link(scratch)
        self._disk.fsync(self._fd)
        self._disk.rename(scratch, target)
        self._disk.sync_directory(os.path.dirname(target))

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
        except BaseException:
            self.close()
            raise


class SpilledSource:
    """Bytes in a spill file of the journal's, which stays until the record that names it is dropped."""

    __slots__ = ("_disk", "_path", "ascii", "size", "wire")

    def __init__(
        self, disk: Disk, path: str, *, size: int, wire: int, ascii_size: int | None
    ) -> None:
        self._disk = disk
        self._path = path
        self.size = size
        self.wire = wire
        self.ascii = ascii_size

    def link(self, target: str) -> None:
        self._disk.link(self._path, target)

    def replace(self, target: str) -> None:
        """Put the spill file in the place of the file `target`; the name is on the disk afterwards."""
        scratch = f"{self._path}.new"
        if self._disk.exists(scratch):
            self._disk.unlink(scratch)
        self._disk.link(self._path, scratch)
        self._disk.rename(scratch, target)
        self._disk.sync_directory(os.path.dirname(target))

    def close(self) -> None:
        """Nothing is open."""
