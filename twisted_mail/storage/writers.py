"""Who writes to the journal: a file a process in ``writers/``, locked while the process lives.

A file that nobody has locked is left from a process that was killed; what it committed may not be filled.

In it stands up to which record its process has filled. That is in the page cache when the process dies, and not synced:
on the same boot it is right, after another one nobody asks. So that a copy (a backup that was put back) proves nothing,
it says which file it is, and beside which mail. What is left of a process whose records are all filled is called
``<ID>.over`` and stays as long as they do.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from struct import Struct

from ..disk import Disk

__all__ = ["Writers"]

_IS_NAME = re.compile("[0-9a-f]{16}").fullmatch
_OVER = ".over"
_ALL = (1 << 64) - 1
_SEQUENCE = Struct("<2Q")
"""Up to which record, and the same inverted."""
_IDENTITY = Struct("<4Q")
"""Device and inode of the file itself, and of the directory of the mail."""
_SIZE = _SEQUENCE.size + _IDENTITY.size


class Writers:
    """The writers in `directory`; `own` is this process's number, `mail` the directory of what they fill."""

    def __init__(self, disk: Disk, directory: str, own: int, mail: str) -> None:
        self._disk = disk
        self._own = own
        self._mail = mail
        self._fd = -1
        self._tail = b""
        self.directory = directory

    def register(self) -> int:
        """Make our file. Returns the descriptor that holds its lock; closing it means that we are dead."""
        path = self._path(self._own)
        while True:
            fd = self._disk.open(path, os.O_RDWR | os.O_CREAT)
            self._disk.flock(fd, fcntl.LOCK_EX)
            # Another process's checkpoint may have taken it for a dead one's before it was locked.
            if (
                self._disk.exists(path)
                and self._disk.stat(path).st_ino == self._disk.fstat(fd).st_ino
            ):
                self._fd, self._tail = fd, self._identity(fd)
                return fd
            self._disk.close(fd)

    def note(self, sequence: int) -> None:
        """All that we have committed up to this record is filled, or parked. Raises OSError."""
        self._disk.pwrite(self._fd, _SEQUENCE.pack(sequence, ~sequence & _ALL) + self._tail, 0)

    def notes(self) -> Mapping[int, int]:
        """Up to which record each writer has filled, dead or alive, as far as there are records of this boot."""
        found: dict[int, int] = {}
        for name in self._disk.names(self.directory):
            head, _, _ = name.partition(".")
            if not _IS_NAME(head) or name[16:] not in ("", _OVER):
                continue
            try:
                fd = self._disk.open(os.path.join(self.directory, name), os.O_RDONLY)
            except FileNotFoundError:
                continue  # it has stopped
            try:
                data = self._disk.pread(fd, _SIZE, 0)
                good = len(data) == _SIZE and data[_SEQUENCE.size :] == self._identity(fd)
            finally:
                self._disk.close(fd)
            if good:
                sequence, inverted = _SEQUENCE.unpack_from(data)
                if sequence == ~inverted & _ALL:
                    found[int(head, 16)] = sequence
        return found

    def _identity(self, fd: int) -> bytes:
        own, mail = self._disk.fstat(fd), self._disk.stat(self._mail)
        return _IDENTITY.pack(own.st_dev, own.st_ino, mail.st_dev, mail.st_ino)

    def settled(self, writer: int) -> None:
        """It is dead, and has left nothing unfilled any more. Its records may be read again, with those of others."""
        path = self._path(writer)
        fd = self._disk.open(path, os.O_RDWR)
        try:
            note = _SEQUENCE.pack(_ALL, 0) + self._identity(fd)
            self._disk.pwrite(fd, note, 0)
        finally:
            self._disk.close(fd)
        self._disk.rename(path, path + _OVER)

    def stopped(self) -> None:
        """We have left nothing unfilled, and others are up."""
        path = self._path(self._own)
        self._disk.rename(path, path + _OVER)

    def over(self) -> list[str]:
        """What is left of those whose records are filled, for `drop` when they are dropped."""
        return [name for name in self._disk.names(self.directory) if name.endswith(_OVER)]

    def drop(self, names: Iterable[str]) -> None:
        """The records of these are dropped."""
        for name in names:
            self._disk.unlink(os.path.join(self.directory, name))

    def forget_own(self) -> None:
        """Nothing is left of us."""
        self._disk.unlink(self._path(self._own))

    def others(self) -> list[int]:
        """All but us, dead or alive."""
        names = filter(_IS_NAME, self._disk.names(self.directory))
        return [writer for writer in (int(name, 16) for name in names) if writer != self._own]

    @contextmanager
    def dead(self) -> Iterator[frozenset[int]]:
        """Those that died; nobody else settles what they left meanwhile."""
        held: dict[int, int] = {}
        try:
            for writer in self.others():
                try:
                    fd = self._disk.open(self._path(writer), os.O_RDWR)
                except FileNotFoundError:
                    continue  # it has stopped
                try:
                    self._disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._disk.close(fd)
                except BaseException:
                    self._disk.close(fd)
                    raise
                else:
                    held[writer] = fd
            yield frozenset(held)
        finally:
            for fd in held.values():
                self._disk.close(fd)

    def _path(self, writer: int) -> str:
        return os.path.join(self.directory, f"{writer:016x}")
