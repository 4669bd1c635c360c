"""Copies of another program's messages, beside the Maildir, until they get their places in it.

    importing/0/BASE    those of the first folder that is taken over

What is there after an interruption is whole, and is not copied again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from typing import Final

from ..disk import Disk, make_directories
from . import maildir
from .files import file_blocks
from .importing_dovecot import DovecotFolder, Item
from .scan import plain_name

__all__ = ["Copies", "copy_name"]

STAGE: Final = "importing"


def copy_name(item: Item) -> str:
    """The name of a copy."""
    return plain_name(item.base) or "_"


class Copies:
    """For the account in the directory `home`, of the Maildir `directory`. `foreign` wraps what reads the other
    program's files."""

    def __init__(
        self,
        disk: Disk,
        home: str,
        directory: str,
        foreign: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._stage = os.path.join(home, STAGE)
        self._foreign = foreign
        self._digests: dict[tuple[str, str], bytes] = {}

    def directory(self, number: int) -> str:
        """Where the copies of a folder are."""
        return os.path.join(self._stage, str(number))

    def make(
        self, number: int, folder: DovecotFolder, found: Collection[Item], done: Collection[str]
    ) -> Iterator[int]:
        """Copy what is not there yet, and not among `done` (base names). Gives of each how many octets that were."""
        directory = self.directory(number)
        make_directories(self._disk, self._stage)
        make_directories(self._disk, directory)
        there = set(self._disk.names(directory))
        for item in found:
            name = copy_name(item)
            if name in there or plain_name(item.base) in done:
                yield 0
            else:
                yield self._copy(folder, item, os.path.join(directory, name))

    def sync(self) -> None:
        """They are on the disk when this returns: one sync for all, as one a file would take minutes."""
        make_directories(self._disk, self._stage)
        fd = self._disk.open(self._stage, os.O_RDONLY)
        try:
            self._disk.syncfs(fd)
        finally:
            self._disk.close(fd)

    def digest(self, folder: DovecotFolder, item: Item) -> bytes | None:
        """The SHA-256 of what was copied; None when that was not now."""
        return self._digests.get((folder.name, item.base))

    def remove(self) -> None:
        """They are not needed any more."""
        if self._disk.exists(self._stage):
            for name in self._disk.names(self._stage):
                path = os.path.join(self._stage, name)
                for left in self._disk.names(path):
                    self._disk.unlink(os.path.join(path, left))
                self._disk.rmdir(path)
            self._disk.rmdir(self._stage)

    def _copy(self, folder: DovecotFolder, item: Item, target: str) -> int:
        path = os.path.join(folder.path, item.sub, item.name)
        with self._foreign():
            source = maildir.open_below(self._disk, path, os.path.realpath(self._directory))
        digest = hashlib.sha256()
        size = 0
        scratch = f"{target}.part"
        try:
            copy = self._disk.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                for block in file_blocks(self._disk, source):
                    self._disk.write(copy, block)
                    digest.update(block)
                    size += len(block)
                self._disk.utime(copy, int(self._disk.fstat(source).st_mtime))
            finally:
                self._disk.close(copy)
        finally:
            self._disk.close(source)
        self._disk.rename(scratch, target)
        self._digests[folder.name, item.base] = digest.digest()
        return size
