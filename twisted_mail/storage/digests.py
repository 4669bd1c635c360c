"""What messages say, computed once and kept: ``digests.sqlite3`` beside an account's index, a cache like that.

ENVELOPE, BODYSTRUCTURE, offsets of parts, and folded header texts to search in (`message.digest`). A message is looked
at when somebody asks for the first time, in pool threads, a slice at a time. Rows are found by folder and UID, which
never stand for another message; rows of messages that are gone are swept away now and then. It can be deleted at any
moment. Texts stand in a narrow table, so that a search reads little.

The methods block and may be called in any thread.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from base64 import b32encode
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, get_type_hints

from twisted.logger import Logger

from ..disk import Disk
from ..message.digest import DIGEST_VERSION, Digest, digest, split_references
from .account import AccountStore
from .contents import read_files
from .index import Row, is_damage, set_aside

__all__ = ["Digests"]

_log = Logger()
VERSION: Final = DIGEST_VERSION * 100 + 1
COMPUTED: Final = 64
"""Messages that are looked at in one go …"""
COMPUTED_BYTES: Final = 4 * 1024 * 1024
"""… while they have no more bytes than so many together."""
ROWS: Final = 2000
"""Rows that are given at once."""
SWEEP: Final = 1000
"""Rows of gone messages that may stay."""

_TYPES = get_type_hints(Digest)
_WIDE = tuple(name for name in Digest._fields if _TYPES[name] is bytes)
_NARROW = tuple(name for name in Digest._fields if _TYPES[name] is not bytes)
_OWN = ("emailid", "threadid")
_TABLES = f"""
CREATE TABLE folder (
    key INTEGER PRIMARY KEY, folder TEXT NOT NULL, validity INTEGER NOT NULL, UNIQUE (folder, validity)
);
CREATE TABLE narrow (id INTEGER PRIMARY KEY, {", ".join(f'"{name}"' for name in (*_NARROW, *_OWN))});
CREATE TABLE wide (id INTEGER PRIMARY KEY, {", ".join(f'"{name}"' for name in _WIDE)});
"""


class Digests:
    """The digests of one account."""

    def __init__(self, disk: Disk, store: AccountStore) -> None:
        self._disk = disk
        self._store = store
        self._path = os.path.join(store.home, "digests.sqlite3")
        self._mutex = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._keys: dict[tuple[str, int], int] = {}
        self._inode = 0
        self._retired = False

    def close(self) -> None:
        """Let go of the file for good: who still uses this opens it for a moment only."""
        with self._mutex:
            self._retired = True
            self._close()

    def columns(
        self, folder: str, uids: Sequence[int], at: int, names: Sequence[str]
    ) -> tuple[int, list[tuple[Any, ...]]]:
        """(uid, value, …) for some of ``uids[at:]``, and how many that were; what is gone is left out."""
        own = [name for name in names if name != "save_date"]
        taken = self.complete(folder, uids, at) if own else min(ROWS, len(uids) - at)
        wanted = uids[at : at + taken]
        if not own:
            _, rows = self._store.found(folder, wanted)
            return taken, [(row.uid, *[row.saved] * len(names)) for row in rows]
        found = self._select(folder, wanted, own)
        if len(own) == len(names):
            return taken, found
        _, rows = self._store.found(folder, wanted)
        saved = {row.uid: row.saved for row in rows}
        mixed = []
        for uid, *values in found:
            of = dict(zip(own, values, strict=True), save_date=saved.get(uid))
            mixed.append((uid, *(of[name] for name in names)))
        return taken, mixed

    def _select(
        self, folder: str, uids: Sequence[int], names: Sequence[str]
    ) -> list[tuple[Any, ...]]:
        tables = {"wide" if name in _WIDE else "narrow" for name in names}
        source = "narrow JOIN wide USING (id)" if len(tables) == 2 else tables.pop()
        columns = ", ".join(f'"{name}"' for name in names)
        with self._opened() as db:
            base = self._key(db, folder) << 32
            found = db.execute(
                f"SELECT id - ?1, {columns} FROM {source} WHERE id BETWEEN ?2 AND ?3 ORDER BY id",  # noqa: S608
                (base, base + uids[0], base + uids[-1]),
            ).fetchall()
        if len(found) == len(uids) and found[0][0] == uids[0] and found[-1][0] == uids[-1]:
            return found
        wanted = frozenset(uids)
        return [row for row in found if row[0] in wanted]

    def complete(self, folder: str, uids: Sequence[int], at: int) -> int:
        """See that some of ``uids[at:]`` have their digests: how many that were. Those that are gone have none."""
        slice_ = uids[at : at + ROWS]
        if not slice_:
            return 0
        with self._opened() as db:
            base = self._key(db, folder) << 32
            known = {
                number - base
                for (number,) in db.execute(
                    "SELECT id FROM narrow WHERE id BETWEEN ? AND ?",
                    (base + slice_[0], base + slice_[-1]),
                )
            }
        missing = [uid for uid in slice_ if uid not in known]
        if not missing:
            return len(slice_)
        path, rows = self._store.found(folder, missing[:COMPUTED])
        room = COMPUTED_BYTES
        made: list[tuple[int, Digest, tuple[str, str | None]]] = []
        last = missing[:COMPUTED][-1]
        for row in rows:
            if room < row.size and room != COMPUTED_BYTES:
                last = row.uid - 1
                break
            room -= row.size
            ((_, content),) = read_files(self._disk, path, [row])
            if content is not None:
                made.append((row.uid, *_made(row, content)))
        with self._opened() as db:
            self._insert(db, base, made)
        if last == missing[-1]:
            return len(slice_)
        return bisect_left(slice_, last + 1)

    def _insert(
        self,
        db: sqlite3.Connection,
        base: int,
        made: Sequence[tuple[int, Digest, tuple[str, str | None]]],
    ) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            for table, names, own in (("narrow", _NARROW, True), ("wide", _WIDE, False)):
                columns = [*names, *(_OWN if own else ())]
                marks = ", ".join("?" * (len(columns) + 1))
                listed = ", ".join(f'"{name}"' for name in columns)
                db.executemany(
                    f"INSERT OR REPLACE INTO {table} (id, {listed}) VALUES ({marks})",  # noqa: S608
                    [
                        (base + uid, *(getattr(one, name) for name in names), *(ids if own else ()))
                        for uid, one, ids in made
                    ],
                )
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def match(self, folder: str, field: str, folded: str, uids: Sequence[int]) -> list[int]:
        """Those of `uids`, which are complete, whose `field` contains `folded`."""
        if not uids:
            return []
        if field not in _NARROW:
            raise ValueError(f"{field} is no text of a digest")
        with self._opened() as db:
            base = self._key(db, folder) << 32
            found = db.execute(
                f'SELECT id - ?1 FROM narrow WHERE id BETWEEN ?2 AND ?3 AND instr("{field}", ?4)'  # noqa: S608
                " ORDER BY id",
                (base, base + uids[0], base + uids[-1], folded),
            ).fetchall()
        wanted = frozenset(uids)
        return [uid for (uid,) in found if uid in wanted]

    def sweep(self, folder: str) -> None:
        """Delete what is kept of messages that are gone, when it is much."""
        rows = self._store.rows(folder)
        with self._opened() as db:
            base = self._key(db, folder) << 32
            (count,) = db.execute(
                "SELECT count(*) FROM narrow WHERE id BETWEEN ? AND ?", (base, base + 0xFFFFFFFF)
            ).fetchone()
            if count <= len(rows) + SWEEP:
                return
            there = {row[0] for row in rows}
            gone = [
                (number,)
                for (number,) in db.execute(
                    "SELECT id FROM narrow WHERE id BETWEEN ? AND ?", (base, base + 0xFFFFFFFF)
                )
                if number - base not in there
            ]
            db.execute("BEGIN IMMEDIATE")
            for table in ("narrow", "wide"):
                db.executemany(f"DELETE FROM {table} WHERE id = ?", gone)  # noqa: S608
            db.execute("COMMIT")

    # -- inside

    def _key(self, db: sqlite3.Connection, folder: str) -> int:
        validity = self._store.validity(folder)
        known = self._keys.get((folder, validity))
        if known is None:
            db.execute(
                "INSERT OR IGNORE INTO folder (folder, validity) VALUES (?, ?)", (folder, validity)
            )
            (known,) = db.execute(
                "SELECT key FROM folder WHERE folder = ? AND validity = ?", (folder, validity)
            ).fetchone()
            self._keys[folder, validity] = known
        key: int = known
        return key

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with self._mutex:
            if self._db is not None and not self._current():
                self._close()
            try:
                if self._db is None:
                    self._db = self._open()
                yield self._db
            except sqlite3.Error as error:
                self._close()
                if is_damage(error):
                    _log.error("{path} set aside: {error}", path=self._path, error=str(error))
                    set_aside(self._disk, self._path)
                raise
            finally:
                if self._retired:
                    self._close()

    def _current(self) -> bool:
        try:
            return self._disk.stat(self._path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _open(self) -> sqlite3.Connection:
        if not self._disk.exists(self._path):
            for suffix in ("-wal", "-shm"):
                if self._disk.exists(self._path + suffix):
                    self._disk.unlink(self._path + suffix)
            self._disk.close(self._disk.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(self._path, timeout=20, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("PRAGMA cache_size=-1024")
            db.execute("BEGIN IMMEDIATE")
            if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                for table in ("folder", "narrow", "wide"):
                    db.execute(f"DROP TABLE IF EXISTS {table}")
                for statement in _TABLES.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={VERSION}")
            db.execute("COMMIT")
            self._inode = self._disk.stat(self._path).st_ino
        except BaseException:
            db.close()
            raise
        self._keys = {}
        return db

    def _close(self) -> None:
        if self._db is not None:
            db, self._db = self._db, None
            db.close()


def _made(row: Row, content: bytes) -> tuple[Digest, tuple[str, str | None]]:
    one = digest(content)
    # RFC 8474 section 4: a message's id is its content's, so copies have the same, and a lost cache gives it again.
    email = b32encode(hashlib.sha256(content).digest()[:20]).decode().lower()
    return one, (f"M{email}", _thread(one))


def _thread(one: Digest) -> str | None:
    """RFC 8474 section 5.2: messages whose References begin alike are one conversation; without any, and without a
    Message-ID, there is no saying."""
    root = next(iter(split_references(one.references)), one.message_id)
    if not root:
        return None
    return f"T{b32encode(hashlib.sha256(root.encode()).digest()[:15]).decode().lower()}"
