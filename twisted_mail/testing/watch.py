"""The `Watcher` of a simulated world: looks at the listings of its disk, by the simulated clock.

Every `SimulatedWatcher.every` seconds while somebody watches, so that what a test (or another simulated process)
does to a directory is told at a known instant; `look` does it now. The disk may be a real one: what the same
operations left is told in the same order in every run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from ..watch import Changed, ChangedNames

__all__ = ["SimulatedWatcher"]


class _Disk(Protocol):
    def names(self, directory: str) -> list[str]: ...
    def stat(self, path: str) -> os.stat_result: ...
    def clock_ns(self) -> int: ...


class _Directory:
    def __init__(self, path: str) -> None:
        self.path = path
        self.wanted: list[list[Changed]] = []
        self.names: dict[str, int] | None = None
        """Its names and their inodes; None when it is not there."""
        self.stamp: tuple[int, ...] | None = None
        """The state of the directory when it was listed, if the same state must mean the same list."""


class SimulatedWatcher:
    """A `watch.Watcher` without inotify. It has no timer while nobody watches."""

    def __init__(self, reactor: Any, disk: _Disk) -> None:
        self.every: float | None = 0.05
        """Simulated seconds between two looks. None: only `look` looks; set it before anybody watches."""
        self.prompt = False
        """Whether `drain` looks. Unlike inotify it cannot tell of what came and went since the last look."""
        self._reactor = reactor
        self._disk = disk
        self._directories: dict[str, _Directory] = {}
        self._timer: Any = None

    @property
    def watched(self) -> list[str]:
        """The paths that somebody watches."""
        return sorted(self._directories)

    def watch(self, path: str, changed: Changed) -> Callable[[], None]:
        directory = self._directories.get(path)
        if directory is None:
            directory = self._directories[path] = _Directory(path)
            self._list(directory)
        wish = [changed]
        directory.wanted.append(wish)
        self._set_timer()

        def cancel() -> None:
            wish.clear()
            directory.wanted = [other for other in directory.wanted if other is not wish]
            if not directory.wanted and self._directories.get(path) is directory:
                del self._directories[path]
            if not self._directories and self._timer is not None:
                self._timer.cancel()
                self._timer = None

        return cancel

    def watch_names(self, path: str, changed: ChangedNames) -> Callable[[], None]:
        def one(name: str | None) -> None:
            directory = self._directories.get(path)
            names = directory.names if directory is not None else None
            changed(None if name is None else {name: names is not None and name in names})

        return self.watch(path, one)

    def hasten(self) -> None:
        """Nothing waits: what was not looked at is not known."""

    def hold(self) -> None:
        """It has no events to be left alone."""

    def drain(self) -> None:
        if self.prompt:
            self.look()

    def look(self) -> None:
        """Tell now what has changed since the last look."""
        for directory in [self._directories[path] for path in self.watched]:
            before = directory.names
            if not self._list(directory):
                continue
            after = directory.names
            if before is None or after is None:
                self._tell(directory, None)
                continue
            changed = {name for name, inode in before.items() if after.get(name) != inode}
            for name in sorted(changed | (after.keys() - before.keys())):
                self._tell(directory, name)

    def overflow(self) -> None:
        """Tell everybody to look at everything, as when the kernel's queue is full."""
        for path in self.watched:
            if path in self._directories:
                self._tell(self._directories[path], None)

    def _set_timer(self) -> None:
        if self.every is not None and self._timer is None and self._directories:
            self._timer = self._reactor.callLater(self.every, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.look()
        self._set_timer()

    def _list(self, directory: _Directory) -> bool:
        """List it, unless it must be as it was; whether it is not."""
        before = directory.names
        try:
            now = self._disk.clock_ns()
            stamp = _stamp(self._disk.stat(directory.path))
            if stamp == directory.stamp:
                return False
            # The clock that stamps ticks coarsely: in the same tick there may be another change.
            directory.stamp = stamp if now > stamp[-1] else None
            names: dict[str, int] = {}
            for name in self._disk.names(directory.path):
                try:
                    names[name] = self._disk.stat(os.path.join(directory.path, name)).st_ino
                except FileNotFoundError:
                    continue
            directory.names = names
        except OSError:
            directory.names = directory.stamp = None
        return directory.names != before

    def _tell(self, directory: _Directory, name: str | None) -> None:
        for wish in directory.wanted:
            for changed in wish:
                changed(name)


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_dev, found.st_ino, found.st_mtime_ns
