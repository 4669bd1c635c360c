"""Telling who asks when a directory changes: by inotify, or by looking every second.

It promises that

- `changed` is called on the reactor thread, never from within `watch` or a canceller, and never after its
  cancelling; several events about one name that are read together are one call;
- everything that happens in the directory after `watch` has returned is told, by name or as "look at all of it":
  who watches first and looks then misses nothing; in a burst some milliseconds late, after `hold` some tens of them,
  but `hasten` tells it now;
- with `watch_names`: of each name, whether it is there as of what is told, so that who did it himself need not look;
- a directory that is not there, or goes, is waited for;
- when nobody watches, nothing is left behind: no descriptor, no timer.

One inotify descriptor serves the process, one watch a directory however many ask (inotify(7)). Without inotify, or
where its limits are reached (fs.inotify.max_user_instances, max_user_watches), which is said once in the log, the
directory's modification time is looked at every `POLL` seconds; inotify is tried again each time.
What is in a file is not watched, only which files there are.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from struct import Struct
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

__all__ = ["POLL", "Changed", "ChangedNames", "DirectoryWatcher", "Watcher"]

Changed = Callable[[str | None], None]
"""Called with the name in the directory that appeared, went, or was renamed from or to; None: look at everything."""

ChangedNames = Callable[[Mapping[str, bool] | None], None]
"""Called with the names that appeared or went, in their order, and whether each was there after the last that is known
of it; None: look at everything."""

POLL: Final = 1.0
"""Seconds between two looks, where inotify cannot be had."""
REST: Final = 0.01
"""Seconds for which inotify is left alone in a burst: who renames a thousand files would have to give up the
interpreter to who reads of it at each of them. What it says meanwhile is read together."""
BURST: Final = 8
"""Reads in so many seconds that are one."""
HELD: Final = 0.04
"""Seconds for which inotify is left alone, at most, while we change many files ourselves."""
HASTY: Final = 16
"""Reads by one `hasten`, at most."""
SETTLED_NS: Final = 2_000_000_000
"""Nanoseconds after which an unchanged modification time proves that nothing changed (FAT has ticks of 2 s)."""


class Watcher(Protocol):
    """What is told of changes in directories. On the reactor thread only."""

    def watch(self, path: str, changed: Changed) -> Callable[[], None]:
        """Call `changed` whenever a name in the directory `path` appears, disappears or is renamed.

        It must not raise, and may watch and cancel as it likes; it may be called when nothing has changed. Returns
        the canceller, which may be called more than once. Never raises: a directory that is not there yet is waited
        for.
        """

    def watch_names(self, path: str, changed: ChangedNames) -> Callable[[], None]:
        """As `watch`; what is known at once is one call."""

    def hasten(self) -> None:
        """Tell now of what is known to have happened: somebody asks."""

    def hold(self) -> None:
        """Many files are about to be changed by us: nobody need hear of each. It ends by itself."""

    def drain(self) -> None:
        """Tell now of all that has happened until now; of very much, perhaps not all."""


class Looks(Protocol):
    """What polling needs of a `disk.Disk`."""

    def stat(self, path: str) -> os.stat_result: ...
    def clock_ns(self) -> int: ...


class _Directory:
    """One path that is watched, by whomever."""

    __slots__ = ("path", "stamp", "sure", "wanted", "wd")

    def __init__(self, path: str) -> None:
        self.path = path
        self.wanted: list[_Wish] = []
        self.wd = -1  # what inotify calls it; -1: it does not know it
        self.stamp: tuple[int, int, int] | None = None  # while it is polled
        self.sure = True  # whether the same stamp proves anything


class _Wish:
    __slots__ = ("changed", "names")

    def __init__(self, changed: Changed | None, names: ChangedNames | None) -> None:
        self.changed = changed
        self.names = names

    def tell(self, found: Mapping[str, bool] | None) -> None:
        if self.names is not None:
            self.names(found)
        elif self.changed is not None:
            self.changed(None)


class DirectoryWatcher:
    """The real `Watcher`. Opens nothing before it is asked to watch.

    `reactor` provides IReactorTime, and IReactorFDSet where there is inotify.
    """

    _log = Logger()

    def __init__(self, reactor: Any, disk: Looks) -> None:
        self._reactor = reactor
        self._disk = disk
        self._directories: dict[str, _Directory] = {}
        # Two names of one directory have one watch.
        self._by_wd: dict[int, list[_Directory]] = {}
        self._inotify: _Inotify | None = None
        self._polled: dict[str, _Directory] = {}
        self._poll: IDelayedCall | None = None
        self._complained = False

    def watch(self, path: str, changed: Changed) -> Callable[[], None]:
        return self._watch(path, _Wish(changed, None))

    def watch_names(self, path: str, changed: ChangedNames) -> Callable[[], None]:
        return self._watch(path, _Wish(None, changed))

    def _watch(self, path: str, wish: _Wish) -> Callable[[], None]:
        directory = self._directories.get(path)
        if directory is None:
            directory = self._directories[path] = _Directory(path)
            if not self._ask_inotify(directory):
                self._poll_it(directory)
        directory.wanted.append(wish)

        def cancel() -> None:
            if wish in directory.wanted:
                directory.wanted.remove(wish)
                if not directory.wanted:
                    self._forget(directory)

        return cancel

    def hasten(self) -> None:
        if self._poll is not None:
            # Such as the Maildir of an account that is being made: it is there by now, perhaps.
            self._poll.cancel()
            self._poll_all()
        if self._inotify is not None:
            self._inotify.hasten()

    def hold(self) -> None:
        if self._inotify is not None:
            self._inotify.hold()

    def drain(self) -> None:
        if self._inotify is not None:
            self._inotify.drain()

    def _forget(self, directory: _Directory) -> None:
        del self._directories[directory.path]
        self._polled.pop(directory.path, None)
        self._leave_inotify(directory)
        if not self._directories and self._inotify is not None:
            # Kept: to close one that has watched anything takes the kernel some 16 ms (a grace period of SRCU), which
            # every client who is alone, and goes, would cost all others.
            self._inotify.stop()
        if not self._polled and self._poll is not None:
            self._poll.cancel()
            self._poll = None

    # inotify

    def _ask_inotify(self, directory: _Directory) -> bool:
        """Whether it tells us of `directory` now."""
        try:
            if self._inotify is None:
                self._inotify = _Inotify(self._reactor, self._read)
            self._inotify.start()
            wd = self._inotify.add(directory.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, AttributeError) as error:  # a libc or a reactor that does not know how
            if not self._complained:
                self._complained = True
                self._log.warn(
                    "directories are looked at every {seconds} s instead of watched: {error}"
                    " (its limits are the sysctls fs.inotify.*)",
                    seconds=POLL,
                    error=str(error),
                )
            return False
        directory.wd = wd
        self._by_wd.setdefault(wd, []).append(directory)
        return True

    def _leave_inotify(self, directory: _Directory) -> None:
        wd, directory.wd = directory.wd, -1
        sharing = self._by_wd.get(wd)
        if sharing is not None:
            sharing.remove(directory)
            if not sharing:
                del self._by_wd[wd]
                if self._inotify is not None:
                    self._inotify.remove(wd)

    def _read(self, events: bytes) -> None:
        told: dict[int, dict[bytes, int]] = {}
        position, end = 0, len(events)
        unpack, head = _EVENT.unpack_from, _EVENT.size
        last, names = -1, dict[bytes, int]()
        overflow = False
        while position < end:
            wd, mask, _, size = unpack(events, position)
            position += head + size
            if wd != last:
                names = told.setdefault(wd, {})
                last = wd
            # One name has the same NULs behind it each time; b"": the directory itself
            names[events[position - size : position]] = mask
            overflow |= mask & _Q_OVERFLOW != 0
        if overflow:
            self._log.warn("more happened in watched directories than inotify could hold")
            for directory in tuple(self._directories.values()):
                self._tell_all(directory)
        for wd, names in told.items():
            gone = names.pop(b"", 0) & _GONE
            found = _found(names)
            for directory in tuple(self._by_wd.get(wd, ())):
                if found:
                    self._tell(directory, found)
                if gone and directory.wd == wd:
                    self._leave_inotify(directory)
                    self._poll_it(directory)
                    self._tell_all(directory)

    # Polling

    def _poll_it(self, directory: _Directory) -> None:
        self._polled[directory.path] = directory
        self._look(directory)
        if self._poll is None:
            self._poll = self._reactor.callLater(POLL, self._poll_all)

    def _poll_all(self) -> None:
        self._poll = None
        for directory in tuple(self._polled.values()):
            if directory.path not in self._polled:
                continue  # cancelled by who was told before
            if self._ask_inotify(directory):
                del self._polled[directory.path]
            if self._look(directory):
                self._tell_all(directory)
        if self._polled and self._poll is None:
            self._poll = self._reactor.callLater(POLL, self._poll_all)

    def _look(self, directory: _Directory) -> bool:
        """Whether something may have changed since the last look."""
        stamp, sure = directory.stamp, directory.sure
        now = self._disk.clock_ns()
        try:
            found = self._disk.stat(directory.path)
        except OSError:
            directory.stamp, directory.sure = None, True
        else:
            directory.stamp = (found.st_dev, found.st_ino, found.st_mtime_ns)
            directory.sure = now - found.st_mtime_ns > SETTLED_NS
        return stamp != directory.stamp or not sure

    def _tell(self, directory: _Directory, found: Mapping[str, bool]) -> None:
        for wish in tuple(directory.wanted):
            if wish.changed is None:
                self._call(directory, wish, wish.tell, found)
                continue
            for name in found:
                self._call(directory, wish, wish.changed, name)

    def _tell_all(self, directory: _Directory) -> None:
        for wish in tuple(directory.wanted):
            self._call(directory, wish, wish.tell, None)

    def _call(self, directory: _Directory, wish: _Wish, function: Any, found: Any) -> None:
        if wish not in directory.wanted:
            return  # cancelled by who was told before
        try:
            function(found)
        except Exception:
            self._log.failure("who was told of a change failed", path=directory.path)


def _found(names: Mapping[bytes, int]) -> dict[str, bool]:
    """The names of events, decoded all together, and whether each was there after it."""
    if not names:
        return {}
    # A name has no slash.
    decoded = os.fsdecode(b"/".join(names)).replace("\0", "").split("/")
    return dict(zip(decoded, [mask & _AWAY == 0 for mask in names.values()], strict=True))


@implementer(IReadDescriptor)
class _Inotify:
    """The descriptor. `read` gets what the kernel has to say, whole events, once a turn of the reactor, in a burst
    every `REST` seconds."""

    def __init__(self, reactor: Any, read: Callable[[bytes], None]) -> None:
        self._fd = -1
        self._read = read
        self._reactor = reactor
        self._resting: IDelayedCall | None = None
        self._reading = False
        self._since = float("-inf")
        self._reads = 0
        self._started = False
        # A reactor that knows no descriptors says so now.
        self._add_reader = reactor.addReader
        self._fd = _call(_libc.inotify_init1, os.O_NONBLOCK | os.O_CLOEXEC)

    def start(self) -> None:
        """Listen, from now on."""
        if not self._started:
            self._started = True
            self._reads = 0
            self._add_reader(self)

    def stop(self) -> None:
        """Nobody watches anything: no timer, and nothing for the reactor. What is not read yet is nobody's, as the
        kernel gives no number of a watch a second time.
        """
        if self._started:
            self._started = False
            if self._resting is not None:
                self._resting.cancel()
                self._resting = None
            else:
                self._reactor.removeReader(self)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def add(self, path: str) -> int:
        return _call(_libc.inotify_add_watch, self._fd, os.fsencode(path), _MASK)

    def remove(self, wd: int) -> None:
        _libc.inotify_rm_watch(self._fd, wd)  # which fails when the directory is gone: as well

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> None:
        now = self._reactor.seconds()
        if not 0 <= now - self._since < REST:
            self._since = now
            self._reads = 0
        self._reads += 1
        if self._reads >= BURST:
            self._reactor.removeReader(self)
            self._resting = self._reactor.callLater(REST, self._go_on)
        self._take()

    def _go_on(self) -> None:
        resting = self._resting = self._reactor.callLater(REST, self._go_on)
        # It goes on until it has been quiet for as long
        if not self._take():
            resting.cancel()
            self._resting = None
            self._reads = 0
            self._reactor.addReader(self)

    def hasten(self) -> None:
        """Read what waits because of a burst."""
        if self._resting is not None:
            self.drain()

    def hold(self) -> None:
        """Read nothing for a while."""
        if self._started and self._resting is None:
            self._reactor.removeReader(self)
            self._resting = self._reactor.callLater(HELD, self._go_on)

    def drain(self) -> None:
        if not self._reading:
            for _ in range(HASTY):
                if not self._started or not self._take():
                    break

    def _take(self) -> bool:
        """Whether there was anything."""
        try:
            events = os.read(self._fd, _READ)
        except BlockingIOError:
            return False
        self._reading = True
        try:
            self._read(events)
        finally:
            self._reading = False
        return True

    def connectionLost(self, reason: object) -> None:
        """The reactor forgets us when it stops."""

    def logPrefix(self) -> str:
        return "inotify"


def _call(function: Any, *arguments: object) -> int:
    result: int = function(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}: {os.strerror(number)}")
    return result


_libc = ctypes.CDLL(None, use_errno=True)
_READ = 64 * 1024
_EVENT = Struct("iIII")  # struct inotify_event: wd, mask, cookie, len

# <sys/inotify.h>
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _Q_OVERFLOW, _IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
_ONLYDIR = 0x01000000
_MASK = _CREATE | _MOVED_FROM | _MOVED_TO | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
_AWAY = _MOVED_FROM | _DELETE
_GONE = _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _IGNORED
