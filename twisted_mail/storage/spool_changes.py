"""What a change of the queue does to its rows: verdicts on recipients, attempts, what is due at a destination.

All of it in a transaction of the caller's, and each thing once however often it is done: a replay does it again.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence

from .queued import Attempt, Change, State

__all__ = ["ATTEMPTS", "apply", "record_attempts", "storable", "wake_hop"]

ATTEMPTS = 500
"""Attempts that are kept of a message, the latest ones."""


def apply(db: sqlite3.Connection, change: Change, *, again: bool = False) -> bool:
    """Do what a change says. True when its message is over. Doing it again changes nothing.

    `again`: it may have been done before, and what it made due may be in somebody's hand by now.
    """
    row = db.execute(
        "SELECT seq, unfinished, finished, expires, arrived FROM messages WHERE id = ?",
        (change.message,),
    ).fetchone()
    if row is None:
        return False  # over so long ago that it was forgotten
    seq, unfinished, finished, expires, arrived = row
    if finished is not None:
        return True
    keys = record_attempts(db, seq, change.attempts)
    ended = 0
    for number, state, due, which in change.verdicts:
        attempt = change.attempts[which] if which >= 0 else None
        # A change by hand is no try.
        tried = None
        if attempt is not None and state in _TRIED:
            tried = (attempt.at, keys[which])
        ended += _judge(db, seq, number, state, due, tried, again)
    if change.warned:
        db.execute("UPDATE messages SET warn = NULL WHERE seq = ?", (seq,))
    if change.give_up:
        db.execute("UPDATE messages SET deadline = 0, warn = NULL WHERE seq = ?", (seq,))
    elif any(verdict.state is State.WAITING for verdict in change.verdicts):
        # Released: its time goes on.
        db.execute(
            "UPDATE messages SET deadline = ? WHERE seq = ? AND deadline IS NULL", (expires, seq)
        )
    if not ended:
        return False
    over = bool(ended >= unfinished)
    at = max((attempt.at for attempt in change.attempts), default=arrived)
    db.execute(
        "UPDATE messages SET unfinished = unfinished - ?, finished = ?,"
        " deadline = CASE WHEN ? THEN NULL ELSE deadline END,"
        " warn = CASE WHEN ? THEN NULL ELSE warn END WHERE seq = ?",
        (ended, at if over else None, over, over, seq),
    )
    return over


_TRIED = (State.DEFERRED, State.DELIVERED, State.BOUNCED)


def _judge(
    db: sqlite3.Connection,
    seq: int,
    number: int,
    state: State,
    due: float,
    tried: tuple[float, int] | None,
    again: bool,
) -> bool:
    """One verdict. True when the recipient is over by it."""
    if state.final and tried is not None:
        # Nearly all: one look at the row for both.
        at, key = tried
        changed = db.execute(
            "UPDATE recipients SET state = ?, due = NULL, tries = tries + (tried IS NULL OR tried < ?),"
            " last = CASE WHEN tried IS NULL OR tried < ? THEN ? ELSE last END,"
            " tried = max(coalesce(tried, ?), ?) WHERE seq = ? AND n = ? AND state < 4",
            (state, at, at, key, at, at, seq, number),
        )
        return changed.rowcount == 1
    counted = False
    if tried is not None:
        found = db.execute(
            "UPDATE recipients SET tries = tries + 1, tried = ?, last = ?"
            " WHERE seq = ? AND n = ? AND state < 4 AND (tried IS NULL OR tried < ?)",
            (tried[0], tried[1], seq, number, tried[0]),
        )
        counted = found.rowcount > 0
    if state in (State.DEFERRED, State.WAITING):
        # What was put on hold meanwhile stays there.
        unless = "" if state is State.WAITING else " AND state <> 3"
        if again and not counted:
            # Who is active was taken after it, and may be being sent. Only a try that was not known had ended that.
            unless += " AND state <> 1"
        changed = db.execute(
            f"UPDATE recipients SET state = ?, due = ? WHERE seq = ? AND n = ? AND state < 4{unless}"  # noqa: S608
            " RETURNING hop",
            (state, due, seq, number),
        ).fetchone()
        if changed is not None:
            wake_hop(db, changed[0], due, lift=state is State.WAITING)
        return False
    changed = db.execute(
        "UPDATE recipients SET state = ?, due = NULL WHERE seq = ? AND n = ? AND state < 4",
        (state, seq, number),
    )
    return state.final and changed.rowcount == 1


def wake_hop(db: sqlite3.Connection, hop: str, due: float, *, lift: bool = False) -> None:
    """Something of `hop` is due at `due`; `lift`: whatever is known of the destination."""
    if lift:
        db.execute(
            "INSERT INTO hops (hop, at) VALUES (?, ?) ON CONFLICT (hop)"
            " DO UPDATE SET at = min(at, excluded.at), until = 0",
            (hop, due),
        )
    else:
        db.execute(
            "INSERT INTO hops (hop, at) VALUES (?, ?) ON CONFLICT (hop)"
            " DO UPDATE SET at = min(at, max(excluded.at, until))",
            (hop, due),
        )


def storable(text: str) -> str:
    """SQLite takes no lone surrogates, which a peer's octets may have become."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _key(attempt: Attempt) -> int:
    return zlib.crc32("\0".join(attempt[1:]).encode("utf-8", "replace"))


def record_attempts(db: sqlite3.Connection, seq: int, attempts: Sequence[Attempt]) -> list[int]:
    """Keep what was tried for a message; the same attempt is kept once. Returns `attempts.key` of each."""
    keys = [_key(attempt) for attempt in attempts]
    if not keys:
        return keys
    db.executemany(
        "INSERT OR IGNORE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (seq, attempt.at, key, *map(storable, attempt[1:]))
            for attempt, key in zip(attempts, keys, strict=True)
        ],
    )
    oldest = db.execute(
        "SELECT at, key FROM attempts WHERE seq = ? ORDER BY at DESC, key DESC LIMIT 1 OFFSET ?",
        (seq, ATTEMPTS - 1),
    ).fetchone()
    if oldest is not None:
        db.execute("DELETE FROM attempts WHERE seq = ? AND (at, key) < (?, ?)", (seq, *oldest))
    return keys
