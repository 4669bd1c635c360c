"""Who writes to the journal: a file a process in ``writers/``, locked while the process lives.

A file that nobody has locked is left from a process that was killed; what it committed may not be filled.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..disk import Disk

__all__ = ["Writers"]

_IS_NAME = re.compile("[0-9a-f]{16}").fullmatch


class Writers:
    """The writers in `directory`; `own` is this process's number."""

    def __init__(self, disk: Disk, directory: str, own: int) -> None:
        self._disk = disk
        self._own = own
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
                return fd
            self._disk.close(fd)

    def forget(self, writer: int) -> None:
        """It has left nothing unfilled."""
        self._disk.unlink(self._path(writer))

    def forget_own(self) -> None:
        """We have left nothing unfilled."""
        self.forget(self._own)

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
