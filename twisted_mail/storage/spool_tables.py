"""The tables of ``queue.sqlite3``: what each column holds, and how the file is opened.

WAL with ``synchronous=NORMAL``: a commit syncs nothing, the journal is what syncs (and a checkpoint's `syncfs` comes
before any record of it is dropped). Unlike a mailbox's index this file is no cache: what the journal has forgotten is
here, and of whom it is for in `storage.envelopes`. SQLite keeps it whole through a power cut; it may then be older than
the journal, never torn.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from ..disk import Disk
from .aside import is_damage, no_file

__all__ = ["FULL", "IDLE", "TABLES", "Damaged", "open_tables"]

VERSION: Final = 1
FULL: Final = 9e99
"""`hops.at` of one that has more than its share in memory: it is looked at again when that has room."""
IDLE: Final = 8e99
"""`hops.at` of one that nothing waits for; kept because it fails."""
TABLES: Final = ("messages", "recipients", "attempts", "hops")

_SCHEMA: Final = """
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    sender TEXT NOT NULL,
    arrived REAL NOT NULL,
    expires REAL NOT NULL,
    deadline REAL,             -- when to look whether it has expired; NULL: not as long as what is left is held
    warn REAL,                 -- when its sender is told of the delay; NULL: never, or told
    options TEXT NOT NULL,     -- `queued.Options` as JSON; '' for the plain ones
    skip INTEGER NOT NULL,
    size INTEGER NOT NULL,
    wire INTEGER NOT NULL,
    unfinished INTEGER NOT NULL,
    finished REAL              -- when the last recipient was over
);
CREATE INDEX messages_deadline ON messages (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX messages_warn ON messages (warn) WHERE warn IS NOT NULL;
CREATE INDEX messages_finished ON messages (finished) WHERE finished IS NOT NULL;
CREATE TABLE recipients (
    seq INTEGER NOT NULL,
    n INTEGER NOT NULL,
    address TEXT NOT NULL,
    hop TEXT NOT NULL,
    notify TEXT NOT NULL,
    orcpt TEXT NOT NULL,
    origin TEXT NOT NULL,
    mail_from TEXT,
    state INTEGER NOT NULL,
    due REAL,                  -- NULL: not to be taken (active, held, over)
    tries INTEGER NOT NULL DEFAULT 0,
    tried REAL,                -- when it was tried last
    last INTEGER,              -- attempts.key of then
    PRIMARY KEY (seq, n)
) WITHOUT ROWID;
CREATE INDEX recipients_due ON recipients (hop, due) WHERE due IS NOT NULL;
CREATE INDEX recipients_active ON recipients (seq, n) WHERE state = 1;
CREATE TABLE attempts (
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    key INTEGER NOT NULL,      -- checksum of the rest: the same attempt, replayed, is the same row
    host TEXT NOT NULL,
    address TEXT NOT NULL,
    tls TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (seq, at, key)
) WITHOUT ROWID;
CREATE TABLE hops (
    hop TEXT PRIMARY KEY,
    at REAL NOT NULL,          -- not later than the first recipient is due, nor before `until`
    until REAL NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    since REAL NOT NULL DEFAULT 0,
    text TEXT NOT NULL DEFAULT '',
    flushed REAL NOT NULL DEFAULT 0,   -- what was tried before this is due, whatever it says
    flushed_to REAL NOT NULL DEFAULT 0 -- how far in `due` that has come
) WITHOUT ROWID;
CREATE INDEX hops_at ON hops (at);
"""


class Damaged(OSError):
    """What lies there is no database, or not what was written."""


def open_tables(disk: Disk, path: str) -> tuple[sqlite3.Connection, bool]:
    """A connection, to be used by one thread at a time, and whether the tables were made just now.

    Raises Damaged, or another OSError for what cannot be used; ValueError for what a newer version stored.
    """
    if not disk.exists(path):
        # SQLite would make it, and the -wal beside it, as readable as the umask says.
        disk.close(disk.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    elif no_file(disk, path):
        raise Damaged(f"{path}: is not a file")
    db = sqlite3.connect(
        path, timeout=20, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    try:
        return db, _prepare(db, path)
    except sqlite3.DatabaseError as error:
        db.close()
        if is_damage(error):
            raise Damaged(
                f"{path}: {error}; the server makes it anew when it starts, of all that can be read"
            ) from error
        raise OSError(f"{path}: {error}") from error
    except BaseException:
        db.close()
        raise


def _prepare(db: sqlite3.Connection, path: str) -> bool:
    run = db.execute
    run("PRAGMA journal_mode=WAL")
    run("PRAGMA synchronous=NORMAL")
    run("PRAGMA cache_size=-8000")
    # A checkpoint of SQLite's own syncs, and whoever waits for the journal waits for it.
    run("PRAGMA wal_autocheckpoint=4000")
    run("BEGIN IMMEDIATE")
    version = run("PRAGMA user_version").fetchone()[0]
    if version == 0:
        for statement in _SCHEMA.split(";\n"):
            run(statement)
        run(f"PRAGMA user_version={VERSION}")
    run("COMMIT")
    if version not in (0, VERSION):
        raise ValueError(
            f"{path}: stored by version {version} of the format, this program knows {VERSION};"
            " use the newer program"
        )
    return bool(version == 0)
