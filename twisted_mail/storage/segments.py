"""Journal segments on the disk: ``journal/<number>.log``.

The segment with the lowest number that is not sealed is the one that is appended to. A sealed one has lost its write
permission (mode 0400), which every process sees with one `fstat` of the descriptor it holds. The next segment is
made and synced, name and all, before the one in use is sealed; so there is always one to go on with.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..disk import Disk
from . import record

__all__ = [
    "SEGMENT_SIZE",
    "Loaded",
    "Segment",
    "Segments",
    "condition",
    "is_sealed",
    "load_file",
    "numbers_of",
    "seal",
]

_NAME = re.compile(r"([1-9][0-9]{0,17})\.log")
SEGMENT_SIZE = 64 * 1024 * 1024
"""A checkpoint is due when a segment has grown to this. It bounds what a start has to replay."""
VERSION = 1
SECTOR = 4096
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
    """A segment read back. `boot` is the boot id under which it was written; None when its head is unreadable.

    `filled`: up to which of their records writers have filled, if that is the boot of now (`storage.writers`).
    """

    number: int
    boot: str | None
    records: list[record.Record]
    filled: Mapping[int, int] = field(default_factory=dict)
    damaged: int = 0
    """Octets that are no whole record any more, but for a last one that was not written to its end."""
    own: int | None = None
    """The number that its head says; None when that is unreadable."""


class Segments:
    """The segments in `directory`, and how the next one is made: for this `boot`, with `size` bytes reserved."""

    def __init__(
        self, disk: Disk, directory: str, *, boot: str, size: int, entropy: Callable[[int], bytes]
    ) -> None:
        self._disk = disk
        self._boot = boot
        self._size = size
        self._entropy = entropy
        self.directory = directory

    def path(self, number: int) -> str:
        return os.path.join(self.directory, f"{number}.log")

    def numbers(self) -> list[int]:
        """The numbers of the segments that are there, in order."""
        return numbers_of(self._disk.names(self.directory))

    def sealed(self) -> list[int]:
        """The numbers of those that nobody appends to any more, in order."""
        return [
            number
            for number in self.numbers()
            if not self._disk.stat(self.path(number)).st_mode & stat.S_IWUSR
        ]

    def make_after(self, number: int) -> None:
        """Make the segment after `number`, unless it is there; it is on the disk, with its name, afterwards.

        Whoever is first makes it: a link, unlike a rename, never puts one in the place of another that is in
        use. Raises OSError.
        """
        disk, target = self._disk, self.path(number + 1)
        if disk.exists(target):
            return
        epoch = int.from_bytes(self._entropy(8), "little")
        scratch = os.path.join(self.directory, "scratch", f"{number + 1}.{epoch:016x}")
        fd = disk.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            self._begin(fd, number + 1, epoch)
            with contextlib.suppress(FileExistsError):
                disk.link(scratch, target)
        finally:
            disk.close(fd)
            disk.unlink(scratch)
        disk.sync_directory(self.directory)

    def _begin(self, fd: int, number: int, epoch: int) -> None:
        space = self._disk.statvfs(self.directory)
        try:
            # On a small disk a quarter of what is free is enough to go on with.
            self._disk.reserve(fd, min(self._size, space.f_bavail * space.f_frsize // 4))
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise
        head = {"version": VERSION, "number": number, "boot": self._boot, "epoch": epoch}
        encoded = record.encode(record.Kind.SEGMENT, head, epoch=epoch, writer=0, sequence=number)
        self._disk.write(fd, b"".join(encoded))
        self._disk.fdatasync(fd)

    def open_current(self) -> Segment | None:
        """The segment to append to, or None when all are sealed (or there is none)."""
        for number in self.numbers():
            try:
                fd = self._disk.open(self.path(number), os.O_RDWR | os.O_APPEND)
            except (FileNotFoundError, PermissionError):
                continue
            head = (
                None if is_sealed(self._disk, fd) else record.first(self._disk.pread(fd, 4096, 0))
            )
            if head is not None:
                return Segment(number, fd, head[0], head[2])
            self._disk.close(fd)
        return None

    def load(self, number: int) -> Loaded:
        """All whole records of a segment. Raises OSError when it cannot be read."""
        return load_file(self._disk, self.path(number), number)


def numbers_of(names: Iterable[str]) -> list[int]:
    """Of the names ``<number>.log`` among `names`, in order. Anything else is not ours."""
    return sorted(int(found[1]) for found in map(_NAME.fullmatch, names) if found)


def is_sealed(disk: Disk, fd: int) -> bool:
    return condition(disk, fd)[0]


def condition(disk: Disk, fd: int) -> tuple[bool, bool]:
    """Whether it is sealed, and whether it still has its name: a sealed one may have been dropped."""
    found = disk.fstat(fd)
    return not found.st_mode & stat.S_IWUSR, found.st_nlink > 0


def seal(disk: Disk, fd: int) -> None:
    """Nobody begins to append to it after this."""
    disk.fchmod(fd, 0o400)


def load_file(disk: Disk, path: str, number: int = 0) -> Loaded:
    """All whole records of a file that is made like a segment."""
    fd = disk.open(path, os.O_RDONLY)
    try:
        data = b"".join(_blocks(disk, fd))
    finally:
        disk.close(fd)
    head = record.first(data)
    _refuse_newer(head, path)
    epoch = record.epoch_of(data) if head is None else head[0]
    if epoch is None:
        return Loaded(number, None, [], damaged=len(data))
    hidden: list[tuple[int, int]] = []
    records = list(record.scan(data, epoch, hidden))
    if hidden and hidden[-1][1] == len(data) and record.is_torn(data, hidden[-1][0], epoch):
        hidden.pop()
    damaged = sum(end - start for start, end in hidden)
    boot = None if head is None else head[1].meta.get("boot")
    own = None if head is None else head[1].meta.get("number")
    return Loaded(number, boot, records, damaged=damaged, own=own)


def _refuse_newer(head: tuple[int, record.Record, int] | None, path: str) -> None:
    """Records that are not understood would be passed over, and dropped. Raises ValueError."""
    version = head[1].meta.get("version", VERSION) if head is not None else VERSION
    if version > VERSION:
        raise ValueError(
            f"{path}: stored by version {version} of the format, this program knows {VERSION};"
            " use the newer program, which leaves no journal when it is stopped"
        )


def _blocks(disk: Disk, fd: int) -> Sequence[bytes]:
    try:
        blocks: list[bytes] = []
        at = 0
        # In one piece as a rule: a segment need not be in memory twice.
        size = max(disk.fstat(fd).st_size, 1)
        while block := disk.pread(fd, size, at):
            blocks.append(block)
            at += len(block)
        return blocks
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return _sectors(disk, fd, error)


def _sectors(disk: Disk, fd: int, error: OSError) -> Sequence[bytes]:
    """As `_blocks`, with zeros for what cannot be read; raises `error` when that is most of it: then it is the device
    that does not answer, and all may be there tomorrow."""
    size = disk.fstat(fd).st_size
    blocks: list[bytes] = []
    bad = 0
    for at in range(0, size, SECTOR):
        try:
            blocks.append(disk.pread(fd, SECTOR, at))
        except OSError:
            bad += 1
            blocks.append(bytes(min(SECTOR, size - at)))
    if 2 * bad > len(blocks):
        raise error
    return blocks
