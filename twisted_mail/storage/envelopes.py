"""Envelopes of queued mail, written down a second time: ``queue/envelopes/N.log``, for when ``queue.sqlite3`` is lost.

Most queued mail is gone long before the journal drops its record, which has the envelope. What is not is written here
before it is dropped: whom it is for, and how far each of them had come by then. A message whose content lies in
``queue/`` and that no row knows comes back by that. Who got it after it was written down gets it twice then; nobody
loses it.

A file is made like a segment of the journal (each record with its checksum), and never changed. It goes when all
its messages are over: by their rows, or when there is neither a row nor content. Rows alone do not say so, as it is
them that may be lost.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from twisted.logger import Logger

from ..disk import Disk, make_directories
from . import record
from .maildir import read_file
from .queued import QueuedMessage
from .segments import load_file, numbers_of
from .spool_rows import Messages

__all__ = ["Envelope", "Envelopes", "Progress"]

_log = Logger()

ROWS: Final = 1000
"""Rows that are looked at before others get the connection."""
TOGETHER: Final = 10_000
"""Envelopes in one file, at most."""
LOOKED: Final = 50
"""One in so many files is looked at each time, to see whether all in it is over."""
VERSION: Final = 1
TAKEN: Final = 200
"""Messages that are read then."""
_SUFFIX: Final = ".log"
_NEW: Final = ".new"


class Progress(NamedTuple):
    """How far a recipient had come: `state` and `due` as the row has them, `tries`."""

    state: int
    due: float | None
    tries: int


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message as it was written down; `progress` has an entry for each recipient."""

    message: QueuedMessage
    progress: tuple[Progress, ...]


