"""One account's index: an SQLite cache of what its Maildir says. It can be deleted at any moment.

WAL with ``synchronous=NORMAL``: a commit syncs nothing, the journal is what syncs. After a power cut it may have gone
back in time or be damaged; the Maildir, the folder's ceilings and the journal bring it up to date. It is opened and
written under the account's lock (`storage.account`), so two processes never fight over it.
"""

from __future__ import annotations

import os
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from ..disk import Disk

__all__ = ["UNSEEN", "FolderRow", "Index", "Row", "RowTuple"]

VERSION = 2
_TABLES = """
CREATE TABLE folder (
    key INTEGER PRIMARY KEY,
    folder TEXT NOT NULL UNIQUE,
    validity INTEGER NOT NULL,
    uidnext INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    floor INTEGER NOT NULL,
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
    uidl TEXT,
    flags INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    date INTEGER NOT NULL,
    saved INTEGER NOT NULL,
    PRIMARY KEY (folder, uid)
) WITHOUT ROWID;
CREATE UNIQUE INDEX message_base ON message (folder, base);
CREATE TABLE expunged (
    folder INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    PRIMARY KEY (folder, uid)
) WITHOUT ROWID;
"""
# Storage before this table was there goes on without it.
_KEPT = """
CREATE TABLE IF NOT EXISTS kept (
    folder INTEGER NOT NULL,
    part INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    byte_order TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (folder, part)
)
"""
_ROW = "uid, base, sub, name, size, wire, ascii, uidl, flags, modseq, date, saved"
MAX_EXPUNGED = 20_000
"""UIDs of expunged messages that are remembered for a folder, for clients that come back (RFC 7162)."""

MANY = 200
"""Values in one statement."""


UNSEEN = -1
"""A mark of a folder's row (`FolderRow`)."""


class Row(NamedTuple):
    """One message. `sub` and `name` say where its file was seen last, `flags` what its name says, as bits.

    `uidl`: POP3's name for it when that is not made of `base`. `date` (INTERNALDATE, the file's modification time) and
    `saved` (SAVEDATE) in seconds.
    """

    uid: int
    base: str
    sub: str
    name: str
    size: int
    wire: int
    ascii: int | None
    uidl: str | None = None
    flags: int = 0
    modseq: int = 0
    date: int = 0
    saved: int = 0


RowTuple: TypeAlias = tuple[int, str, str, str, int, int, int | None, str | None]
"""The first columns of a `Row` as SQLite gives them: ten thousand of them are made at a login."""


class FolderRow(NamedTuple):
    """One folder. `modseq` is its highest; expunges at or below `floor` are forgotten.

    The marks are modification times of `new` and `cur` (ns) that the rows agree with; 0: unknown. `UNSEEN`: the rows
    were never compared with the Maildir since the folder's was made, so there may be files that had theirs before.
    """

    key: int
    folder: str
    validity: int
    uidnext: int
    modseq: int
    floor: int
    generation: int
    new_mark: int
    cur_mark: int


