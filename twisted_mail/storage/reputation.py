"""What policies remember over a restart: ``reputation.sqlite3``, a cache of rows that mean something to them only.

A row is a kind, a key, until when it means something (seconds since 1970) and a value; 0 for the time deletes it. The
policies answer from their memory; `WriteBehind` takes from them every few seconds what has changed, writes it in a pool
thread, and gives it back after a restart. What a crash loses is what was not written yet. The file may be deleted while
the server is down; a damaged one is set aside, and one of another version is made anew.

Bounded: `LIMIT` rows a kind, those that are over soonest go first; a batch of `MOST` rows from each source.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from typing import Any, Final, Protocol
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..disk import Disk
from ..world import World
from .cache_file import CacheFile

__all__ = ["Reputation", "Row", "Source", "WriteBehind", "remembered"]

_log = Logger()

VERSION: Final = 1
FORGIVEN: Final = "forgiven"
"""The kind of a wish that the server has not fulfilled yet: the key is an account."""
KEPT: Final = 30 * 86_400.0
LIMIT: Final = 100_000
MOST: Final = 1000
PURGE: Final = 3600.0
_SCHEMA: Final = """
CREATE TABLE reputation (
    kind TEXT NOT NULL, key BLOB NOT NULL, until REAL NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX reputation_until ON reputation (kind, until)
"""

Row = tuple[str, bytes, float, bytes]


class Source(Protocol):
    """Who has something to remember."""

    def take(self, most: int) -> list[Row]:
        """What changed since it was last taken, at most `most` rows."""

    def load(self, rows: Iterable[Row]) -> None:
        """What was kept, those that are over soonest first; rows of others are passed over. Must not raise."""


class Reputation:
    """The file. The methods block and may be called in any thread; they raise sqlite3.Error or OSError, logged."""

    def __init__(self, disk: Disk, path: str, *, limit: int = LIMIT) -> None:
        self._limit = limit
        self._file = CacheFile(
            disk, path, version=VERSION, schema=_SCHEMA, tables=("reputation",), page=4096
        )

    def load(self, now: float) -> list[Row]:
        """What is not over, those that are over soonest first."""
        rows: list[Row] = []
        with self._file.opened() as db:
            for kind in self._kinds(db):
                found = db.execute(
                    "SELECT kind, key, until, value FROM reputation WHERE kind = ? AND until > ?"
                    " ORDER BY until DESC LIMIT ?",
                    (kind, now, self._limit),
                ).fetchall()
                rows += reversed(found)
        return rows

    def put(self, rows: Sequence[Row]) -> None:
        """Write rows, the last of the same kind and key counts; delete those that are over since ever."""
        latest = {(row[0], row[1]): row for row in rows}
        with self._file.changing() as db:
            db.executemany(
                "DELETE FROM reputation WHERE kind = ? AND key = ?",
                [key for key, row in latest.items() if row[2] <= 0],
            )
            db.executemany(
                "INSERT OR REPLACE INTO reputation VALUES (?, ?, ?, ?)",
                [row for row in latest.values() if row[2] > 0],
            )

    def purge(self, now: float) -> None:
        """Delete what is over, and what is too much."""
        with self._file.changing() as db:
            for kind in self._kinds(db):
                db.execute("DELETE FROM reputation WHERE kind = ? AND until <= ?", (kind, now))
                db.execute(
                    "DELETE FROM reputation WHERE kind = ? AND key IN (SELECT key FROM reputation"
                    " WHERE kind = ? ORDER BY until DESC LIMIT -1 OFFSET ?)",
                    (kind, kind, self._limit),
                )

    def forgive(self, account: str, now: float) -> None:
        """Have the server that runs, or the next one, begin anew with an account."""
        self.put([(FORGIVEN, account.encode(), now + KEPT, b"")])

    def take_forgiven(self) -> list[str]:
        """The accounts that `forgive` has named since this was last asked."""
        with self._file.opened() as db:
            wished = db.execute("SELECT key FROM reputation WHERE kind = ?", (FORGIVEN,)).fetchall()
        if wished:
            with self._file.changing() as db:
                db.execute("DELETE FROM reputation WHERE kind = ?", (FORGIVEN,))
        return [bytes(key).decode("utf-8", "replace") for (key,) in wished]

    def close(self) -> None:
        """Let go of the file for good."""
        self._file.close()

    @staticmethod
    def _kinds(db: sqlite3.Connection) -> list[str]:
        return [str(kind) for (kind,) in db.execute("SELECT DISTINCT kind FROM reputation")]


def remembered(path: str, now: float) -> list[Row]:
    """What `Reputation.load` gives, for who only looks, beside a server or without one: nothing is made or changed.

    Blocks. Nothing when there is no such file, or it is of another version. Raises sqlite3.Error.
    """
    if not os.path.exists(path):
        return []
    address = f"file:{quote(path)}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=5)) as db:
        if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            return []
        return db.execute(
            "SELECT kind, key, until, value FROM reputation WHERE until > ? ORDER BY until", (now,)
        ).fetchall()


class WriteBehind:
    """Keeps what `sources` remember in `file`, written every `seconds` at the latest.

    `start`, before anything else asks the sources; then `stop`, which writes what is left. What cannot be written is
    told in the log and forgotten: mail never waits for it. `forgive` is called for each account that somebody wants to
    be forgiven (`Reputation.forgive`), as soon as that is seen.
    """

    def __init__(
        self,
        world: World,
        file: Reputation,
        sources: Sequence[Source],
        *,
        seconds: float = 15.0,
        forgive: Callable[[str], object] | None = None,
    ) -> None:
        self._forgive = forgive
        self._world = world
        self._file = file
        self._sources = sources
        self._seconds = seconds
        self._timer: Any = None
        self._writing: Deferred[None] | None = None
        self._purged = 0.0
        self._over = False

    async def start(self) -> None:
        """Give the sources what was kept, in a pool thread. Never raises: without the file they begin with nothing."""
        with suppress(sqlite3.Error, OSError):
            await self._world.threads.call(self._load, self._world.now())
        self._purged = self._world.now()
        self._later()

    async def stop(self) -> None:
        """Write what is left and close the file."""
        self._over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._writing is not None:
            await self._writing
        await self._write()
        await self._world.threads.call(self._file.close)

    def _load(self, now: float) -> None:
        rows = self._file.load(now)
        for source in self._sources:
            source.load(rows)

    def _later(self) -> None:
        if not self._over:
            self._timer = self._world.reactor.callLater(self._seconds, self._due)

    def _due(self) -> None:
        self._writing = Deferred.fromCoroutine(self._write()).addErrback(_unexpected)
        self._writing.addCallback(self._done)

    def _done(self, _: object) -> None:
        self._writing = None
        self._later()

    async def _write(self) -> None:
        try:
            if self._forgive is not None:
                for account in await self._world.threads.call(self._file.take_forgiven):
                    self._forgive(account)
            while rows := [row for source in self._sources for row in source.take(MOST)]:
                await self._world.threads.call(self._file.put, rows)
            now = self._world.now()
            # A clock that was set back must not keep it from being done
            if abs(now - self._purged) >= PURGE:
                self._purged = now
                await self._world.threads.call(self._file.purge, now)
        except (sqlite3.Error, OSError):
            pass  # CacheFile has told it


def _unexpected(failure: Failure) -> None:
    _log.failure("what policies remember cannot be written", failure)
