"""The policies of MTA-STS in a small SQLite file: a cache, which may be deleted while the server is down.

Each call opens the file, in a thread: it is asked once at the start, and told of a policy that was fetched.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path
from typing import Final

from ..world import Threads
from .mta_sts import MAX_POLICIES, Stored

__all__ = ["SqliteStsStore"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS policies (
    domain TEXT PRIMARY KEY, id TEXT NOT NULL, body TEXT NOT NULL, fetched REAL NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID
"""


class SqliteStsStore:
    """`mta_sts.StsStore` in the file `path`, at most `limit` policies."""

    def __init__(self, threads: Threads, path: Path, limit: int = MAX_POLICIES) -> None:
        self._threads = threads
        self._path = path
        self._limit = limit

    def load(self, now: float, limit: int) -> Awaitable[list[Stored]]:
        return self._threads.call(self._load, now, limit)

    def put(self, stored: Stored) -> Awaitable[None]:
        return self._threads.call(self._put, stored)

    def _load(self, now: float, limit: int) -> list[Stored]:
        with closing(self._open()) as database:
            rows = database.execute(
                "SELECT domain, id, body, fetched, expires FROM policies WHERE expires > ?"
                " ORDER BY fetched DESC LIMIT ?",
                (now, limit),
            ).fetchall()
        # The one fetched last stands last, as in memory.
        return [Stored(*row) for row in reversed(rows)]

    def _put(self, stored: Stored) -> None:
        with closing(self._open()) as database, database:
            database.execute("INSERT OR REPLACE INTO policies VALUES (?, ?, ?, ?, ?)", stored)
            database.execute("DELETE FROM policies WHERE expires <= ?", (stored.fetched,))
            database.execute(
                "DELETE FROM policies WHERE domain IN"
                " (SELECT domain FROM policies ORDER BY fetched DESC LIMIT -1 OFFSET ?)",
                (self._limit,),
            )

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=5)
        try:
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(_SCHEMA)
        except BaseException:
            database.close()
            raise
        return database
