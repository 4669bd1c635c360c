"""Disks that fail and disks that forget: real files in a directory of the test's, with faults where it wants them.

`FaultyDisk` fails the Nth operation. `PowerCutDisk` remembers what was synced; `PowerCutDisk.after_cut` makes the
directory that a power cut at this moment would leave.

SQLite opens its files itself: a cut keeps an index as it was at the last `syncfs`, or not at all. The queue's database
is no cache, and SQLite's own syncs keep it whole: a cut keeps it as it was at the last `syncfs`, or as it is.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from ..disk import OsDisk

__all__ = ["FaultyDisk", "HookedDisk", "PowerCutDisk"]

#: Operations that change something, or promise that it is on the disk.
CHANGES = (
    *("open", "open_nameless", "write", "writev", "fdatasync", "fsync", "sync_directory", "syncfs"),
    *("reserve", "truncate", "link", "link_fd", "rename", "unlink", "mkdir", "rmdir", "fchmod"),
)


class _UnsyncedDisk(OsDisk):
    """The real disk without its waits: a test's files need not outlive the machine."""

    def fdatasync(self, fd: int) -> None:
        os.fstat(fd)

    def fsync(self, fd: int) -> None:
        os.fstat(fd)

    def sync_directory(self, path: str) -> None:
        os.stat(path)

    def syncfs(self, fd: int) -> None:
        os.fstat(fd)


def _hooked(name: str) -> Callable[..., Any]:
    operation: Callable[..., Any] = getattr(_UnsyncedDisk, name)

    def run(self: HookedDisk, *args: Any, **kwargs: Any) -> Any:
        self.before(name, args)
        result = operation(self, *args, **kwargs)
        self.after(name, args)
        return result

    return run


class HookedDisk(_UnsyncedDisk):
    """A disk with a word before and after every operation that changes something."""

    def before(self, name: str, args: Sequence[Any]) -> None:
        """May raise OSError in place of the operation."""

    def after(self, name: str, args: Sequence[Any]) -> None:
        """The operation was done."""


for _name in CHANGES:
    setattr(HookedDisk, _name, _hooked(_name))


class FaultyDisk(HookedDisk):
    """Fails the operation number `fail_at` (the first is 1; 0: none) with `number`, once or from then on.

    `counted`: the operations that count. `count` is how many there were: a test raises `fail_at` until it is over it.
    """

    def __init__(
        self,
        fail_at: int = 0,
        *,
        number: int = errno.EIO,
        lasting: bool = False,
        counted: Sequence[str] = CHANGES,
    ) -> None:
        self.fail_at = fail_at
        self.number = number
        self.lasting = lasting
        self.counted = frozenset(counted)
        self.count = 0
        self.failed: list[str] = []

    def before(self, name: str, args: Sequence[Any]) -> None:
        if name not in self.counted:
            return
        self.count += 1
        if self.fail_at and (
            self.count == self.fail_at or (self.lasting and self.count > self.fail_at)
        ):
            self.failed.append(name)
            raise OSError(self.number, os.strerror(self.number), *args[:1])


