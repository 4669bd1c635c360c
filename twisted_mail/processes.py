"""What each process of a site says of itself, once a second, for those who ask how it goes (`mailctl status`).

``data/processes/<pid>`` is one block, written in place and never synced, and locked for as long as the process lives:
who gets the lock knows that it is dead, and the next process that starts takes the file away. Times are seconds since
1970, rates are of the last minute. It holds numbers only: no name, no address, nothing of a message.

The event loop's lag is how much later than asked a timer comes, looked at every `LOOK` seconds. What keeps the loop for
g seconds is seen as g less up to `LOOK`. A pool thread writes the block: the disk never makes a process late. All of it
together was measured at 0.15 % of a core.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from .counters import TOTALS
from .disk import Disk, make_directories
from .world import World

__all__ = [
    "SILENT_SECONDS",
    "ProcessReport",
    "ProcessReporter",
    "read_reports",
    "spare_the_collector",
]

_log = Logger()

LOOK: Final = 0.1
WRITE: Final = 1.0
MINUTE: Final = 60
SHARE: Final = 10
"""How often its share of memory that others use, too, is worked out: every so many blocks. It costs milliseconds."""
SILENT_SECONDS: Final = 5.0
"""Who has written nothing for longer, and lives, hangs."""
BLOCK: Final = 4096
YOUNG: Final = 3_000
"""Objects that were made and not freed yet, before the collector looks for cycles in them. With Python's own 700 that
was 1.3 % of the CPU of small mail, in which there are hardly any; now it is 0.3 %."""
_DIRECTORY: Final = "processes"
_PAGE: Final = os.sysconf("SC_PAGESIZE")


def spare_the_collector() -> None:
    """At the end of a start: what it made stays for good, so that the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])


class ProcessReport(NamedTuple):
    """One process that lives. `role`: ``server``, or ``main`` and ``worker 1`` …; `version`: of the program.

    `connections` that are open by protocol; `totals` since its start and `rates` (a second) by the names of
    `counters.TOTALS`; `memory` and `share` (the memory it would leave when it alone ended) in bytes; `lag`: seconds,
    the most of the last minute; `restarts` of processes that it looks after.
    """

    pid: int
    role: str
    version: str = ""
    started: float = 0.0
    written: float = 0.0
    connections: dict[str, int] = {}  # noqa: RUF012  # nobody changes it
    totals: dict[str, int] = {}  # noqa: RUF012
    rates: dict[str, float] = {}  # noqa: RUF012
    memory: int = 0
    share: int = 0
    lag: float = 0.0
    restarts: int = 0


