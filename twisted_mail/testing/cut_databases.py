"""What a power cut leaves of SQLite's files, which SQLite opens, writes and syncs itself, past every `Disk`.

A database is two files that are one thing: the file, and the write-ahead log beside it (``-wal``). SQLite, with
``synchronous=NORMAL``, syncs the log before it carries pages from there into the file, and the file before it writes
the log from its beginning again (https://www.sqlite.org/wal.html). So after a cut the file is whole, and of the log
there is at least what was carried over; of the rest any part may be missing, and SQLite goes as far as its checksums
do. One file as it is now with the other as it was long ago is nothing that a cut can leave.

Who closes a database in good order carries the log over and deletes it: look before that (`PowerCutDisk.power_off`).
"""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

__all__ = ["Database", "is_database", "is_part", "left_of", "read", "write"]

_BLOCK: Final = 4096
_HEAD: Final = 32
"""Octets of the log's header; each frame is a page with 24 more: https://www.sqlite.org/fileformat2.html#walformat."""
_CARRIED: Final = struct.Struct("=I"), 96
"""Where in the ``-shm`` it stands how many frames have been carried over: https://www.sqlite.org/walformat.html."""


class Database(NamedTuple):
    """Both files at one time. `wal` is None when there is none; SQLite has synced the first `synced` octets of it."""

    file: bytes
    wal: bytes | None
    synced: int


def is_database(name: str) -> bool:
    return name.endswith(".sqlite3")


def is_part(name: str) -> bool:
    """Whether it is one of the files that SQLite makes beside a database."""
    return name.endswith((".sqlite3-wal", ".sqlite3-shm"))


def read(path: str) -> Database:
    """What is at `path` now. Raises FileNotFoundError."""
    file = Path(path).read_bytes()
    try:
        wal = Path(path + "-wal").read_bytes()
    except FileNotFoundError:
        return Database(file, None, 0)
    synced = 0
    if len(wal) >= _HEAD:
        size = int.from_bytes(wal[8:12], "big")
        synced = min(len(wal), _HEAD + _carried(path) * (size + 24))
    return Database(file, wal, synced if synced > _HEAD else 0)


def _carried(path: str) -> int:
    number, at = _CARRIED
    try:
        shared = Path(path + "-shm").read_bytes()
    except FileNotFoundError:
        return 0
    return int(number.unpack_from(shared, at)[0]) if len(shared) >= at + number.size else 0


def left_of(then: Database | None, now: Database | None, luck: Random | None) -> Database:
    """What a cut leaves of one that was synced as `then` (None: never) and is `now` (None: deleted).

    Without `luck` what was synced, by `Disk.syncfs` at the latest: older than SQLite's own syncs would allow.
    """
    if luck is None or now is None or (then is not None and luck.random() < 0.3):
        return then or Database(b"", None, 0)
    if then is None and not now.synced and len(now.file) <= _BLOCK and luck.random() < 0.5:
        # Its first page, which is written without a sync.
        return Database(b"", now.wal, 0)
    if now.wal is None:
        return now
    # What was carried over since is not undone by frames of then.
    old = then.wal or b"" if then is not None and then.file == now.file else b""
    whole = len(now.wal)
    kept = luck.choice((now.synced, luck.randint(now.synced, whole), whole))
    wal = bytearray(now.wal[:kept])
    for at in range(kept, whole, _BLOCK):
        block = (now.wal if luck.random() < 0.5 else old)[at : at + _BLOCK]
        wal[at : at + len(block)] = block if at <= len(wal) else bytes(at - len(wal)) + block
    return Database(now.file, bytes(wal), now.synced)


def write(path: str, database: Database) -> None:
    Path(path).write_bytes(database.file)
    if database.wal is not None:
        Path(path + "-wal").write_bytes(database.wal)
