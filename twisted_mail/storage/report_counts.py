"""What is to be reported to others, counted by day: ``reports.sqlite3``; and which reports have been sent.

A *report* is about one subject (a policy domain) on one day (days since 1970, UTC), of one kind: ``dmarc`` or ``tls``.
It has a head, what was last known of the subject, and rows, each a text and how often it was seen. It becomes due at a
moment that is chosen when it is begun; what is sent is remembered, so that no restart sends it again. Heads and texts
mean something to `reports` only.

Bounded: `MAX_ROWS` rows a report (what comes after is counted in its head row ``""``), `MAX_REPORTS` reports a kind and
day, `KEEP` days. A crash loses the last few seconds of counting; a file that is lost or damaged is begun anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..disk import Disk
from .cache_file import CacheFile

__all__ = ["KEEP", "MAX_REPORTS", "MAX_ROWS", "Due", "Key", "ReportCounts"]

VERSION: Final = 1
MAX_ROWS: Final = 10_000
MAX_REPORTS: Final = 2_000
KEEP: Final = 4
"""Days after which what was not sent is forgotten, and what was, too."""
_SCHEMA: Final = """
CREATE TABLE reports (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, day INTEGER NOT NULL, subject TEXT NOT NULL, head TEXT NOT NULL,
    due REAL NOT NULL, sent INTEGER NOT NULL DEFAULT 0, rows INTEGER NOT NULL DEFAULT 0, UNIQUE (kind, day, subject)
);
CREATE INDEX reports_due ON reports (sent, due);
CREATE TABLE report_rows (
    report INTEGER NOT NULL, text TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (report, text)
) WITHOUT ROWID
"""


class Key(NamedTuple):
    """Which report."""

    kind: str
    day: int
    subject: str


class Due(NamedTuple):
    """A report that can be sent. `number` is for `sent` and `put_off`."""

    number: int
    key: Key
    head: str


class ReportCounts:
    """The file. The methods block and may be called in any thread; they raise sqlite3.Error or OSError, logged."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._file = CacheFile(
            disk, path, version=VERSION, schema=_SCHEMA, tables=("reports", "report_rows")
        )

    def add(
        self, counts: Mapping[Key, tuple[str, float, Mapping[str, int]]], *, today: int
    ) -> None:
        """Count what was seen: by report its head, when it is due (for one that is begun), and its rows."""
        with self._file.changing() as db:
            for key, (head, due, rows) in counts.items():
                report = self._report(db, key, head, due)
                if report is not None:
                    _count(db, report, rows)
            self._forget(db, today - KEEP)

    def due(self, now: float, most: int) -> list[Due]:
        """Those that are to be sent now, the one that was due first before the others."""
        with self._file.opened() as db:
            found = db.execute(
                "SELECT number, kind, day, subject, head FROM reports WHERE NOT sent AND due <= ?"
                " ORDER BY due LIMIT ?",
                (now, most),
            ).fetchall()
        return [
            Due(number, Key(kind, day, subject), head) for number, kind, day, subject, head in found
        ]

    def rows(self, number: int) -> list[tuple[str, int]]:
        """What it says, the most frequent first. The row ``""`` counts what found no place."""
        with self._file.opened() as db:
            return db.execute(
                "SELECT text, count FROM report_rows WHERE report = ? ORDER BY count DESC, text",
                (number,),
            ).fetchall()

    def sent(self, number: int) -> None:
        """It is not to be sent again."""
        with self._file.changing() as db:
            db.execute("UPDATE reports SET sent = 1 WHERE number = ?", (number,))
            db.execute("DELETE FROM report_rows WHERE report = ?", (number,))

    def put_off(self, number: int, until: float) -> None:
        """It could not be sent now."""
        with self._file.changing() as db:
            db.execute("UPDATE reports SET due = ? WHERE number = ?", (until, number))

    def close(self) -> None:
        """Let go of the file for good."""
        self._file.close()

    def _report(self, db: sqlite3.Connection, key: Key, head: str, due: float) -> int | None:
        found = db.execute(
            "SELECT number, head, sent FROM reports WHERE kind = ? AND day = ? AND subject = ?", key
        ).fetchone()
        if found is None:
            (count,) = db.execute(
                "SELECT count(*) FROM reports WHERE kind = ? AND day = ?", key[:2]
            ).fetchone()
            if count >= MAX_REPORTS:
                return None
            made = db.execute(
                "INSERT INTO reports (kind, day, subject, head, due) VALUES (?, ?, ?, ?, ?)",
                (*key, head, due),
            )
            return made.lastrowid
        number, before, sent = found
        if sent:
            return None  # counted after midnight, and late
        if before != head:
            # RFC 9990 section 3.1: the final configuration observed during the period
            db.execute("UPDATE reports SET head = ? WHERE number = ?", (head, number))
        return int(number)

    @staticmethod
    def _forget(db: sqlite3.Connection, before: int) -> None:
        db.execute(
            "DELETE FROM report_rows WHERE report IN (SELECT number FROM reports WHERE day < ?)",
            (before,),
        )
        db.execute("DELETE FROM reports WHERE day < ?", (before,))


def _count(db: sqlite3.Connection, report: int, rows: Mapping[str, int]) -> None:
    (used,) = db.execute("SELECT rows FROM reports WHERE number = ?", (report,)).fetchone()
    begun = used
    for text, count in rows.items():
        changed = db.execute(
            "UPDATE report_rows SET count = count + ? WHERE report = ? AND text = ?",
            (count, report, text),
        ).rowcount
        if changed:
            continue
        if used >= MAX_ROWS and text:
            text = ""
        else:
            used += 1
        db.execute(
            "INSERT INTO report_rows VALUES (?, ?, ?)"
            " ON CONFLICT (report, text) DO UPDATE SET count = count + excluded.count",
            (report, text, count),
        )
    if used != begun:
        db.execute("UPDATE reports SET rows = ? WHERE number = ?", (used, report))
