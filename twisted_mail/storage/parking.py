"""What was committed and cannot be put in its place yet: synced files of their own, tried again until that is done.

When not even such a file can be written, what is owed is held in memory, and every segment of the journal is kept
(`Journal.pin`) until it can.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence

from twisted.logger import Logger

from ..disk import Disk
from . import record, segments
from .aside import no_file, set_aside
from .journal import Entry
from .maildir import read_file
from .record import Kind, Record
from .settling import Owed, Settler, accepted

__all__ = ["Parking"]

_log = Logger()
_DAMAGED = "damaged"


class Parking:
    """The directory ``parked/``. `pin`: whether every segment of the journal is to be kept."""

    def __init__(
        self,
        disk: Disk,
        data: str,
        settler: Settler,
        *,
        boot: str,
        entropy: Callable[[int], bytes],
        pin: Callable[[bool], None],
    ) -> None:
        self._disk = disk
        self._settler = settler
        self._boot = boot
        self._entropy = entropy
        self._pin = pin
        self.directory = os.path.join(data, "parked")
        self._guard = threading.Lock()
        self._retrying = threading.Lock()
        self.unparked: list[Owed] = []
        """Changed, and pinned for, with the guard held: the lane and a pool thread meet here."""

    def park(self, owed: Owed) -> None:
        """On the disk, or else in memory."""
        try:
            self.write(owed)
        except OSError as error:
            _log.error(
                "a place could not be parked, the journal is kept: {error}", error=str(error)
            )
            # Its content is needed until then; a spilled one stays in the journal's keeping.
            with self._guard:
                self.unparked.append(owed)
                self._pin(True)

    def write(self, owed: Owed) -> None:
        """On the disk, synced. Raises OSError."""
        content, meta = owed.content, owed.meta
        if meta.get("spill"):
            path = os.path.join(self._settler.spill, meta["spill"])
            content = [read_file(self._disk, path, meta["size"])]
            meta = {**meta, "spill": None, "crc": zlib.crc32(content[0])}
        name = os.path.join(self.directory, self._entropy(8).hex())
        epoch = int.from_bytes(self._entropy(8), "little")
        head = {"version": 1, "boot": owed.boot}
        fd = self._disk.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            try:
                for buffer in (
                    *record.encode(Kind.SEGMENT, head, epoch=epoch, writer=0, sequence=0),
                    *record.encode(owed.kind, meta, content, epoch=epoch, writer=0, sequence=0),
                ):
                    self._disk.write(fd, buffer)
                self._disk.fsync(fd)
            finally:
                self._disk.close(fd)
            self._disk.rename(f"{name}.new", f"{name}.log")
        except OSError:
            # It is tried again and again, and a disk may be full: nothing half-written stays.
            with contextlib.suppress(OSError):
                self._disk.unlink(f"{name}.new")
            raise
        self._disk.sync_directory(self.directory)

    def park_places(self, entry: Entry, numbers: Sequence[int]) -> None:
        """Those of an entry's places, by number, that could not be filled."""
        if entry.kind is Kind.ACCEPT:
            places = [entry.places[number] for number in numbers]
            meta = accepted(entry.meta, places)
            self.park(Owed(Kind.ACCEPT, meta, entry.content, self._boot))
            return
        wanted = {entry.places[number].base for number in numbers}
        record = Record(Kind.FILE, 0, 0, entry.meta, memoryview(b"".join(entry.content)))
        for piece, places in record.pieces():
            if places[0].base in wanted:
                meta = accepted(piece.meta, places)
                self.park(Owed(Kind.ACCEPT, meta, [bytes(piece.content)], self._boot))

    def retry(self, *, wait: bool = False) -> bool:
        """Try parked places again, and to park what could not be. Blocks; call it in a thread, now and then.

        `wait` for another thread that is at it, else leave it to that one. True when changes of the queue may still
        be owed.
        """
        if not self._retrying.acquire(blocking=wait):
            return True
        changes = False
        try:
            with self._guard:
                unparked, self.unparked = self.unparked, []
            for owed in unparked:
                self.park(owed)
            names = self._names()
            # While something is pinned, no checkpoint drops the record of what is deleted meanwhile.
            with self._guard:
                self._pin(bool(names or self.unparked))
            for name in names:
                changes = self._retry_one(os.path.join(self.directory, name)) or changes
            with self._guard:
                self._pin(bool(self.unparked))
                return changes or any(owed.meta.get("changes") for owed in self.unparked)
        finally:
            self._retrying.release()

    def _retry_one(self, path: str) -> bool:
        """True when changes of the queue may still be owed."""
        try:
            fd = self._disk.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            self._disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._disk.exists(path):
                return False  # another process was faster
            loaded = segments.load_file(self._disk, path)
            if not _says_something(loaded):
                self._set_aside(path)
            elif owed := self._settler.apply([loaded], None):
                return any(one.meta.get("changes") for one in owed)
            else:
                # What was put in its place is on the disk before that which would bring it again is not. `fd` was
                # opened before it was put there, so a write that failed meanwhile is told.
                self._disk.syncfs(fd)
                self._disk.unlink(path)
                self._disk.sync_directory(self.directory)
            return False
        except BlockingIOError:
            return True  # another process is at it
        except IsADirectoryError:
            self._set_aside(path)
            return False
        finally:
            self._disk.close(fd)

    def _set_aside(self, path: str) -> None:
        aside = set_aside(self._disk, path, name=_DAMAGED)
        _log.error(
            "{path}, a place that waited to be filled, is damaged: set aside as {aside}",
            path=path,
            aside=aside,
        )

    def _names(self) -> list[str]:
        return sorted(name for name in self._disk.names(self.directory) if name.endswith(".log"))

    @contextlib.contextmanager
    def replayed(self) -> Iterator[Sequence[segments.Loaded]]:
        """What is parked. Whoever leaves it has settled that, with the journal: then it is parked no more."""
        for name in self._disk.names(self.directory):
            path = os.path.join(self.directory, name)
            if name.endswith((".new", ".log")) and no_file(self._disk, path):
                self._set_aside(path)
            elif name.endswith(".new"):
                self._disk.unlink(path)
        parked = {
            path: segments.load_file(self._disk, path)
            for path in (os.path.join(self.directory, name) for name in self._names())
        }
        synced = self._disk.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield tuple(parked.values())
            settled = [path for path, found in parked.items() if _says_something(found)]
            if settled:
                self._disk.syncfs(synced)
        finally:
            self._disk.close(synced)
        for path in settled:
            self._disk.unlink(path)
        for path in parked.keys() - set(settled):
            self._set_aside(path)
        self._disk.sync_directory(self.directory)


def _says_something(parked: segments.Loaded) -> bool:
    """Whether there is more in it than its head."""
    return any(found.kind is not Kind.SEGMENT for found in parked.records)
