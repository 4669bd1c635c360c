"""The disk of a simulated process: when the process is killed, its files are closed, and its locks with them."""

from __future__ import annotations

import errno
import os
from typing import Any

from ..disk import Disk

__all__ = ["MortalDisk"]


class MortalDisk:
    """Any `Disk`, for one process. What the dead process still asks fails with EIO and changes nothing.

    Not a `Disk` that a type checker believes in: every operation is passed on by its name.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._open: set[int] = set()
        self._dead = False

    def __getattr__(self, name: str) -> Any:
        return _dead if self._dead else getattr(self.disk, name)

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        if self._dead:
            return _dead()
        fd = self.disk.open(path, flags, mode)
        self._open.add(fd)
        return fd

    def open_nameless(self, directory: str) -> int:
        if self._dead:
            return _dead()
        fd = self.disk.open_nameless(directory)
        self._open.add(fd)
        return fd

    def close(self, fd: int) -> None:
        # A dead process's descriptor is closed already, and its number may be somebody else's by now.
        if not self._dead:
            self._open.discard(fd)
            self.disk.close(fd)

    def kill(self) -> None:
        """The process is dead."""
        self._dead = True
        while self._open:
            self.disk.close(self._open.pop())


def _dead(*args: object, **named: object) -> int:
    raise OSError(errno.EIO, f"the process is dead ({os.strerror(errno.EIO)})")
