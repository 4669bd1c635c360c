"""What messages say, kept to be searched: ``fulltext.sqlite3`` beside an account's index, a cache like that.

A *document* is a message's text (`message.searchable`), once for all copies: its key is the caller's, made of base name
and size. A *place* says which document a folder's UID is. A table of trigrams (FTS5) finds the documents that may
contain a needle, and their text decides. Nothing is missed: what has no place, could not be read or was cut off comes
back as unsure, for who can read messages. The file can be deleted at any moment.

FTS5 gets the folded text as it is (``case_sensitive``: no folding of its own); it keeps no text and no positions
(``detail=none``). Measured with 10 000 texts of 3.5 KiB: 0.5 ms and 1.9 KiB each, where ``column`` takes 5.4 and
``full`` 10.3 KiB; the trigrams of a needle, joined by AND, find hardly more than a phrase would.

The methods block and may be called in any thread.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from twisted.logger import Logger

from ..disk import Disk
from ..message.searchable import SEARCHABLE_VERSION, Searchable, field_in, usual
from .cache_file import CacheFile

__all__ = ["Found", "FullText", "Learned"]

_log = Logger()
VERSION: Final = zlib.crc32(f"1 {SEARCHABLE_VERSION}".encode()) >> 1
PAGE: Final = 16_384
"""Octets of a page of the file: of small ones, texts would fill half."""
PACKED = 8192
"""Octets from which on a text is compressed; small ones are faster to look into as they are."""
MAX_TRIGRAMS: Final = 24
"""Of a needle that are asked for."""
FEW = 300
"""Messages whose texts are looked at without asking for trigrams."""
FORGOTTEN: Final = 50
"""Documents that are removed in one go: some 30 ms."""
SLACK: Final = 200
"""Gone messages that may stay."""
_PACKED: Final = 1
_CUT: Final = 2
_UIDS: Final = 0xFFFFFFFF
_FAILURES: Final = (sqlite3.Error, OSError)
_TABLES: Final = """
CREATE TABLE folder (
    key INTEGER PRIMARY KEY, folder TEXT NOT NULL, validity INTEGER NOT NULL, UNIQUE (folder, validity)
);
CREATE TABLE document (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, state INTEGER NOT NULL,
    fields INTEGER NOT NULL, body INTEGER NOT NULL, text BLOB NOT NULL
);
CREATE INDEX document_cut ON document (id) WHERE state >= 2;
CREATE TABLE place (id INTEGER PRIMARY KEY, document INTEGER NOT NULL);
CREATE INDEX place_document ON place (document);
CREATE VIRTUAL TABLE trigram USING fts5 (
    text, content='', columnsize=0, detail=none, tokenize='trigram case_sensitive 1'
)
"""


class Learned(NamedTuple):
    """One message for `FullText.learn`. `text`: None when it could not be read, or when the key is known."""

    uid: int
    key: str
    text: Searchable | None


class Found(NamedTuple):
    """UIDs, ascending: those that contain it, and those that have to be looked at."""

    hits: list[int]
    unsure: list[int]


class FullText:
    """The texts of one account, in the file `path`. What fails is logged, and nothing is known then."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._file = CacheFile(
            disk,
            path,
            version=VERSION,
            schema=_TABLES,
            tables=("trigram", "place", "document", "folder"),
            page=PAGE,
            memory=2 * 1024 * 1024,
        )

    def close(self) -> None:
        """Let go of the file. Nothing is known any more."""
        self._file.close()

    def close_unused(self) -> bool:
        """`close`, when nobody has asked for anything; False: `close` may block. At once, in any thread."""
        return self._file.close_unused()

    # -- looking

    def search(
        self, folder: str, validity: int, needle: str, uids: Sequence[int], *, body_only: bool
    ) -> Found:
        """Which of `uids` (ascending) contain the folded `needle`, in the body only perhaps."""

        def holds(text: bytes, fields: int, body: int) -> bool:
            return text.find(wanted, body if body_only else 0) >= 0

        if not usual(needle):
            return Found([], list(uids))
        wanted = needle.encode("utf-8")
        within = "substr(d.text, d.body + 1)" if body_only else "d.text"
        # What SQLite has found in a text as it is needs no second look
        return self._look(
            folder, validity, uids, needle, within, "iif(d.state & 1, d.text, NULL)", holds
        )

    def search_field(
        self, folder: str, validity: int, name: str, needle: str, uids: Sequence[int]
    ) -> Found:
        """Which of `uids` (ascending) have a header field `name` (lower case) whose text contains `needle`, folded."""

        def holds(text: bytes, fields: int, body: int) -> bool:
            return field_in(text, fields, name, needle)

        if not usual(needle) or not usual(name):
            return Found([], list(uids))
        within = "substr(d.text, 1, d.fields)"
        return self._look(
            folder, validity, uids, needle, within, f"iif(d.state & 1, d.text, {within})", holds
        )

    def _look(
        self,
        folder: str,
        validity: int,
        uids: Sequence[int],
        needle: str,
        within: str,
        text: str,
        holds: Callable[[bytes, int, int], bool],
    ) -> Found:
        with suppress(*_FAILURES), self._file.opened() as db:
            # One snapshot for all that is asked
            db.execute("BEGIN")
            try:
                base = _folder(db, folder, validity) << 32
                if base and uids:
                    asked = frozenset(uids)
                    unsure = _unsure(db, base, uids, asked)
                    looking = _looking(needle, base, uids, within, text)
                    hits = asked.intersection(_hits(db, looking, base, holds))
                    return Found(sorted(hits), sorted(unsure - hits))
            finally:
                if db.in_transaction:
                    db.execute("COMMIT")
        return Found([], list(uids))

    # -- learning

    def known(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that have their document."""
        with suppress(*_FAILURES), self._file.opened() as db:
            return {key for key in keys if _document(db, _hashed(key)) is not None}
        return set()

    def learn(self, folder: str, validity: int, messages: Iterable[Learned]) -> bool:
        """From now on these are known. In one transaction: give it few. False when it cannot be written."""
        with suppress(*_FAILURES), self._file.changing() as db:
            db.execute(
                "INSERT OR IGNORE INTO folder (folder, validity) VALUES (?, ?)", (folder, validity)
            )
            base = _folder(db, folder, validity) << 32
            for one in messages:
                db.execute(
                    "INSERT OR REPLACE INTO place (id, document) VALUES (?, ?)",
                    (base + one.uid, _placed(db, one)),
                )
            return True
        return False

    def too_many(self, folder: str, validity: int, there: int) -> bool:
        """Whether much is kept of messages that are gone, when so many are `there`: `tidy` is to be called."""
        with suppress(*_FAILURES), self._file.opened() as db:
            base = _folder(db, folder, validity) << 32
            (count,) = db.execute(
                "SELECT count(*) FROM place WHERE id BETWEEN ? AND ?", (base, base + _UIDS)
            ).fetchone()
            return bool(count - there > max(SLACK, there // 8))
        return False

    def tidy(self, folder: str, validity: int, there: Collection[int]) -> bool:
        """Forget what is not among `there`, all UIDs of the folder. A bounded number; True: there are more."""
        with suppress(*_FAILURES), self._file.changing() as db:
            base = _folder(db, folder, validity) << 32
            kept = frozenset(there)
            gone = [
                (place, document)
                for place, document in db.execute(
                    "SELECT id, document FROM place WHERE id BETWEEN ? AND ?", (base, base + _UIDS)
                )
                if place - base not in kept
            ]
            _forget(db, gone[:FORGOTTEN])
            return len(gone) > FORGOTTEN
        return False

    def keep_only(self, folders: Collection[tuple[str, int]]) -> bool:
        """Forget other folders than these (id, UIDVALIDITY). A bounded number of messages; True: there are more."""
        with suppress(*_FAILURES), self._file.changing() as db:
            room = FORGOTTEN
            for key, *folder in db.execute("SELECT key, folder, validity FROM folder").fetchall():
                if tuple(folder) in folders:
                    continue
                gone = db.execute(
                    "SELECT id, document FROM place WHERE id BETWEEN ? AND ? LIMIT ?",
                    (key << 32, (key << 32) + _UIDS, room),
                ).fetchall()
                _forget(db, gone)
                room -= len(gone)
                if room <= 0:
                    return True
                db.execute("DELETE FROM folder WHERE key = ?", (key,))
        return False


def _folder(db: sqlite3.Connection, folder: str, validity: int) -> int:
    """Its key; 0 when nothing is known of it."""
    row = db.execute(
        "SELECT key FROM folder WHERE folder = ? AND validity = ?", (folder, validity)
    ).fetchone()
    return 0 if row is None else row[0]


# Looking


def _chosen(base: int, uids: Sequence[int]) -> str:
    """A condition for the places of `uids`, and of others between them perhaps."""
    if len(uids) <= FEW:
        return f"IN ({','.join([str(base + uid) for uid in uids])})"
    return f"BETWEEN {base + uids[0]} AND {base + uids[-1]}"


def _unsure(
    db: sqlite3.Connection, base: int, uids: Sequence[int], asked: frozenset[int]
) -> frozenset[int]:
    """Those of `uids` that have no place, could not be read, or whose text was cut."""
    chosen = _chosen(base, uids)
    places = db.execute(f"SELECT id FROM place WHERE id {chosen} AND document > 0")  # noqa: S608
    known = {place - base for (place,) in places}
    cut = db.execute(
        f"SELECT p.id FROM document d CROSS JOIN place p ON p.document = d.id"  # noqa: S608
        f" WHERE d.state >= 2 AND p.id {chosen}"
    )
    known.difference_update([place - base for (place,) in cut])
    return asked - known


def _looking(
    needle: str, base: int, uids: Sequence[int], within: str, text: str
) -> tuple[str, tuple[Any, ...]]:
    """What asks for (place, fields, body, text, state) of the documents that may be hits, among `uids`."""
    source = "place p CROSS JOIN document d ON d.id = p.document WHERE"
    before: tuple[str, ...] = ()
    if len(uids) > FEW and len(needle) >= 3:
        source = (
            "trigram t CROSS JOIN place p ON p.document = t.rowid"
            " CROSS JOIN document d ON d.id = t.rowid WHERE trigram MATCH ? AND"
        )
        before = (_trigrams(needle),)
    return (
        f"SELECT p.id, d.fields, d.body, {text}, d.state FROM {source} p.id {_chosen(base, uids)}"  # noqa: S608
        f" AND (d.state & {_PACKED} OR instr({within}, ?))",
        (*before, needle.encode("utf-8")),
    )


def _trigrams(needle: str) -> str:
    """An expression of FTS5 that all documents with `needle` fulfil."""
    some = list(dict.fromkeys([needle[at : at + 3] for at in range(len(needle) - 2)]))
    some = some[:: -(-len(some) // MAX_TRIGRAMS)]
    return " AND ".join(['"' + one.replace('"', '""') + '"' for one in some])


def _hits(
    db: sqlite3.Connection,
    looking: tuple[str, tuple[Any, ...]],
    base: int,
    holds: Callable[[bytes, int, int], bool],
) -> list[int]:
    hits: list[int] = []
    for place, fields, body, text, state in db.execute(*looking):
        if text is not None:
            if state & _PACKED:
                text = _unpacked(text)
            if not holds(text, fields, body):
                continue
        hits.append(place - base)
    return hits


def _unpacked(text: bytes) -> bytes:
    try:
        return zlib.decompress(text)
    except zlib.error as error:
        raise sqlite3.DatabaseError(f"a text is damaged: {error}") from None


# Learning


def _hashed(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _document(db: sqlite3.Connection, key: bytes) -> int | None:
    row = db.execute("SELECT id FROM document WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def _placed(db: sqlite3.Connection, one: Learned) -> int:
    """The message's document, made when there is none; 0 when it cannot be."""
    key = _hashed(one.key)
    known = _document(db, key)
    if known is not None:
        return known
    if one.text is None:
        return 0
    text, fields, body, whole = one.text
    state = (_PACKED if len(text) >= PACKED else 0) | (0 if whole else _CUT)
    kept = zlib.compress(text, 1) if state & _PACKED else text
    made = db.execute(
        "INSERT INTO document (key, state, fields, body, text) VALUES (?, ?, ?, ?, ?)",
        (key, state, fields, body, kept),
    ).lastrowid
    db.execute("INSERT INTO trigram (rowid, text) VALUES (?, ?)", (made, text))
    assert made is not None
    return made


def _forget(db: sqlite3.Connection, places: Sequence[tuple[int, int]]) -> None:
    """(place, document) each; documents go with their last place."""
    db.executemany("DELETE FROM place WHERE id = ?", [(place,) for place, _ in places])
    for document in {document for _, document in places if document}:
        if db.execute("SELECT 1 FROM place WHERE document = ?", (document,)).fetchone():
            continue
        row = db.execute(
            "DELETE FROM document WHERE id = ? RETURNING state, text", (document,)
        ).fetchone()
        if row is not None:
            # What FTS5 keeps no text of can be taken back only with the text that it was given
            text = _unpacked(row[1]) if row[0] & _PACKED else row[1]
            db.execute(
                "INSERT INTO trigram (trigram, rowid, text) VALUES ('delete', ?, ?)",
                (document, text),
            )
