"""Disks that fail and disks that forget: real files in a directory of the test's, with faults where it wants them.

`FaultyDisk` fails the Nth operation. `PowerCutDisk` remembers what was synced; `PowerCutDisk.after_cut` makes the
directory that a power cut at this moment would leave.

SQLite opens its files itself: what a cut leaves of them is `cut_databases`' matter.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

from ..disk import OsDisk
from . import cut_databases
from .cut_databases import Database, is_database, is_part

__all__ = ["FaultyDisk", "HookedDisk", "PowerCutDisk"]

#: Operations that change something, or promise that it is on the disk.
CHANGES = (
    *("open", "open_nameless", "write", "writev", "pwrite", "fdatasync", "fsync", "sync_directory"),
    *(
        "syncfs",
        "reserve",
        "truncate",
        "link",
        "link_fd",
        "rename",
        "unlink",
        "mkdir",
        "rmdir",
        "fchmod",
    ),
    "utime",
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
    `fdatasync` of it, a name after the sync of its directory, everything after `syncfs`. And one thing more, which
    every journaling file system keeps: a `rename` is one step, also between two directories. Its file has the old
    name or the new one, and when either directory is synced, the new one.
    """

    def __init__(self, root: str, cut_at: int = 0) -> None:
        super().__init__(cut_at, number=errno.EIO, lasting=True)
        self.root = os.path.abspath(root)
        self._names: dict[int, dict[str, int]] = {}
        """Of each directory, by its inode: what is certain."""
        self._bytes: dict[int, bytes] = {}
        self._times: dict[int, int] = {}
        self._kept: dict[int, int] = {}
        self._renames: list[_Rename] = []
        self._databases: dict[int, Database] = {}
        self._databases_now: dict[int, Database] | None = None

    @property
    def alive(self) -> bool:
        """Whether the power is still on."""
        return not self.failed

    def before(self, name: str, args: Sequence[Any]) -> None:
        super().before(name, args)
        if name == "rename":
            source, target = map(os.path.abspath, args)
            number = os.lstat(source).st_ino
            if not (os.path.lexists(target) and os.lstat(target).st_ino == number):
                self._renames.append(_Rename(number, _key(source), _key(target)))

    def after(self, name: str, args: Sequence[Any]) -> None:
        if name in ("fdatasync", "fsync"):
            self._sync_file(f"/proc/self/fd/{args[0]}", times=name == "fsync")
        elif name == "sync_directory":
            self._sync_names(os.path.abspath(args[0]))
        elif name == "syncfs":
            for directory, _, files in os.walk(self.root):
                self._sync_names(directory)
                for file in files:
                    self._sync_file(os.path.join(directory, file), times=True)
            self._renames.clear()

    def power_off(self) -> None:
        """This is the moment of the cut, for SQLite's files. Without it `after_cut` is.

        To be called before the databases of the process are closed: that is more than a process does that dies.
        """
        if self._databases_now is None:
            self._databases_now = {
                os.stat(path).st_ino: cut_databases.read(path)
                for directory, _, files in os.walk(self.root)
                for path in (os.path.join(directory, name) for name in files if is_database(name))
            }

    def _sync_file(self, path: str, *, times: bool) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            status = os.fstat(fd)
            self._hold(status.st_ino, fd)
            self._bytes[status.st_ino] = os.pread(fd, status.st_size, 0)
            if is_database(real := os.path.realpath(path)):
                self._databases[status.st_ino] = cut_databases.read(real)
            if times:
                self._times[status.st_ino] = status.st_mtime_ns
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
        of = os.stat(directory).st_ino
        self._finish_renames(of)
        self._names[of] = names

    def _finish_renames(self, directory: int) -> None:
        """What was renamed in or out of a directory that is synced is certain on the other side, too."""
        for group in _groups(self._renames):
            if any(directory in (rename.source[0], rename.target[0]) for rename in group):
                for rename in group:
                    rename.apply(self._names)
                    self._renames.remove(rename)

    def close_all(self) -> None:
        """Let go of what was kept open."""
        while self._kept:
            os.close(self._kept.popitem()[1])

    def after_cut(self, target: str, *, luck: Random | None = None) -> None:
        """Make `target` what a cut now leaves: only what was synced, or with `luck` some of the rest, too."""
        self.power_off()
        paths: dict[int, str] = {}
        """Where what is there now can be read."""
        now: dict[int, dict[str, int]] = {}
        for directory, _, _ in os.walk(self.root):
            own = os.stat(directory).st_ino
            paths[own] = directory
            now[own] = {}
            for entry in os.scandir(directory):
                now[own][entry.name] = entry.inode()
                paths.setdefault(entry.inode(), entry.path)
        names = {directory: dict(known) for directory, known in self._names.items()}
        if luck is not None:
            self._try_luck(names, now, luck)
        os.mkdir(target, 0o700)
        made: dict[int, str] = {}
        own = os.stat(self.root).st_ino
        self._rebuild(
            own, target, names, _Now(paths, frozenset(now) | frozenset(names)), luck, made
        )

    def _try_luck(
        self, names: dict[int, dict[str, int]], now: dict[int, dict[str, int]], luck: Random
    ) -> None:
        """Change `names` to something between what is certain and what is `now`."""
        kept: set[tuple[int, str]] = set()
        for group in _groups(self._renames):
            # None of them, the first few, or what has become of all.
            steps = luck.randint(0, len(group) + 1)
            keys = {key for rename in group for key in (rename.source, rename.target)}
            kept |= keys
            for rename in group[:steps]:
                rename.apply(names)
            if steps > len(group):
                for directory, name in keys:
                    _set(names.setdefault(directory, {}), name, now.get(directory, {}).get(name))
        for directory, there in now.items():
            known = names.setdefault(directory, {})
            for name in sorted(known.keys() | there.keys()):
                if (
                    (directory, name) not in kept
                    and known.get(name) != there.get(name)
                    and luck.random() < 0.5
                ):
                    _set(known, name, there.get(name))

    def _rebuild(
        self,
        own: int,
        target: str,
        known: dict[int, dict[str, int]],
        now: _Now,
        luck: Random | None,
        made: dict[int, str],
    ) -> None:
        names = known.get(own, {})
        for name, number in sorted(names.items()):
            new = os.path.join(target, name)
            if is_part(name):
                # Comes with its database; what is left without one is of no use to anybody.
                if name.endswith("-wal") and name[:-4] not in names and number in now.paths:
                    shutil.copyfile(now.paths[number], new)
                continue
            if is_database(name):
                self._restore_database(new, number, luck)
                continue
            if number in now.directories or self._is_directory(number):
                assert number not in made, f"{new} and {made[number]} are one directory"
                made[number] = new
                os.mkdir(new, 0o700)
                self._rebuild(number, new, known, now, luck, made)
            elif number in made:
                os.link(made[number], new)
            else:
                made[number] = new
                self._restore(now.paths.get(number), new, number, luck)

    def _is_directory(self, number: int) -> bool:
        return number in self._kept and stat.S_ISDIR(os.fstat(self._kept[number]).st_mode)

    def _restore_database(self, new: str, number: int, luck: Random | None) -> None:
        now = (self._databases_now or {}).get(number)
        cut_databases.write(new, cut_databases.left_of(self._databases.get(number), now, luck))

    def _restore(self, old: str | None, new: str, number: int, luck: Random | None) -> None:
        data = self._bytes.get(number, b"")
        if old is None and number in self._kept:
            old = f"/proc/self/fd/{self._kept[number]}"
        if luck is not None and old is not None:
            with open(old, "rb") as file:
                now = file.read()
            # What came after the last sync was written back by chance: all of it, or a part.
            if now.startswith(data):
                data = now[: luck.choice((len(data), luck.randint(len(data), len(now)), len(now)))]
            elif luck.random() < 0.5:
                data = now
        with open(new, "wb") as file:
            file.write(data)
        if number in self._times:
            os.utime(new, ns=(self._times[number], self._times[number]))


