"""Damaged files: moved out of the way under the time at which that was seen, so that somebody may look at them.

``index.sqlite3`` becomes ``index.sqlite3.broken-20261121T221500Z``, with what SQLite keeps beside it. Of each file the
last `KEPT` stay, so that a disk that damages something every minute does not fill up with it.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from ..disk import Disk

__all__ = ["KEPT", "is_corrupt", "is_damage", "no_file", "remains", "set_aside"]

KEPT: Final = 3
_MARK: Final = ".broken-"
_BESIDE: Final = ("-wal", "-shm")
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def is_damage(error: sqlite3.Error) -> bool:
    """Whether a cache is to be made anew: not for a full disk or a lock, but for what it should not hold."""
    # The plain SQLITE_ERROR is "no such table" and the like: another's schema, or what a repair left.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return not isinstance(error, sqlite3.OperationalError) or code == sqlite3.SQLITE_ERROR


def is_corrupt(error: BaseException) -> bool:
    """Whether SQLite says that the file is not what it has written; our statements cannot be to blame for that."""
    return (
        isinstance(error, sqlite3.Error)
        and getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT
    )


def no_file(disk: Disk, path: str) -> bool:
    """Whether something else lies there than a file: a directory, say, which SQLite cannot open."""
    return disk.exists(path) and not stat.S_ISREG(disk.stat(path).st_mode)


def set_aside(disk: Disk, path: str, inode: int = 0, *, name: str = "") -> str | None:
    """Move what lies at `path` out of the way, whatever it is, and what SQLite has left beside it. Gives its new path;
    None: nothing is there, or, with `inode`, another process has put a new one in its place already. `name`: what it is
    called then, for files that have many names. Raises OSError."""
    there = disk.exists(path)
    beside = [suffix for suffix in _BESIDE if disk.exists(path + suffix)]
    if not (there or beside) or (there and inode and disk.stat(path).st_ino != inode):
        return None
    when = datetime.fromtimestamp(disk.clock_ns() // 1_000_000_000, UTC)
    known = os.path.join(os.path.dirname(path), name) if name else path
    aside = stem = f"{known}{_MARK}{when:%Y%m%dT%H%M%SZ}"
    if same := [one for one in remains(disk, known) if one.startswith(stem)]:
        aside = f"{stem}.{int(same[-1][len(stem) + 1 :] or 1) + 1}"
    # First what could be played into the file that is made in its place
    for suffix in beside:
        disk.rename(path + suffix, aside + suffix)
    if there:
        disk.rename(path, aside)
    _forget(disk, known)
    return aside if there else None


def remains(disk: Disk, path: str) -> Iterator[str]:
    """What was set aside of `path`, the oldest first."""
    name = os.path.basename(path) + _MARK
    directory = os.path.dirname(path) or "."
    found = {
        one.removesuffix("-wal").removesuffix("-shm")
        for one in disk.names(directory)
        if one.startswith(name)
    }
    # "Z.10" is later than "Z.9"
    for one in sorted(found, key=lambda one: (one[: len(name) + 16], len(one), one)):
        yield os.path.join(directory, one)


def _forget(disk: Disk, path: str) -> None:
    for old in list(remains(disk, path))[:-KEPT]:
        if no_file(disk, old):
            continue  # a directory may hold anything
        for suffix in ("", *_BESIDE):
            if disk.exists(old + suffix):
                disk.unlink(old + suffix)
