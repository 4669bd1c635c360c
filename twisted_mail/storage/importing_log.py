"""What of an import has been done already: ``import-<source>.log`` in the account's directory, until it is finished.

A line of JSON says what a batch will hold before it is committed. So a batch that another one follows is done, and of
the last one it can be found out: the mailbox holds its messages, or not, as a batch is all or none.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from ..disk import Disk, make_directories
from .files import file_blocks

__all__ = ["Batch", "ImportLog"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one mailbox. `uidnext` and `validity`: the mailbox's before it got them. `items`: (key, digest)."""

    mailbox: str
    validity: int
    uidnext: int
    items: list[tuple[str, str]] = field(default_factory=list)


class ImportLog:
    """The log of importing `source` (a path, or what names it) into the account in the directory `home`. Blocks."""

    def __init__(self, disk: Disk, home: str, source: str) -> None:
        self._disk = disk
        self._home = home
        self._source = source
        name = hashlib.sha256(os.fsencode(source)).hexdigest()[:16]
        self.path = os.path.join(home, f"import-{name}.log")
        self._fd = -1
        self._size = 0

    def open(self, mark: dict[str, Any]) -> tuple[dict[str, Any] | None, list[Batch]]:
        """The mark that was given when this import began, None when it does now; and its batches.

        Raises ValueError when somebody else is at it.
        """
        make_directories(self._disk, self._home)
        self._fd = self._disk.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            self._disk.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise ValueError(f"{self._source} is being imported by another process") from None
        lines = self._lines()
        if not lines:
            self._write({"source": self._source, **mark})
            self._disk.sync_directory(self._home)
            return None, []
        batches = [
            Batch(
                one["mailbox"], one["validity"], one["uidnext"], [(k, d) for k, d in one["items"]]
            )
            for one in lines[1:]
        ]
        return lines[0], batches

    def _lines(self) -> list[dict[str, Any]]:
        """Whole lines; a torn one at the end is cut off: what it announced was never begun."""
        data = b"".join(file_blocks(self._disk, self._fd))
        found: list[dict[str, Any]] = []
        for line in data.splitlines(keepends=True):
            try:
                value = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                value = None
            if value is None:
                break
            found.append(value)
            self._size += len(line)
        if self._size != len(data):
            self._disk.truncate(self.path, self._size)
        return found

    def add(self, batch: Batch) -> None:
        """This is done next. On the disk when it returns."""
        self._write(asdict(batch))

    def drop_last(self, batch: Batch) -> None:
        """The last batch never happened: what is written next takes its place."""
        size = len(_line(asdict(batch)))
        self._size -= size
        self._disk.truncate(self.path, self._size)

    def _write(self, value: dict[str, Any]) -> None:
        line = _line(value)
        self._disk.write(self._fd, line)
        self._disk.fdatasync(self._fd)
        self._size += len(line)

    def close(self) -> None:
        """Let go of it; it stays."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._disk.close(fd)

    def finished(self) -> None:
        """It is not needed any more."""
        if self._fd >= 0:
            self._disk.unlink(self.path)
            self._disk.sync_directory(self._home)
            self.close()


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