class _Now(NamedTuple):
    """What is there when the power is cut, by inode."""

    paths: dict[int, str]
    directories: frozenset[int]


class _Rename(NamedTuple):
    """A rename that no sync has made certain: (inode of the directory, name) before and after."""

    number: int
    source: tuple[int, str]
    target: tuple[int, str]

    def apply(self, names: dict[int, dict[str, int]]) -> None:
        names.get(self.source[0], {}).pop(self.source[1], None)
        names.setdefault(self.target[0], {})[self.target[1]] = self.number


def _key(path: str) -> tuple[int, str]:
    directory, name = os.path.split(path)
    return os.stat(directory).st_ino, name


def _groups(renames: Sequence[_Rename]) -> list[list[_Rename]]:
    """Those that have a name in common belong together, in their order."""
    groups: list[tuple[set[tuple[int, str]], list[_Rename]]] = []
    for rename in renames:
        keys, members = {rename.source, rename.target}, [rename]
        rest = []
        for known, others in groups:
            if known & keys:
                keys |= known
                members = others + members
            else:
                rest.append((known, others))
        groups = [*rest, (keys, members)]
    order = {id(rename): at for at, rename in enumerate(renames)}
    return [sorted(members, key=lambda rename: order[id(rename)]) for _, members in groups]


def _set(names: dict[str, int], name: str, number: int | None) -> None:
    if number is None:
        names.pop(name, None)
    else:
        names[name] = number


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