class PowerCutDisk(FaultyDisk):
    """Knows what is on the disk for certain. After the cut every operation fails.

    `root` is the directory that counts. What is promised is POSIX's least: a file's bytes after `fsync` or
    `fdatasync` of it, a name after the sync of its directory, everything after `syncfs`.
    """

    def __init__(self, root: str, cut_at: int = 0) -> None:
        super().__init__(cut_at, number=errno.EIO, lasting=True)
        self.root = os.path.abspath(root)
        self._names: dict[str, dict[str, int]] = {}
        self._bytes: dict[int, bytes] = {}
        self._kept: dict[int, int] = {}

    @property
    def alive(self) -> bool:
        """Whether the power is still on."""
        return not self.failed

    def after(self, name: str, args: Sequence[Any]) -> None:
        if name in ("fdatasync", "fsync"):
            self._sync_file(f"/proc/self/fd/{args[0]}")
        elif name == "sync_directory":
            self._sync_names(os.path.abspath(args[0]))
        elif name == "syncfs":
            for directory, _, files in os.walk(self.root):
                self._sync_names(directory)
                for file in files:
                    self._sync_file(os.path.join(directory, file))

    def _sync_file(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            number = os.fstat(fd).st_ino
            self._hold(number, fd)
            self._bytes[number] = os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def _hold(self, number: int, fd: int) -> None:
        # An open descriptor keeps the number from being given to another file.
        if number not in self._kept:
            self._kept[number] = os.dup(fd)

    def _sync_names(self, directory: str) -> None:
        names: dict[str, int] = {}
        for entry in os.scandir(directory):
            names[entry.name] = entry.inode()
            fd = os.open(entry.path, os.O_RDONLY)
            try:
                self._hold(entry.inode(), fd)
            finally:
                os.close(fd)
        self._names[directory] = names

    def close_all(self) -> None:
        """Let go of what was kept open."""
        while self._kept:
            os.close(self._kept.popitem()[1])

    def after_cut(self, target: str, *, luck: Random | None = None) -> None:
        """Make `target` what a cut now leaves: only what was synced, or with `luck` some of the rest, too."""
        os.mkdir(target, 0o700)
        made: dict[int, str] = {}
        self._rebuild(self.root, target, luck, made)

    def _rebuild(self, source: str, target: str, luck: Random | None, made: dict[int, str]) -> None:
        names = dict(self._names.get(source, {}))
        if luck is not None and os.path.isdir(source):
            there = {entry.name: entry.inode() for entry in os.scandir(source)}
            for name in sorted(names.keys() | there.keys()):
                if names.get(name) != there.get(name) and luck.random() < 0.5:
                    if name in there:
                        names[name] = there[name]
                    else:
                        del names[name]
        as_it_is = luck is not None and luck.random() < 0.5
        for name in ("queue.sqlite3", "queue.sqlite3-wal"):
            names.pop(name, None)
            self._keep_database(os.path.join(source, name), os.path.join(target, name), as_it_is)
        for name, number in sorted(names.items()):
            old, new = os.path.join(source, name), os.path.join(target, name)
            if name == "queue.sqlite3-shm":
                continue  # SQLite makes it anew after a boot
            if os.path.isdir(old):
                os.mkdir(new, 0o700)
                self._rebuild(old, new, luck, made)
            elif number in made:
                os.link(made[number], new)
            else:
                made[number] = new
                self._restore(old, new, number, luck)

    def _keep_database(self, old: str, new: str, as_it_is: bool) -> None:
        """Both files, at one time: the one is nothing without the other."""
        if as_it_is:
            if os.path.exists(old):
                shutil.copyfile(old, new)
            return
        number = self._names.get(os.path.dirname(old), {}).get(os.path.basename(old))
        if number is not None and number in self._bytes:
            with open(new, "wb") as file:
                file.write(self._bytes[number])

    def _restore(self, old: str, new: str, number: int, luck: Random | None) -> None:
        data = self._bytes.get(number, b"")
        if luck is not None and os.path.exists(old) and os.stat(old).st_ino == number:
            with open(old, "rb") as file:
                now = file.read()
            # What came after the last sync was written back by chance: all of it, or a part.
            if now.startswith(data):
                data = now[: luck.choice((len(data), luck.randint(len(data), len(now)), len(now)))]
            elif luck.random() < 0.5:
                data = now
        with open(new, "wb") as file:
            file.write(data)


def copy_tree(source: str, target: str) -> None:
    """A copy of a data directory, hard links kept as such."""
    shutil.copytree(source, target, copy_function=_copier())


def _copier() -> Callable[[str, str], str]:
    made: dict[int, str] = {}

    def copy(source: str, target: str) -> str:
        number = os.stat(source).st_ino
        if number in made:
            os.link(made[number], target)
        else:
            shutil.copy2(source, target)
            made[number] = target
        return target

    return copy
