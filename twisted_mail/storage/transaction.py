"""A transaction of SQLite that takes its write lock at once: nobody can come in between what is read and written; and
the write-ahead log, begun by several processes at once."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ..disk import Disk

__all__ = ["transaction", "use_wal"]


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Committed at the end, and taken back when something is raised."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def use_wal(db: sqlite3.Connection, disk: Disk, path: str) -> None:
    """Have the file `path` kept with a write-ahead log. Blocks. Raises sqlite3.OperationalError or OSError.

    Nobody waits for another who does that with a new file: SQLite says at once that it is locked, or lets both wait for
    each other until the timeout. So they take turns, by a lock on the directory.
    """
    if db.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        return
    turn = disk.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        disk.flock(turn, fcntl.LOCK_EX)
        db.execute("PRAGMA journal_mode=WAL")
    finally:
        disk.close(turn)
