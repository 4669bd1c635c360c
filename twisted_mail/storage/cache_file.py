"""An SQLite file that is a cache: opened when it is needed, made anew when it is lost, damaged or of another version.

It syncs nothing at a commit: what is lost in it is found out again. One connection, used by one thread at a time.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from twisted.logger import Logger

from ..disk import Disk
from .aside import is_damage, no_file, set_aside
from .transaction import transaction, use_wal

__all__ = ["CacheFile", "OverError"]

_log = Logger()


class OverError(OSError):
    """The cache was closed."""


class CacheFile:
    """The file `path` with the tables that the statements of `schema` make; `tables` are dropped before, when the
    file is of another `version`. `page` and `memory` in bytes."""

    def __init__(
        self,
        disk: Disk,
        path: str,
        *,
        version: int,
        schema: str,
        tables: Sequence[str],
        page: int = 4096,
        memory: int = 1024 * 1024,
    ) -> None:
        self._disk = disk
        self._path = path
        self._version = version
        self._schema = schema
        self._tables = tables
        self._page = page
        self._memory = memory
        self._mutex = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._over = False

    def close(self) -> None:
        """Let go of the file for good."""
        with self._mutex:
            self._over = True
            self._close()

    def close_unused(self) -> bool:
        """`close`, when nothing is open; False: something is, and `close` may block. At once, in any thread."""
        if not self._mutex.acquire(blocking=False):
            return False
        try:
            unused = self._db is None
            self._over = self._over or unused
            return unused
        finally:
            self._mutex.release()

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone. Raises sqlite3.Error or OSError, which are logged; what is damaged
        is set aside, and the next one is a new file. OverError after `close`."""
        with self._mutex:
            if self._over:
                raise OverError
            try:
                if self._db is not None and not self._current():
                    self._close()
                if self._db is None:
                    self._db = self._open_sound()
                yield self._db
            except sqlite3.Error as error:
                opened = self._db is not None
                self._close()
                if opened and is_damage(error):
                    self._set_aside(error, self._inode)
                else:
                    _log.error("{path}: {error}", path=self._path, error=str(error))
                raise
            except OSError as error:
                _log.error("{path}: {error}", path=self._path, error=str(error))
                raise

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """As `opened`, in a transaction."""
        with self.opened() as db, transaction(db):
            yield db

    def _current(self) -> bool:
        try:
            return self._disk.stat(self._path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _open_sound(self) -> sqlite3.Connection:
        """What a power cut has left half there is found when it is opened, mostly: then nobody need hear of it."""
        try:
            return self._open()
        except sqlite3.Error as error:
            if not is_damage(error) and not no_file(self._disk, self._path):
                raise
            self._set_aside(error)
            return self._open()

    def _set_aside(self, error: sqlite3.Error, inode: int = 0) -> None:
        aside = set_aside(self._disk, self._path, inode)
        _log.error(
            "{path} is damaged ({error}): set aside as {aside}, and begun anew; what was in it is found out again",
            path=self._path,
            error=str(error),
            aside=aside,
        )

    def _open(self) -> sqlite3.Connection:
        fresh = not self._disk.exists(self._path)
        if fresh:
            # What a file that was deleted left behind must not be played into the new one.
            for suffix in ("-wal", "-shm"):
                if self._disk.exists(self._path + suffix):
                    self._disk.unlink(self._path + suffix)
            self._disk.close(self._disk.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(self._path, timeout=20, isolation_level=None, check_same_thread=False)
        try:
            db.execute(f"PRAGMA page_size={self._page}")
            if fresh:
                # Nothing is in it that a power cut could take
                db.execute("PRAGMA synchronous=OFF")
            use_wal(db, self._disk, self._path)
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute(f"PRAGMA cache_size=-{self._memory // 1024}")
            if db.execute("PRAGMA user_version").fetchone()[0] != self._version:
                self._make(db)
            self._inode = self._disk.stat(self._path).st_ino
        except BaseException:
            db.close()
            raise
        return db

    def _make(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        # Another process may have been faster.
        if db.execute("PRAGMA user_version").fetchone()[0] != self._version:
            for table in self._tables:
                db.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in self._schema.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={self._version}")
        db.execute("COMMIT")

    def _close(self) -> None:
        if self._db is not None:
            db, self._db = self._db, None
            db.close()