class Index:
    """An open index. Every method may raise `sqlite3.Error`; then the index is to be set aside and made anew."""

    def __init__(self, disk: Disk, path: str) -> None:
        fresh = not disk.exists(path)
        if fresh:
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
            self._prepare(fresh)
            self._inode = disk.stat(path).st_ino
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, fresh: bool) -> None:
        run = self._db.execute
        if fresh:
            # Nothing is in it that a power cut could take: four syncs less at a first login
            run("PRAGMA synchronous=OFF")
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=NORMAL")
        run("PRAGMA cache_size=-512")
        version = run("PRAGMA user_version").fetchone()[0]
        if version == 1:
            # It knew the inbox alone. The names of the files have the UIDs.
            run("BEGIN")
            run("DROP TABLE message")
            run("DROP TABLE folder")
            run("PRAGMA user_version=0")
            run("COMMIT")
            version = 0
        if version == 0:
            self._db.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={VERSION};COMMIT;")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"index version {version}, not {VERSION}")
        run(_KEPT)

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

    # -- folders

    def folder(self, folder: str) -> FolderRow | None:
        row = self._db.execute(
            "SELECT key, folder, validity, uidnext, modseq, floor, generation, new_mark, cur_mark"
            " FROM folder WHERE folder = ?",
            (folder,),
        ).fetchone()
        return FolderRow(*row) if row is not None else None

    def put_folder(
        self, folder: str, validity: int, uidnext: int, modseq: int, generation: int
    ) -> FolderRow:
        """Make the folder's row, or make it over: without its messages when the validity is another.

        What was expunged before is forgotten; what flags there were may be others than a client was told.
        """
        old = self.folder(folder)
        if old is not None:
            self._db.execute("DELETE FROM kept WHERE folder = ?", (old.key,))
            if old.validity != validity:
                self._db.execute("DELETE FROM message WHERE folder = ?", (old.key,))
            self._db.execute("UPDATE message SET modseq = ? WHERE folder = ?", (modseq, old.key))
            self._db.execute("DELETE FROM expunged WHERE folder = ?", (old.key,))
        self._db.execute(
            "INSERT INTO folder (folder, validity, uidnext, modseq, floor, generation, new_mark, cur_mark)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (folder) DO UPDATE SET validity = excluded.validity,"
            " uidnext = excluded.uidnext, modseq = excluded.modseq, floor = excluded.floor,"
            " generation = excluded.generation, new_mark = excluded.new_mark, cur_mark = excluded.cur_mark",
            (folder, validity, uidnext, modseq, modseq, generation, UNSEEN, UNSEEN),
        )
        row = self.folder(folder)
        assert row is not None
        return row

    def set_numbers(self, key: int, uidnext: int, modseq: int) -> None:
        self._db.execute(
            "UPDATE folder SET uidnext = ?, modseq = ? WHERE key = ?", (uidnext, modseq, key)
        )

    def set_marks(self, key: int, new: int, cur: int) -> None:
        self._db.execute(
            "UPDATE folder SET new_mark = ?, cur_mark = ? WHERE key = ?", (new, cur, key)
        )

    def folders(self) -> list[str]:
        """The ids of all folders that have a row."""
        return [folder for (folder,) in self._db.execute("SELECT folder FROM folder")]

    def used_flags(self, key: int) -> int:
        """All keywords that messages of a folder have, as bits."""
        found = self._db.execute(
            "SELECT DISTINCT flags FROM message WHERE folder = ? AND flags > 31", (key,)
        )
        bits = 0
        for (flags,) in found:
            bits |= flags
        return bits

    def drop_folder(self, folder: str) -> None:
        """Forget a folder and all that is in it."""
        row = self.folder(folder)
        if row is not None:
            for table in ("message", "expunged", "kept"):
                self._db.execute(f"DELETE FROM {table} WHERE folder = ?", (row.key,))  # noqa: S608
            self._db.execute("DELETE FROM folder WHERE key = ?", (row.key,))

    # -- messages

    def insert(self, key: int, rows: Iterable[Row]) -> None:
        self._db.executemany(
            # A place that is filled again (its file was lost in a power cut) has a row already.
            f"INSERT OR REPLACE INTO message (folder, {_ROW})"  # noqa: S608
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(key, *row) for row in rows],
        )

    def moved(self, key: int, places: Iterable[tuple[str, str, str]]) -> None:
        """(sub, name, base): where files are now."""
        self._db.executemany(
            "UPDATE message SET sub = ?, name = ? WHERE base = ? AND folder = ?",
            [(*place, key) for place in places],
        )

    def renamed(self, key: int, files: Iterable[tuple[str, int, int, int]]) -> None:
        """(name, flags, mod-sequence, UID): what is called so now, in ``cur``."""
        self._db.executemany(
            "UPDATE message SET sub = 'cur', name = ?, flags = ?, modseq = ?"
            " WHERE uid = ? AND folder = ?",
            [(*one, key) for one in files],
        )

    def flagged(self, key: int, modseq: int, flags: Iterable[tuple[int, int]]) -> None:
        """(flags, uid): they are so since `modseq`."""
        self._db.executemany(
            "UPDATE message SET flags = ?, modseq = ? WHERE uid = ? AND folder = ?",
            [(bits, modseq, uid, key) for bits, uid in flags],
        )

    def delete(self, key: int, bases: Iterable[str]) -> list[tuple[int, str, str, str]]:
        """Forget messages. Gives (UID, base, sub, name) of those that were known."""
        gone: list[tuple[int, str, str, str]] = []
        for marks, some in _parts(bases):
            found = self._db.execute(
                f"DELETE FROM message WHERE folder = ? AND base IN ({marks})"  # noqa: S608
                " RETURNING uid, base, sub, name",
                (key, *some),
            )
            gone += found.fetchall()
        return gone

    def remember(self, key: int, modseq: int, uids: Iterable[int]) -> None:
        """These UIDs were expunged at `modseq`. The oldest are forgotten when they are too many."""
        self._db.executemany(
            "INSERT OR REPLACE INTO expunged (folder, uid, modseq) VALUES (?, ?, ?)",
            [(key, uid, modseq) for uid in uids],
        )
        (count,) = self._db.execute(
            "SELECT count(*) FROM expunged WHERE folder = ?", (key,)
        ).fetchone()
        if count > MAX_EXPUNGED:
            # Half of them at once, so that it is not done each time.
            (floor,) = self._db.execute(
                "SELECT modseq FROM expunged WHERE folder = ? ORDER BY modseq LIMIT 1 OFFSET ?",
                (key, count - MAX_EXPUNGED // 2),
            ).fetchone()
            self._db.execute("DELETE FROM expunged WHERE folder = ? AND modseq <= ?", (key, floor))
            self._db.execute("UPDATE folder SET floor = ? WHERE key = ?", (floor, key))

    def vanished(self, key: int, since: int) -> list[int]:
        """UIDs expunged after `since`, ascending; the caller compares it with `FolderRow.floor`."""
        found = self._db.execute(
            "SELECT uid FROM expunged WHERE folder = ? AND modseq > ? ORDER BY uid", (key, since)
        )
        return [uid for (uid,) in found]

    def rows(self, key: int) -> list[RowTuple]:
        """All messages of a folder in the order of their UIDs, as plain tuples."""
        return self._db.execute(
            "SELECT uid, base, sub, name, size, wire, ascii, uidl FROM message"
            " WHERE folder = ? ORDER BY uid",
            (key,),
        ).fetchall()

    def whole_rows(self, key: int, since: int = -1, limit: int = -1) -> list[Row]:
        """The messages of a folder whose mod-sequence is above `since`, in the order of their UIDs, at most `limit`."""
        found = self._db.execute(
            f"SELECT {_ROW} FROM message WHERE folder = ? AND modseq > ? ORDER BY uid LIMIT ?",  # noqa: S608
            (key, since, limit),
        )
        return list(map(Row._make, found))

    def numbers(self, key: int) -> sqlite3.Cursor:
        """(uid, flags, modseq, wire, date) of each message of a folder, in the order of their UIDs."""
        return self._db.execute(
            "SELECT uid, flags, modseq, wire, date FROM message WHERE folder = ? ORDER BY uid",
            (key,),
        )

    def count(self, key: int) -> int:
        """How many messages a folder has."""
        found: int = self._db.execute(
            "SELECT count(*) FROM message WHERE folder = ?", (key,)
        ).fetchone()[0]
        return found

    # -- snapshots (`storage.kept`)

    def keep(self, key: int, modseq: int, byte_order: str, columns: Sequence[array[int]]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO kept (folder, part, modseq, byte_order, data)"
            " VALUES (?, ?, ?, ?, ?)",
            ((key, part, modseq, byte_order, column) for part, column in enumerate(columns)),
        )

    def kept(self, key: int) -> tuple[int, str] | None:
        """(modseq, byte order)."""
        found: tuple[int, str] | None = self._db.execute(
            "SELECT modseq, byte_order FROM kept WHERE folder = ? AND part = 0", (key,)
        ).fetchone()
        return found

    def kept_part(self, key: int, part: int) -> bytes:
        found = self._db.execute(
            "SELECT data FROM kept WHERE folder = ? AND part = ?", (key, part)
        ).fetchone()
        return found[0] if found is not None else b""

    def totals(self, key: int) -> tuple[int, int, int, int, int]:
        """Of a folder: messages, without \\Seen, with \\Deleted; octets of all, of those with \\Deleted."""
        found: tuple[int, int, int, int, int] = self._db.execute(
            "SELECT count(*), total(flags & 1 = 0), total(flags & 8 != 0), total(wire),"
            " total(iif(flags & 8, wire, 0)) FROM message WHERE folder = ?",
            (key,),
        ).fetchone()
        messages, unseen, deleted, octets, condemned = map(int, found)
        return messages, unseen, deleted, octets, condemned

    def usage(self) -> tuple[int, int]:
        """Octets and number of all messages of the account."""
        octets, messages = self._db.execute("SELECT total(size), count(*) FROM message").fetchone()
        return int(octets), messages

    def by_base(self, key: int, base: str) -> Row | None:
        """The message of a folder with this base name."""
        row = self._db.execute(
            f"SELECT {_ROW} FROM message WHERE folder = ? AND base = ?",  # noqa: S608
            (key, base),
        ).fetchone()
        return Row(*row) if row is not None else None

    def by_bases(self, key: int, bases: Sequence[str]) -> dict[str, Row]:
        """The messages of a folder with these base names, by them."""
        found: dict[str, Row] = {}
        for marks, some in _parts(bases):
            for values in self._db.execute(
                f"SELECT {_ROW} FROM message WHERE folder = ? AND base IN ({marks})",  # noqa: S608
                (key, *some),
            ):
                row = Row._make(values)
                found[row.base] = row
        return found

    def known(self, key: int, bases: Sequence[str]) -> set[str]:
        """Those of these base names that messages of a folder have."""
        found: set[str] = set()
        for marks, some in _parts(bases):
            found.update(
                base
                for (base,) in self._db.execute(
                    f"SELECT base FROM message WHERE folder = ? AND base IN ({marks})",  # noqa: S608
                    (key, *some),
                )
            )
        return found

    def by_uid(self, key: int, uid: int) -> Row | None:
        """The message of a folder with this UID."""
        row = self._db.execute(
            f"SELECT {_ROW} FROM message WHERE folder = ? AND uid = ?",  # noqa: S608
            (key, uid),
        ).fetchone()
        return Row(*row) if row is not None else None

    def among(self, key: int, first: int, last: int) -> list[Row]:
        """The messages of a folder from one UID to another."""
        found = self._db.execute(
            f"SELECT {_ROW} FROM message WHERE folder = ? AND uid BETWEEN ? AND ? ORDER BY uid",  # noqa: S608
            (key, first, last),
        )
        return list(map(Row._make, found))

    def data_version(self) -> int:
        """Another number when another connection has changed the index."""
        version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        return version


def _parts(values: Iterable[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """As many as a statement takes, with their question marks."""
    values = list(values)
    for start in range(0, len(values), MANY):
        some = values[start : start + MANY]
        yield ",".join("?" * len(some)), some
