"""What messages say, computed once and kept: ``digests.sqlite3`` beside an account's index, a cache like that.

ENVELOPE, BODYSTRUCTURE, offsets of parts, and folded header texts to search in (`message.digest`). A message is looked
at when somebody asks for the first time, in pool threads, a slice at a time: of its file only the beginning is read,
until somebody asks for what is not said in the header. Rows are found by folder and UID, which never stand for another
message; rows of messages that are gone are swept away now and then. It can be deleted at any moment. Texts stand in a
narrow table, so that a search reads little.

The methods block and may be called in any thread.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeAlias

from twisted.logger import Logger

from ..disk import Disk
from ..message.digest import (
    DIGEST_VERSION,
    HeaderDigest,
    StructureDigest,
    digest,
    header_block,
    header_digest,
    split_references,
    structure_digest,
)
from ..message.envelope import MAX_HEADER
from ..message.structure import scan
from ..status import MailError
from .account import AccountStore
from .cache_file import CacheFile
from .contents import begun, whole
from .index import Row

__all__ = ["Digests"]

_log = Logger()
VERSION: Final = DIGEST_VERSION * 100 + 2
COMPUTED: Final = 400
"""Messages that are looked at in one go …"""
COMPUTED_BYTES: Final = 4 * 1024 * 1024
"""… while what is read of them has no more bytes than so many together."""
BEGINNING: Final = 16_384
"""Bytes of a message that are read for its header; when it has more, so many as are looked at."""
ROWS: Final = 2000
"""Rows that are given at once."""
SWEEP: Final = 1000
"""Rows of gone messages that may stay."""

_computing = threading.Lock()
"""Of all accounts: who waits here does not take the interpreter from the reactor thread, as every thread that computes
does for 5 ms each time."""
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"


class _Table(NamedTuple):
    """Its columns behind ``id``."""

    name: str
    columns: tuple[str, ...]


_NARROW = _Table("narrow", (*HeaderDigest._fields[1:], "threadid"))
_WIDE = _Table("wide", HeaderDigest._fields[:1])
_STRUCTURE = _Table("structure", (*StructureDigest._fields, "emailid"))
_TABLES: Final = (_NARROW, _WIDE, _STRUCTURE)
_TABLE_OF: Final = {column: table for table in _TABLES for column in table.columns}


def _listed(table: _Table) -> str:
    return ", ".join([f'"{name}"' for name in table.columns])


_SCHEMA = ";".join(
    (
        "CREATE TABLE folder (key INTEGER PRIMARY KEY, folder TEXT NOT NULL, validity INTEGER NOT NULL,"
        " UNIQUE (folder, validity))",
        *[f"CREATE TABLE {one.name} (id INTEGER PRIMARY KEY, {_listed(one)})" for one in _TABLES],
    )
)
_INSERT: Final = {
    one: f"INSERT OR REPLACE INTO {one.name} (id, {_listed(one)})"  # noqa: S608
    f" VALUES ({', '.join('?' * (len(one.columns) + 1))})"
    for one in _TABLES
}
_Made: TypeAlias = "tuple[HeaderDigest | None, tuple[Any, ...] | None]"
"""Of a message: what its header says; and the columns of its structure."""


class Digests:
    """The digests of one account."""

    def __init__(self, disk: Disk, store: AccountStore) -> None:
        self._disk = disk
        self._store = store
        self._file = CacheFile(
            disk,
            os.path.join(store.home, "digests.sqlite3"),
            version=VERSION,
            schema=_SCHEMA,
            tables=("folder", *[table.name for table in _TABLES]),
        )
        self._grown: set[str] = set()
        self._verified: dict[tuple[str, _Table], _Verified] = {}
        self._making = threading.Lock()

    def close(self) -> None:
        """Sweep where there is more than before, and let go of the file for good."""
        try:
            for folder in self._grown:
                with suppress(MailError):
                    self._sweep(folder)
            if self._grown:
                self._keep_only({box.folder for box in self._store.folders.all()})
        except (sqlite3.Error, OSError) as error:
            _log.error("digests of {path}: {error}", path=self._store.home, error=str(error))
        finally:
            self._file.close()

    def close_unused(self) -> bool:
        """`close`, when nobody has asked for anything; False: `close` may block. At once, in any thread."""
        return not self._grown and self._file.close_unused()

    def columns(
        self, folder: str, uids: Sequence[int], at: int, names: Sequence[str]
    ) -> tuple[int, list[tuple[Any, ...]]]:
        """(uid, value, …) for some of ``uids[at:]``, and how many that were; what is gone is left out."""
        own = [name for name in names if name != "save_date"]
        wanted = uids[at : at + ROWS]
        taken = self._complete(folder, wanted, wanted, _tables(own)) if own else len(wanted)
        wanted = wanted[:taken]
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
        first, *others = sorted({_TABLE_OF[name].name for name in names})
        source = first + "".join([f" JOIN {one} USING (id)" for one in others])
        columns = ", ".join(f'"{name}"' for name in names)
        with self._file.opened() as db:
            base = self._key(db, folder) << 32
            found = db.execute(
                f"SELECT id - ?, {columns} FROM {source} WHERE id BETWEEN ? AND ? ORDER BY id",  # noqa: S608
                (base, base + uids[0], base + uids[-1]),
            ).fetchall()
        if len(found) == len(uids) and found[0][0] == uids[0] and found[-1][0] == uids[-1]:
            return found
        wanted = frozenset(uids)
        return [row for row in found if row[0] in wanted]

    def complete(self, folder: str, uids: Sequence[int], at: int) -> int:
        """See that some of ``uids[at:]`` have what their headers say: how many that were. Those that are gone have
        nothing."""
        left = uids[at:] if at else uids
        return self._complete(folder, left[:ROWS], left, (_NARROW,))

    def _complete(
        self, folder: str, slice_: Sequence[int], left: Sequence[int], tables: Collection[_Table]
    ) -> int:
        """`slice_` is what `left` begins with."""
        if not slice_:
            return 0
        missing = [self._missing(folder, table, slice_, left) for table in tables]
        if not any(missing):
            return len(left) if None in missing and () not in missing else len(slice_)
        with self._making:
            # Who waited for another session finds that it has done the same
            wanted = sorted({uid for found in missing for uid in found or ()})
            some = wanted[:COMPUTED]
            left_out = {
                table: found
                for table in tables
                if (found := self._missing(folder, table, some, some))
            }
            last = self._make(folder, left_out) if left_out else some[-1]
            if last == wanted[-1]:
                return len(slice_)
            return bisect_left(slice_, last + 1)

    def _missing(
        self, folder: str, table: _Table, slice_: Sequence[int], left: Sequence[int]
    ) -> Sequence[int] | None:
        """Those of `slice_` that are not in `table`; None when it is known that all of `left` are."""
        with self._file.opened() as db:
            key = self._key(db, folder)
            verified = self._verified.get((folder, table))
            if verified is None or verified.db is not db or verified.key != key:
                verified = self._verified[folder, table] = _Verified(db, key)
            if verified.has(left):
                return None
            if verified.has(slice_):
                return ()
            base = key << 32
            known = {
                number - base
                for (number,) in db.execute(
                    f"SELECT id FROM {table.name} WHERE id BETWEEN ? AND ?",  # noqa: S608
                    (base + slice_[0], base + slice_[-1]),
                )
            }
            missing = [uid for uid in slice_ if uid not in known]
            if not missing:
                verified.add(slice_)
            return missing

    def _make(self, folder: str, missing: Mapping[_Table, Sequence[int]]) -> int:
        """The first of those that are missing somewhere: up to which UID all is done then."""
        headers = frozenset(missing.get(_NARROW, ()))
        structures = frozenset(missing.get(_STRUCTURE, ()))
        wanted = sorted(headers | structures)
        path, rows = self._store.found(folder, wanted)
        room = COMPUTED_BYTES
        made: list[tuple[int, _Made]] = []
        last = wanted[-1]
        for row in rows:
            uid = row.uid
            cost = row.size if uid in structures else min(row.size, BEGINNING)
            if room < cost and room != COMPUTED_BYTES:
                last = uid - 1
                break
            room -= cost
            one = self._digested(path, row, uid in headers, uid in structures)
            if one is not None:
                made.append((uid, one))
        if made:
            self._grown.add(folder)
            with self._file.changing() as db:
                # The file may be another one by now.
                _insert(db, self._key(db, folder) << 32, made)
        return last

    def _digested(self, path: str, row: Row, header: bool, structure: bool) -> _Made | None:
        """None: the message is gone."""
        if not structure:
            for size in (BEGINNING, MAX_HEADER):
                content = begun(self._disk, path, row, size)
                if content is None:
                    return None
                with _computing:
                    # Behind MAX_HEADER nothing is looked for
                    block = header_block(content, len(content) < size or size == MAX_HEADER)
                    if block is not None:
                        return header_digest(block), None
        with whole(self._disk, path, row) as content:
            if content is None:
                return None
            with _computing:
                return _made(content, header)

    def match(self, folder: str, field: str, folded: str, uids: Sequence[int]) -> list[int]:
        """Those of `uids`, which are complete, whose `field` contains `folded`."""
        if not uids:
            return []
        if field not in _NARROW.columns:
            raise ValueError(f"{field} is no text of a digest")
        with self._file.opened() as db:
            base = self._key(db, folder) << 32
            found = db.execute(
                f'SELECT id - ? FROM narrow WHERE id BETWEEN ? AND ? AND instr("{field}", ?)'  # noqa: S608
                " ORDER BY id",
                (base, base + uids[0], base + uids[-1], folded),
            ).fetchall()
        if len(found) * 8 < len(uids):
            return [uid for (uid,) in found if uids[bisect_left(uids, uid)] == uid]
        wanted = frozenset(uids)
        return [uid for (uid,) in found if uid in wanted]

    def _sweep(self, folder: str) -> None:
        """Delete what is kept of messages that are gone, when it is much."""
        there = {row[0] for row in self._store.rows(folder)}
        with self._file.changing() as db:
            base = self._key(db, folder) << 32
            known = db.execute(
                "SELECT id FROM narrow WHERE id BETWEEN ?1 AND ?2"
                " UNION SELECT id FROM structure WHERE id BETWEEN ?1 AND ?2",
                (base, base + 0xFFFFFFFF),
            ).fetchall()
            if len(known) > len(there) + SWEEP:
                gone = [one for one in known if one[0] - base not in there]
                for table in _TABLES:
                    db.executemany(f"DELETE FROM {table.name} WHERE id = ?", gone)  # noqa: S608

    def _keep_only(self, folders: Collection[str]) -> None:
        """Delete what is kept of folders that are gone, or have another UIDVALIDITY."""
        with self._file.changing() as db:
            for key, folder, validity in db.execute(
                "SELECT key, folder, validity FROM folder"
            ).fetchall():
                if folder not in folders or self._store.validity(folder) != validity:
                    for table in _TABLES:
                        db.execute(
                            f"DELETE FROM {table.name} WHERE id BETWEEN ? AND ?",  # noqa: S608
                            (key << 32, (key << 32) + 0xFFFFFFFF),
                        )
                    db.execute("DELETE FROM folder WHERE key = ?", (key,))

    # -- inside

    def _key(self, db: sqlite3.Connection, folder: str) -> int:
        validity = self._store.validity(folder)
        wanted = (folder, validity)
        find = "SELECT key FROM folder WHERE folder = ? AND validity = ?"
        row = db.execute(find, wanted).fetchone()
        if row is None:
            db.execute("INSERT OR IGNORE INTO folder (folder, validity) VALUES (?, ?)", wanted)
            row = db.execute(find, wanted).fetchone()
        key: int = row[0]
        return key


class _Verified:
    """UIDs of a folder, ascending, whose digests have been seen in a file: they stay there as long as the messages do.

    `db`, `key`: the file as it was opened, and the folder in it.
    """

    def __init__(self, db: sqlite3.Connection, key: int) -> None:
        self.db = db
        self.key = key
        self._uids = array("I")

    def has(self, uids: Sequence[int]) -> bool:
        """Whether it has all of `uids`, some at least."""
        known = self._uids
        begin = bisect_left(known, uids[0])
        end = bisect_right(known, uids[-1], begin)
        if end - begin < len(uids):
            return False
        if end - begin > 8 * len(uids):
            return all(
                (at := bisect_left(known, uid, begin, end)) < end and known[at] == uid
                for uid in uids
            )
        part = known[begin:end]
        return part == uids or frozenset(part).issuperset(uids)

    def add(self, uids: Sequence[int]) -> None:
        known = self._uids
        begin = bisect_left(known, uids[0])
        end = bisect_right(known, uids[-1], begin)
        # Behind the others mostly, as they are asked for in their order
        known[begin:end] = array("I", sorted({*known[begin:end], *uids}) if end > begin else uids)


def _tables(names: Collection[str]) -> list[_Table]:
    """Where it is seen whether there is what is asked for."""
    tables = {_TABLE_OF[name] for name in names}
    return [
        one
        for one in (_NARROW, _STRUCTURE)
        if one in tables or (one is _NARROW and _WIDE in tables)
    ]


def _made(content: bytes, header: bool) -> _Made:
    """Of a whole message its structure, and what its `header` says."""
    root = scan(content)
    # RFC 8474 section 4: a message's id is its content's, so copies have the same, and a lost cache gives it again.
    email = f"M{_base32(hashlib.sha256(content).digest()[:20])}"
    if header:
        one, structured = digest(content, root)
        return one, (*structured, email)
    return None, (*structure_digest(root), email)


def _insert(db: sqlite3.Connection, base: int, made: Sequence[tuple[int, _Made]]) -> None:
    headers = [(base + uid, one) for uid, (one, _) in made if one is not None]
    structures = [(base + uid, *one) for uid, (_, one) in made if one is not None]
    if headers:
        db.executemany(_INSERT[_NARROW], [(id_, *one[1:], _thread(one)) for id_, one in headers])
        db.executemany(_INSERT[_WIDE], [(id_, one[0]) for id_, one in headers])
    if structures:
        db.executemany(_INSERT[_STRUCTURE], structures)


def _thread(one: HeaderDigest) -> str | None:
    """RFC 8474 section 5.2: messages whose References begin alike are one conversation; without any, and without a
    Message-ID, there is no saying."""
    root = next(iter(split_references(one.references)), one.message_id)
    if not root:
        return None
    return f"T{_base32(hashlib.sha256(root.encode()).digest()[:15])}"


def _base32(octets: bytes) -> str:
    """RFC 4648 section 6, in lower case, of a multiple of five octets: half of what `base64.b32encode` takes."""
    number = int.from_bytes(octets, "big")
    return "".join([_TENS[number >> at & 1023] for at in range(8 * len(octets) - 10, -1, -10)])


_TENS: Final = [one + other for one in _ALPHABET for other in _ALPHABET]
"""What ten bits are."""
