"""The policies of MTA-STS in a small SQLite file: a cache, which may be deleted while the server is down.

Each call opens the file, in a thread: it is asked once at the start, and told of a policy that was fetched. What is
damaged is set aside, and the file begun anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from ..disk import Disk, OsDisk
from ..storage.cache_file import CacheFile
from ..storage.transaction import transaction
from ..world import Threads
from .mta_sts import MAX_POLICIES, Stored

__all__ = ["SqliteStsStore"]

VERSION: Final = 1
"""0 was the same, and said no version."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS policies (
    domain TEXT PRIMARY KEY, id TEXT NOT NULL, body TEXT NOT NULL, fetched REAL NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID
"""


class SqliteStsStore:
    """`mta_sts.StsStore` in the file `path`, at most `limit` policies."""

    def __init__(
        self, threads: Threads, path: Path, limit: int = MAX_POLICIES, *, disk: Disk | None = None
    ) -> None:
        self._threads = threads
        self._path = path
        self._limit = limit
        self._disk = disk or OsDisk()

    def load(self, now: float, limit: int) -> Awaitable[list[Stored]]:
        return self._threads.call(self._load, now, limit)

    def put(self, stored: Stored) -> Awaitable[None]:
        return self._threads.call(self._put, stored)

    def _load(self, now: float, limit: int) -> list[Stored]:
        with self._opened() as database:
            rows = database.execute(
                "SELECT domain, id, body, fetched, expires FROM policies WHERE expires > ?"
                " ORDER BY fetched DESC LIMIT ?",
                (now, limit),
            ).fetchall()
        # The one fetched last stands last, as in memory.
        return [Stored(*row) for row in reversed(rows)]

    def _put(self, stored: Stored) -> None:
        with self._opened() as database, transaction(database):
            database.execute("INSERT OR REPLACE INTO policies VALUES (?, ?, ?, ?, ?)", stored)
            database.execute("DELETE FROM policies WHERE expires <= ?", (stored.fetched,))
            database.execute(
                "DELETE FROM policies WHERE domain IN"
                " (SELECT domain FROM policies ORDER BY fetched DESC LIMIT -1 OFFSET ?)",
                (self._limit,),
            )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        # The tables of version 0 are those of now: they stay.
        file = CacheFile(
            self._disk, str(self._path), version=VERSION, schema=_SCHEMA, tables=(), page=4096
        )
        with closing(file), file.opened() as database:
            yield database
