"""One account's index: an SQLite cache of what its Maildir says. It can be deleted at any moment.

WAL with ``synchronous=NORMAL``: a commit syncs nothing, the journal is what syncs. After a power cut it may have gone
back in time or be damaged; the Maildir, the folder's ceilings and the journal bring it up to date. It is opened and
written under the account's lock (`storage.account`), so two processes never fight over it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from ..disk import Disk

__all__ = ["FolderRow", "Index", "Row", "RowTuple", "is_damage", "set_aside"]

VERSION = 1
_SCHEMA = """
CREATE TABLE folder (
    key INTEGER PRIMARY KEY,
    folder TEXT NOT NULL UNIQUE,
    validity INTEGER NOT NULL,
    uidnext INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    new_mark INTEGER NOT NULL DEFAULT 0,
    cur_mark INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE message (
    folder INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    base TEXT NOT NULL,
    sub TEXT NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    wire INTEGER NOT NULL,
    ascii INTEGER,
    PRIMARY KEY (folder, uid)
) WITHOUT ROWID;
CREATE UNIQUE INDEX message_base ON message (folder, base);
"""


class Row(NamedTuple):
    """One message: `sub` and `name` say where its file was seen last."""

    uid: int
    base: str
    sub: str
    name: str
    size: int
    wire: int
    ascii: int | None


RowTuple: TypeAlias = tuple[int, str, str, str, int, int, int | None]
"""A `Row` as SQLite gives it: ten thousand of them are made at a login."""


class FolderRow(NamedTuple):
    """One folder. The marks are modification times of `new` and `cur` (ns) that the rows agree with; 0: unknown."""

    key: int
    folder: str
    validity: int
    uidnext: int
    generation: int
    new_mark: int
    cur_mark: int


class Index:
    """An open index. Every method may raise `sqlite3.Error`; then the index is to be set aside and made anew."""

    def __init__(self, disk: Disk, path: str) -> None:
        if not disk.exists(path):
            # What an index that was deleted left behind must not be played into the new one.
            for suffix in ("-wal", "-shm"):
                if disk.exists(path + suffix):
                    disk.unlink(path + suffix)
            # SQLite would make it, and the -wal beside it, as readable as the umask says.
            disk.close(disk.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._disk = disk
        self._path = path
        # The statement cache is kept small: a process keeps many of these open.
        self._db = sqlite3.connect(
            path, timeout=20, isolation_level=None, check_same_thread=False, cached_statements=24
        )
        try:
            self._prepare()
            self._inode = disk.stat(path).st_ino
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        run = self._db.execute
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=NORMAL")
        run("PRAGMA cache_size=-512")
        version = run("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={VERSION};COMMIT;")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"index version {version}, not {VERSION}")

    @property
    def current(self) -> bool:
        """Whether the file is still the one that was opened."""
        try:
            return self._disk.stat(self._path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def close(self) -> None:
        self._db.close()

    def begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def folder(self, folder: str) -> FolderRow | None:
        row = self._db.execute(
            "SELECT key, folder, validity, uidnext, generation, new_mark, cur_mark"
            " FROM folder WHERE folder = ?",
            (folder,),
        ).fetchone()
        return FolderRow(*row) if row is not None else None

    def put_folder(self, folder: str, validity: int, uidnext: int, generation: int) -> FolderRow:
        """Make the folder's row, or make it over without its messages when the validity is another."""
        old = self.folder(folder)
        if old is not None and old.validity != validity:
            self._db.execute("DELETE FROM message WHERE folder = ?", (old.key,))
        self._db.execute(
            "INSERT INTO folder (folder, validity, uidnext, generation) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (folder) DO UPDATE SET validity = excluded.validity,"
            " uidnext = excluded.uidnext, generation = excluded.generation,"
            " new_mark = 0, cur_mark = 0",
            (folder, validity, uidnext, generation),
        )
        row = self.folder(folder)
        assert row is not None
        return row

    def set_uidnext(self, key: int, uidnext: int) -> None:
        self._db.execute("UPDATE folder SET uidnext = ? WHERE key = ?", (uidnext, key))

    def set_marks(self, key: int, new: int, cur: int) -> None:
        self._db.execute(
            "UPDATE folder SET new_mark = ?, cur_mark = ? WHERE key = ?", (new, cur, key)
        )

    def insert(self, key: int, rows: Iterable[Row]) -> None:
        self._db.executemany(
            # A place that is filled again (its file was lost in a power cut) has a row already.
            "INSERT OR REPLACE INTO message (folder, uid, base, sub, name, size, wire, ascii)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(key, *row) for row in rows],
        )

    def moved(self, key: int, places: Iterable[tuple[str, str, str]]) -> None:
        """(sub, name, base): where files are now."""
        self._db.executemany(
            "UPDATE message SET sub = ?, name = ? WHERE base = ? AND folder = ?",
            [(*place, key) for place in places],
        )

    def delete(self, key: int, bases: Iterable[str]) -> None:
        self._db.executemany(
            "DELETE FROM message WHERE folder = ? AND base = ?", [(key, base) for base in bases]
        )

    def rows(self, key: int) -> list[RowTuple]:
        """All messages of a folder in the order of their UIDs; the columns of `Row`, as plain tuples."""
        return self._db.execute(
            "SELECT uid, base, sub, name, size, wire, ascii FROM message"
            " WHERE folder = ? ORDER BY uid",
            (key,),
        ).fetchall()

    def by_base(self, key: int, base: str) -> Row | None:
        """The message of a folder with this base name."""
        row = self._db.execute(
            "SELECT uid, base, sub, name, size, wire, ascii FROM message"
            " WHERE folder = ? AND base = ?",
            (key, base),
        ).fetchone()
        return Row(*row) if row is not None else None


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the index is to be made anew: not for a full disk or a lock, but for what it should not hold."""
    # The plain SQLITE_ERROR is "no such table" and the like: another's schema, or what a repair left.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return not isinstance(error, sqlite3.OperationalError) or code == sqlite3.SQLITE_ERROR


def set_aside(disk: Disk, path: str) -> None:
    """Move a broken index out of the way (``.broken``, one is kept); its Maildir makes a new one."""
    for suffix in ("-wal", "-shm"):
        if disk.exists(path + suffix):
            disk.unlink(path + suffix)
    if disk.exists(path):
        disk.rename(path, f"{path}.broken")