class ProcessReporter:
    """Writes this process's file in the site's `data`, from `start` to `stop`. `restarts` is asked for that number.

    What goes wrong is told in the log, and mail goes on.
    """

    def __init__(
        self,
        world: World,
        data: str,
        role: str,
        *,
        version: str = "",
        restarts: Callable[[], int] = lambda: 0,
    ) -> None:
        self._world = world
        self._role = role
        self._version = version
        self._restarts = restarts
        self._file = _File(world.disk, os.path.join(data, _DIRECTORY))
        self._started = world.now()
        self._samples: deque[tuple[float, tuple[int, ...], float]] = deque(maxlen=2 * MINUTE)
        self._timer: Any = None
        self._due = 0.0
        self._late = 0.0
        self._blocks = 0
        self._writing: Deferred[None] | None = None
        self._failed = False
        self._over = False

    def start(self) -> None:
        """Begin; as who the process is to be."""
        self._look()

    async def stop(self) -> None:
        """Take the file away."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            await self._writing
        try:
            await self._world.threads.call(self._file.remove)
        except OSError as error:
            self._trouble(error)

    def _look(self) -> None:
        now = self._world.now()
        first = not self._samples
        if not first and now > self._due:
            self._late = max(self._late, now - self._due)
        # A clock that was set back must not keep it from being written
        if self._writing is None and (first or abs(now - self._samples[-1][0]) >= WRITE):
            self._sample(now)
            self._writing = Deferred.fromCoroutine(self._write(self._report(now)))
            self._writing.addErrback(self._unexpected).addCallback(self._wrote)
        self._due = now + LOOK
        self._timer = self._world.reactor.callLater(LOOK, self._look)

    def _sample(self, now: float) -> None:
        samples = self._samples
        samples.append((now, self._world.counters.totals(), self._late))
        self._late = 0.0
        # The oldest one is a minute old; one from the future says nothing.
        while len(samples) > 1 and not 0 <= now - samples[0][0] <= MINUTE:
            samples.popleft()

    def _report(self, now: float) -> ProcessReport:
        then, before, _ = self._samples[0]
        _, totals, _ = self._samples[-1]
        passed = max(now - then, WRITE)
        return ProcessReport(
            os.getpid(),
            self._role,
            self._version,
            self._started,
            now,
            self._world.counters.connections(),
            dict(zip(TOTALS, totals, strict=True)),
            {
                name: round((total - one) / passed, 3)
                for name, total, one in zip(TOTALS, totals, before, strict=True)
            },
            lag=round(max(late for _, _, late in self._samples), 4),
            restarts=self._restarts(),
        )

    async def _write(self, report: ProcessReport) -> None:
        share = self._blocks % SHARE == 0
        self._blocks += 1
        try:
            await self._world.threads.call(self._file.write, report, share)
            self._failed = False
        except OSError as error:
            self._trouble(error)

    def _wrote(self, _: object) -> None:
        self._writing = None

    def _trouble(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            _log.warn("mailctl status will not know this process: {error}", error=str(error))

    def _unexpected(self, failure: Failure) -> None:
        _log.failure("what this process does cannot be written", failure)


class _File:
    """The process's own. Blocks; one thread at a time. The methods raise OSError."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self._path = os.path.join(directory, str(os.getpid()))
        self._fd: int | None = None
        self._share = 0

    def write(self, report: ProcessReport, share: bool) -> None:
        disk = self._disk
        if self._fd is None:
            make_directories(disk, self._directory)
            self._clear()
            self._fd = self._make()
        pages = _read(disk, "/proc/self/statm").split()
        if share:
            self._share = _kilobytes(_read(disk, "/proc/self/smaps_rollup"), b"Pss:")
        memory = int(pages[1]) * _PAGE if len(pages) > 1 else 0
        disk.pwrite(self._fd, _block(report._replace(memory=memory, share=self._share)), 0)

    def remove(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            try:
                self._disk.unlink(self._path)
            finally:
                self._disk.close(fd)

    def _make(self) -> int:
        disk = self._disk
        while True:
            fd = disk.open(self._path, os.O_RDWR | os.O_CREAT)
            try:
                # Somebody who reads it has it for a moment: then the next block makes it.
                disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Before it was locked it may have been taken for a dead one's.
                if (
                    disk.exists(self._path)
                    and disk.stat(self._path).st_ino == disk.fstat(fd).st_ino
                ):
                    return fd
            except BaseException:
                disk.close(fd)
                raise
            disk.close(fd)

    def _clear(self) -> None:
        """Take away what dead processes have left."""
        for name in self._disk.names(self._directory):
            path = os.path.join(self._directory, name)
            try:
                fd = self._disk.open(path, os.O_RDWR)
            except OSError:
                continue
            try:
                self._disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._disk.unlink(path)
            except OSError:
                pass  # it lives, or somebody else takes it away
            finally:
                self._disk.close(fd)


def read_reports(disk: Disk, data: str) -> list[ProcessReport]:
    """Of the processes that live, the main one first, then workers by their number. Raises OSError.

    One that has only just begun has no numbers yet, and `written` 0.
    """
    directory = os.path.join(data, _DIRECTORY)
    if not disk.exists(directory):
        return []
    found = []
    for name in disk.names(directory):
        if not (name.isascii() and name.isdigit()):
            continue
        try:
            fd = disk.open(os.path.join(directory, name), os.O_RDONLY)
        except FileNotFoundError:
            continue  # it has stopped
        try:
            disk.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            found.append(_read_block(disk, fd) or ProcessReport(int(name), "starts"))
        finally:
            disk.close(fd)
    return sorted(found, key=_place)


def _place(report: ProcessReport) -> tuple[bool, int, int]:
    number = report.role.rpartition(" ")[2]
    is_worker = report.role not in ("main", "server")
    return is_worker, int(number) if number.isdigit() else 0, report.pid


def _block(report: ProcessReport) -> bytes:
    text = json.dumps(report._asdict(), separators=(",", ":")).encode("ascii")
    return b"%08x %s" % (zlib.crc32(text), text.ljust(BLOCK - 10)) + b"\n"


def _read_block(disk: Disk, fd: int) -> ProcessReport | None:
    # In the middle of being written, perhaps: then again
    for _ in range(3):
        crc, _, text = disk.pread(fd, BLOCK, 0).partition(b" ")
        text = text.rstrip()
        if text and crc == b"%08x" % zlib.crc32(text):
            fields = json.loads(text)
            # Of another version, perhaps: what it does not say is not known
            return ProcessReport(**{key: fields[key] for key in _FIELDS & fields.keys()})
    return None


_FIELDS: Final = frozenset(ProcessReport._fields)


def _read(disk: Disk, path: str) -> bytes:
    try:
        fd = disk.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return disk.pread(fd, BLOCK, 0)
    finally:
        disk.close(fd)


def _kilobytes(text: bytes, key: bytes) -> int:
    """The value of a line of /proc, in bytes; 0 when it has no such line."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == key:
            return int(words[1]) * 1024
    return 0
