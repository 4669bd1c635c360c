"""Journal segments on the disk: ``journal/<number>.log``.

The segment with the lowest number that is not sealed is the one that is appended to. A sealed one has lost its write
permission (mode 0400), which every process sees with one `fstat` of the descriptor it holds. The next segment is
made and synced, name and all, before the one in use is sealed; so there is always one to go on with.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from ..disk import Disk
from . import record

__all__ = [
    "SEGMENT_SIZE",
    "Segment",
    "create",
    "is_sealed",
    "load",
    "load_file",
    "numbers",
    "open_current",
    "path_of",
    "seal",
    "sealed",
]

SEGMENT_SIZE = 64 * 1024 * 1024
"""A checkpoint is due when a segment has grown to this. It bounds what a start has to replay."""
VERSION = 1
_CANNOT_RESERVE = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


@dataclass(slots=True)
class Segment:
    """A segment open for appending. What it holds beside its own first record begins at `start`."""

    number: int
    fd: int
    epoch: int
    start: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """A segment read back. `boot` is the boot id under which it was written; None when its head is unreadable."""

    number: int
    boot: str | None
    records: list[record.Record]


def path_of(directory: str, number: int) -> str:
    return os.path.join(directory, f"{number}.log")


def numbers(disk: Disk, directory: str) -> list[int]:
    """The numbers of the segments that are there, in order."""
    return sorted(
        int(name[:-4])
        for name in disk.names(directory)
        if name.endswith(".log") and name[:-4].isdigit()
    )


def sealed(disk: Disk, directory: str) -> list[int]:
    """The numbers of those that nobody appends to any more, in order."""
    return [
        number
        for number in numbers(disk, directory)
        if not disk.stat(path_of(directory, number)).st_mode & stat.S_IWUSR
    ]


def create(disk: Disk, directory: str, number: int, *, boot: str, epoch: int, size: int) -> None:
    """Make an empty segment; it is on the disk, with its name, when this returns. Raises OSError.

    Whoever is first makes it: a link, unlike a rename, never puts one in the place of another that is in use.
    """
    scratch = os.path.join(directory, "scratch", f"{number}.{epoch:016x}")
    fd = disk.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        _begin(disk, fd, directory, number, boot=boot, epoch=epoch, size=size)
        with contextlib.suppress(FileExistsError):
            disk.link(scratch, path_of(directory, number))
    finally:
        disk.close(fd)
        disk.unlink(scratch)
    disk.sync_directory(directory)


def _begin(
    disk: Disk, fd: int, directory: str, number: int, *, boot: str, epoch: int, size: int
) -> None:
    space = disk.statvfs(directory)
    try:
        # On a small disk a quarter of what is free is enough to go on with.
        disk.reserve(fd, min(size, space.f_bavail * space.f_frsize // 4))
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise
    head = {"version": VERSION, "number": number, "boot": boot, "epoch": epoch}
    encoded = record.encode(record.Kind.SEGMENT, head, epoch=epoch, writer=0, sequence=number)
    disk.write(fd, b"".join(encoded))
    disk.fdatasync(fd)


def open_current(disk: Disk, directory: str) -> Segment | None:
    """The segment to append to, or None when all are sealed (or there is none)."""
    for number in numbers(disk, directory):
        try:
            fd = disk.open(path_of(directory, number), os.O_RDWR | os.O_APPEND)
        except (FileNotFoundError, PermissionError):
            continue
        head = None if is_sealed(disk, fd) else record.first(disk.pread(fd, 4096, 0))
        if head is not None:
            return Segment(number, fd, head[0], head[2])
        disk.close(fd)
    return None


def is_sealed(disk: Disk, fd: int) -> bool:
    return not disk.fstat(fd).st_mode & stat.S_IWUSR


def seal(disk: Disk, fd: int) -> None:
    """Nobody begins to append to it after this."""
    disk.fchmod(fd, 0o400)


def load(disk: Disk, directory: str, number: int) -> Loaded:
    """All whole records of a segment. Raises OSError when it cannot be read."""
    return load_file(disk, path_of(directory, number), number)


def load_file(disk: Disk, path: str, number: int = 0) -> Loaded:
    """The same of any file that is made like a segment."""
    fd = disk.open(path, os.O_RDONLY)
    try:
        data = b"".join(_blocks(disk, fd))
    finally:
        disk.close(fd)
    head = record.first(data)
    if head is not None:
        epoch, own, _ = head
        return Loaded(number, own.meta.get("boot"), list(record.scan(data, epoch)))
    found = record.epoch_of(data)
    return Loaded(number, None, [] if found is None else list(record.scan(data, found)))


def _blocks(disk: Disk, fd: int) -> Sequence[bytes]:
    blocks: list[bytes] = []
    at = 0
    # In one piece as a rule: a segment need not be in memory twice.
    size = max(disk.fstat(fd).st_size, 1)
    while block := disk.pread(fd, size, at):
        blocks.append(block)
        at += len(block)
    return blocks
