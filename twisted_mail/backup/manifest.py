"""The manifest of a backup, ``manifest.sqlite3``: every file with its size, its SHA-256 and what it was copied from.

It is an SQLite file so that a site of ten million messages needs no memory for it. It is written by one process, which
syncs it when the backup is complete; before, nobody reads it. Paths are relative to the backup, and octets: file names
need not be UTF-8.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

from ..disk import Disk

__all__ = ["Entry", "Manifest", "key_of", "message_key"]

_TABLES = """
CREATE TABLE file (
    path BLOB NOT NULL UNIQUE,
    key INTEGER NOT NULL,      -- what it is found by in the next backup, hashed
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,    -- seconds since 1970
    inode INTEGER NOT NULL,    -- of what it was copied from
    stamp TEXT NOT NULL,       -- and more of that; '' when it proves nothing
    sha256 BLOB NOT NULL,
    linked INTEGER NOT NULL    -- to another name of it, here or in the last backup
);
CREATE INDEX file_key ON file (key);
CREATE INDEX file_inode ON file (inode);
CREATE TABLE directory (path BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_COLUMNS = "path, key, size, mtime, inode, stamp, sha256, linked"


class Entry(NamedTuple):
    """One file. `stamp` says what its source was: while that says the same, its content is the same."""

    path: str
    key: int
    size: int
    mtime: int
    inode: int
    stamp: str
    sha256: bytes
    linked: int = 0


def key_of(path: str) -> int:
    """What a file is found by that is always called so."""
    return int.from_bytes(blake2b(os.fsencode(path), digest_size=7).digest(), "big")


def message_key(account: str, base: str) -> int:
    """What a message is found by, whatever folder it lies in and whatever its flags are."""
    return key_of(f"{account}//{base}")


class Manifest:
    """The manifest in the file `path`, being written, or only read."""

    def __init__(self, disk: Disk, path: str, *, make: bool) -> None:
        if make:
            disk.close(disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None)
            for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-16000"):
                self._db.execute(f"PRAGMA {setting}")
            self._db.executescript(_TABLES)
            self._db.execute("BEGIN")
        else:
            # Nobody writes it any more: without a lock, so that it may lie on what cannot be written.
            quoted = os.path.abspath(path).replace("%", "%25").replace("?", "%3f")
            uri = f"file:{quoted.replace('#', '%23')}?mode=ro&immutable=1"
            self._db = sqlite3.connect(uri, uri=True, isolation_level=None)

    def close(self) -> None:
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        self._db.close()

    def put(self, entry: Entry) -> None:
        path, *rest = entry
        self._db.execute(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (os.fsencode(path), *rest),
        )

    def get(self, path: str) -> Entry | None:
        found = self._db.execute(
            f"SELECT {_COLUMNS} FROM file WHERE path = ?",  # noqa: S608
            (os.fsencode(path),),
        ).fetchone()
        return _entry(found) if found is not None else None

    def by_key(self, key: int) -> list[Entry]:
        found = self._db.execute(
            f"SELECT {_COLUMNS} FROM file WHERE key = ? LIMIT 16",  # noqa: S608
            (key,),
        )
        return list(map(_entry, found))

    def by_inode(self, inode: int) -> list[Entry]:
        found = self._db.execute(
            f"SELECT {_COLUMNS} FROM file WHERE inode = ? ORDER BY path LIMIT 16",  # noqa: S608
            (inode,),
        )
        return list(map(_entry, found))

    def under(self, prefix: str) -> dict[str, int]:
        """path → key of all files whose path begins so."""
        start = os.fsencode(prefix)
        found = self._db.execute(
            "SELECT path, key FROM file WHERE path >= ? AND path < ?", (start, start + b"\xff" * 4)
        )
        return {os.fsdecode(path): key for path, key in found}

    def remove(self, path: str) -> None:
        self._db.execute("DELETE FROM file WHERE path = ?", (os.fsencode(path),))

    def put_directory(self, path: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO directory VALUES (?)", (os.fsencode(path),))

    def remove_directory(self, path: str) -> None:
        self._db.execute("DELETE FROM directory WHERE path = ?", (os.fsencode(path),))

    def directories(self, prefix: str = "") -> list[str]:
        """All whose path begins so, those above first."""
        start = os.fsencode(prefix)
        found = self._db.execute(
            "SELECT path FROM directory WHERE path >= ? AND path < ? ORDER BY path",
            (start, start + b"\xff" * 4),
        )
        return [os.fsdecode(path) for (path,) in found]

    def files(self, prefix: str = "") -> Iterator[Entry]:
        """All whose path begins so, in the order of their paths."""
        start = os.fsencode(prefix)
        found = self._db.execute(
            f"SELECT {_COLUMNS} FROM file WHERE path >= ? AND path < ? ORDER BY path",  # noqa: S608
            (start, start + b"\xff" * 4),
        )
        return map(_entry, found)

    def totals(self) -> tuple[int, int, int, int]:
        """Files, and octets in them; the same of those that are no links."""
        found = self._db.execute(
            "SELECT count(*), total(size), total(NOT linked), total(size * NOT linked) FROM file"
        ).fetchone()
        files, octets, copied, written = map(int, found)
        return files, octets, copied, written


def _entry(row: tuple[bytes, int, int, int, int, str, bytes, int]) -> Entry:
    path, *rest = row
    return Entry(os.fsdecode(path), *rest)  # type: ignore[arg-type]  # mypy forgets what is in `rest`