class Envelopes:
    """The files in `directory`. `reading` gives the connection of the queue for a moment; `there`: whether the content
    of a message lies in the queue. The methods block."""

    def __init__(
        self,
        disk: Disk,
        directory: str,
        reading: Callable[[], AbstractContextManager[Any]],
        there: Callable[[str], bool],
    ) -> None:
        self._disk = disk
        self._there = there
        self._reading = reading
        self._last: tuple[int, str] = (0, "")
        self._turn = 0
        self.directory = directory

    def keep(self) -> None:
        """Write down what is in the queue and was not yet; it is on the disk when the file system is synced.

        Raises OSError or sqlite3.Error.
        """
        with self._reading() as db:
            some = db.execute("SELECT 1 FROM messages LIMIT 1").fetchone() is not None
        if not some and not self._disk.exists(self.directory):
            return
        with self._alone():
            mark = self._mark()
            self._sweep()
            waiting = self._waiting(mark)
            while found := list(itertools.islice(waiting, TOGETHER)):
                self._write(found)

    def load(self) -> Iterator[Envelope]:
        """All that is written down and whole, the oldest first. Raises OSError when nothing can be read."""
        for number in self.numbers():
            try:
                found = list(self._read(number))
            except (OSError, ValueError) as error:  # not to be read, or a newer version's
                _log.error("{path}: {error}", path=self._path(number), error=str(error))
                continue
            yield from found

    def numbers(self) -> list[int]:
        """Of the files that are there, in order."""
        if not self._disk.exists(self.directory):
            return []
        return numbers_of(self._disk.names(self.directory))

    # -- inside

    def _path(self, number: int) -> str:
        return os.path.join(self.directory, f"{number}{_SUFFIX}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._disk.exists(self.directory):
            make_directories(self._disk, self.directory)
        fd = self._disk.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._disk.flock(fd, fcntl.LOCK_EX)
            for name in self._disk.names(self.directory):
                if name.endswith(_NEW):
                    self._disk.unlink(os.path.join(self.directory, name))
            yield
        finally:
            self._disk.close(fd)

    def _mark(self) -> int:
        """The row of the last one that is written down. What came after it has a higher number: rows get one above
        those that are there."""
        for number in reversed(self.numbers()):
            if self._last[0] == number and (row := self._row(self._last[1])):
                return row
            found = list(self._read(number))
            for one in reversed(found):
                if row := self._row(one.message.id):
                    self._last = (number, one.message.id)
                    return row
            if not any(self._waits(one.message.id) for one in found):
                self._disk.unlink(self._path(number))
        return 0

    def _row(self, message: str) -> int:
        with self._reading() as db:
            found = db.execute("SELECT seq FROM messages WHERE id = ?", (message,)).fetchone()
        return found[0] if found is not None else 0

    def _waiting(self, mark: int) -> Iterator[Envelope]:
        """Those behind `mark` that are not over."""
        messages = Messages()
        with self._reading() as db:
            (last,) = db.execute("SELECT coalesce(max(seq), 0) FROM messages").fetchone()
        while mark < last:
            found: list[Envelope] = []
            with self._reading() as db:
                rows = db.execute(
                    "SELECT seq FROM messages WHERE seq > ? AND seq <= ? AND finished IS NULL"
                    " ORDER BY seq LIMIT ?",
                    (mark, mark + ROWS, TAKEN),
                ).fetchall()
                for (seq,) in rows:
                    progress = db.execute(
                        "SELECT state, due, tries FROM recipients WHERE seq = ? ORDER BY n", (seq,)
                    )
                    found.append(
                        Envelope(messages.get(db, seq), tuple(map(Progress._make, progress)))
                    )
            mark = rows[-1][0] if len(rows) == TAKEN else mark + ROWS
            yield from found

    def _write(self, found: Sequence[Envelope]) -> None:
        number = max(self.numbers(), default=0) + 1
        epoch = zlib.crc32(found[0].message.id.encode()) + 1
        head = {"version": VERSION, "number": number, "epoch": epoch}
        buffers = record.encode(record.Kind.SEGMENT, head, epoch=epoch, writer=0, sequence=number)
        for one in found:
            meta = {"queue": one.message.to_json(), "progress": one.progress}
            buffers += record.encode(record.Kind.ACCEPT, meta, epoch=epoch, writer=0, sequence=0)
        path = self._path(number)
        fd = self._disk.open(path + _NEW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self._disk.write(fd, b"".join(buffers))
        finally:
            self._disk.close(fd)
        self._disk.rename(path + _NEW, path)
        self._last = (number, found[-1].message.id)

    def _read(self, number: int) -> Iterator[Envelope]:
        yield from self._understood(load_file(self._disk, self._path(number), number).records)

    def _begun(self, number: int) -> Iterator[Envelope]:
        """As `_read`, for who may have seen enough after the first one."""
        path = self._path(number)
        data = read_file(self._disk, path, self._disk.stat(path).st_size)
        head = record.first(data)
        return self._understood(() if head is None else record.scan(data, head[0]))

    def _understood(self, records: Iterable[record.Record]) -> Iterator[Envelope]:
        for found in records:
            if found.kind is not record.Kind.ACCEPT:
                continue
            try:
                message = QueuedMessage.from_json(found.meta["queue"])
                progress = tuple(Progress(*one) for one in found.meta["progress"])
            except (LookupError, TypeError, ValueError):
                continue  # of a later version
            yield Envelope(message, progress)

    def _sweep(self) -> None:
        """The oldest file, and some of the others: they go when all in them is over."""
        numbers = self.numbers()
        some = 1 + len(numbers) // LOOKED
        looked = {
            *numbers[:1],
            *(numbers[(self._turn + one) % len(numbers)] for one in range(some) if numbers),
        }
        self._turn += some
        for number in looked:
            if not any(self._waits(one.message.id) for one in self._begun(number)):
                self._disk.unlink(self._path(number))

    def _waits(self, message: str) -> bool:
        with self._reading() as db:
            row = db.execute("SELECT finished FROM messages WHERE id = ?", (message,)).fetchone()
        return self._there(message) if row is None else row[0] is None
