"""The journal into a backup, and out of one.

It is copied last, and while everything else is copied nothing of it is dropped: `Pinned` holds the lock by which a
process says that it has something left to fill. So what the copy says happened to mail and queue is in the journal
beside it, and what is in that journal and not in the copy is done when the copy is started: a replay brings both to the
end of the backup, as after a power cut.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

from ..disk import Disk
from ..storage import maildir, record, segments
from ..storage.record import Kind
from .copying import Copier
from .names import DATA

__all__ = ["Pinned", "copy_journal", "rewrite"]

ELSEWHERE: Final = "restored"
"""In the place of a boot id: what such a segment says is checked, file by file."""
_QUEUE = ("queue", "changes")


class Pinned:
    """While this is open no checkpoint drops a segment; `kept` tells whether nothing was dropped otherwise: by a clean
    stop, or by a start that recovered. Blocks."""

    def __init__(self, disk: Disk, data: str) -> None:
        self._disk = disk
        self._directory = os.path.join(data, "journal")
        self._fd = -1
        if disk.exists(self._directory):
            path = os.path.join(self._directory, "pins")
            self._fd = disk.open(path, os.O_RDWR | os.O_CREAT)
            disk.flock(self._fd, fcntl.LOCK_SH)
        self._before = self._segments()
        self._mark = self._changed()

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._disk.close(fd)

    def kept(self) -> bool:
        """Asked when all is copied."""
        if not self._before:
            # Nobody was up, or nobody ever: did anybody come?
            return self._changed() == self._mark
        now = self._segments()
        return all(now.get(number) == head for number, head in self._before.items())

    def _segments(self) -> dict[int, bytes]:
        """How each begins: its epoch is random, while numbers and inodes are used again."""
        found: dict[int, bytes] = {}
        for number in numbers(self._disk, self._directory):
            try:
                path = os.path.join(self._directory, f"{number}.log")
                found[number] = maildir.read_file(self._disk, path, record.HEADER_SIZE)
            except FileNotFoundError:
                continue
        return found

    def _changed(self) -> int:
        exists = self._disk.exists(self._directory)
        return self._disk.stat(self._directory).st_mtime_ns if exists else 0


def numbers(disk: Disk, directory: str) -> list[int]:
    """Of the segments in a directory that may not be there."""
    if not disk.exists(directory):
        return []
    return segments.numbers_of(disk.names(directory))


def copy_journal(disk: Disk, copier: Copier, data: str, target: str) -> set[str]:
    """All segments, and the spill files that their records name. `target`: where the backup is. Gives the accounts that
    they put something into.

    The last segment is copied first. Only one is written at a time, and never one before another that has records: so
    what is copied of each is all that was in it when the later one was copied.
    """
    directory = os.path.join(data, "journal")
    place = f"{DATA}/journal"
    found = numbers(disk, directory)
    copied = copier.manifest.under(f"{place}/")
    wanted: set[str] = set()
    for number in reversed(found):
        wanted.add(f"{place}/{number}.log")
        copier.segment(os.path.join(directory, f"{number}.log"), f"{place}/{number}.log")
    into: set[str] = set()
    for number in found:
        path = os.path.join(target, place, f"{number}.log")
        for one in segments.load_file(disk, path, number).records:
            into |= set(_folders(one))
            for name in one.spills():
                to = f"{place}/spill/{name}"
                wanted.add(to)
                if to in copied or copier.manifest.get(to) is not None:
                    continue
                try:
                    copier.copy(os.path.join(directory, "spill", name), to)
                except FileNotFoundError:
                    continue  # of a record that is void
    for path in copied:
        if path not in wanted:
            copier.remove(path)
    return into


def _folders(one: record.Record) -> Iterator[str]:
    """The accounts in which it puts something into a folder."""
    if one.kind in (Kind.ACCEPT, Kind.FILE):
        yield from (place.account for _, places in one.pieces() for place in places)
    elif one.kind is Kind.MOVE:
        yield one.meta["account"]


def rewrite(
    disk: Disk, path: str, target: str, *, queue: bool, entropy: Callable[[int], bytes]
) -> None:
    """Write the file `path`, made like a segment, once more as `target`: as of another boot, and unless `queue` without
    what it says of that. The caller syncs it. Raises OSError, ValueError."""
    number = segments.numbers_of([os.path.basename(target)])
    loaded = segments.load_file(disk, path, number[0] if number else 0)
    epoch = int.from_bytes(entropy(8), "little")
    head = {
        "version": segments.VERSION,
        "number": loaded.number,
        "boot": ELSEWHERE,
        "epoch": epoch,
    }
    fd = disk.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:

        def put(kind: Kind, meta: dict[str, Any], content: bytes, writer: int, at: int) -> None:
            encoded = record.encode(
                kind, meta, [content] if content else (), epoch=epoch, writer=writer, sequence=at
            )
            for buffer in encoded:
                disk.write(fd, buffer)

        put(Kind.SEGMENT, head, b"", 0, loaded.number)
        for one in loaded.records:
            if one.kind is Kind.SEGMENT:
                continue
            meta = one.meta
            if not queue:
                if one.kind is Kind.CHANGE:
                    continue
                meta = {name: value for name, value in meta.items() if name not in _QUEUE}
            put(one.kind, meta, bytes(one.content), one.writer, one.sequence)
    finally:
        disk.close(fd)
