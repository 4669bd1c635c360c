"""What a benchmark reads from the machine: CPU and memory of a tree of processes, and how quiet the
machine is.

Linux only: everything comes from /proc. A tree is the processes given by id and all their
descendants. CPU of children that have ended counts as soon as their parent has waited for them, so
a server that forks a process a connection (Postfix, Dovecot) is charged for all of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

__all__ = [
    "Quiet",
    "cpu_seconds",
    "file_system",
    "fresh",
    "machine_busy",
    "making",
    "memory",
    "memory_each",
    "pause",
    "percentile",
    "spread",
    "tree",
]

_TICKS = os.sysconf("SC_CLK_TCK")
# ioctl_iflags(2)
_GET_FLAGS = 0x80086601
_SET_FLAGS = 0x40086602
_TOP_DIRECTORY = 0x00020000
_SPIN = 1_000_000
_SYNCS = 15
_MADE = 20
_TRIED = 12

# a benchmark lives in real time: it has no World
pause = time.sleep  # noqa: TID251


def percentile(values: Sequence[float], part: float) -> float:
    """The nearest-rank percentile; `part` is 0 to 1. 0.0 when there are no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def tree(roots: Iterable[int]) -> set[int]:
    """The ids of `roots` that live, and of all their descendants."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))) is not None:
            parents[int(name)] = int(fields[1])
    found = {pid for pid in roots if pid in parents}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time of the tree, with that of children already waited for."""
    ticks = 0
    for pid in tree(roots):
        if (fields := _stat(pid)) is not None:
            # proc(5): utime, stime, cutime, cstime
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / _TICKS


def memory(roots: Iterable[int]) -> float:
    """Resident bytes of the tree in MB; a page shared by several processes is shared out among them
    (PSS).
    """
    return sum(memory_each(roots))


def memory_each(roots: Iterable[int]) -> list[float]:
    """The same, of each process."""
    found = []
    for pid in tree(roots):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        kb = next((int(x.split()[1]) for x in text.splitlines() if x.startswith("Pss:")), 0)
        found.append(kb / 1024)
    return found


def machine_busy() -> float:
    """Seconds that all processors together have been busy since the machine started."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _wait, irq, soft_irq, steal = map(
            int, file.readline().split()[1:9]
        )
    return (user + nice + system + irq + soft_irq + steal) / _TICKS


def file_system(path: Path) -> str:
    """Type, device and options of the file system that holds `path`."""
    best: tuple[int, str] = (-1, "unknown")
    real = str(path.resolve())
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        point, options = left.split()[4:6]
        kind, device = right.split()[:2]
        if real == point or real.startswith(point.rstrip("/") + "/"):
            best = max(best, (len(point), f"{kind} on {device} ({options})"))
    return best[1]


def spread(directory: Path) -> None:
    """Have ext4 put each folder made in `directory` into a block group of its own (chattr +T).

    ext4 looks at every inode of the group whose file was removed before, and passes over most of
    them. In a group where thousands of files have been, making a file costs ten times what it
    should, whoever makes it. So each peer and round gets a group of its own (`fresh`), and nothing
    is removed while there is something to measure. Other file systems do not know the flag and go
    without.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            flags = struct.unpack("l", fcntl.ioctl(fd, _GET_FLAGS, bytes(8)))[0]
            fcntl.ioctl(fd, _SET_FLAGS, struct.pack("l", flags | _TOP_DIRECTORY))
    finally:
        os.close(fd)


def fresh(directory: Path, name: str) -> Path:
    """A new folder `name` in `directory` (see `spread`): of some that are tried, one where making files costs least."""
    tried = []
    for number in range(_TRIED):
        path = directory / f"{name}.{number}"
        path.mkdir()
        tried.append((making(path), path))
    best = min(tried)[1]
    for _, path in tried:
        if path != best:
            path.rmdir()
    return best.rename(directory / name)


def making(directory: Path) -> float:
    """Seconds that making a file takes there; 0.0 where files cannot be nameless."""
    times = []
    for _ in range(_MADE):
        began = time.perf_counter()
        try:
            os.close(os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600))
        except OSError:
            return 0.0
        times.append(time.perf_counter() - began)
    return median(times)


@dataclass(frozen=True)
class Quiet:
    """How quiet the machine is at one moment: wall time of a fixed loop, of a small synced append,
    and of making a file.
    """

    spin: float
    sync: float
    make: float

    @classmethod
    def look(cls, directory: Path) -> Quiet:
        """Takes some 50 ms on a quiet machine; the synced file in `directory` is removed."""
        began = time.perf_counter()
        for _ in range(_SPIN):
            pass
        spin = time.perf_counter() - began
        path = directory / "sync-probe"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        block = bytes(4096)
        times = []
        try:
            for _ in range(_SYNCS):
                began = time.perf_counter()
                os.write(fd, block)
                os.fdatasync(fd)
                times.append(time.perf_counter() - began)
        finally:
            os.close(fd)
            path.unlink()
        return cls(spin, median(times), making(directory))


def _stat(pid: int) -> list[bytes] | None:
    """The fields of /proc/<pid>/stat after the command name, which may hold any character."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].split()
    except OSError:
        return None
