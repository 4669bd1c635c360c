"""What of the queue is due: for the one process that runs it. Rows only; what is journaled is `spool`'s.

A destination (hop) has a row of its own that says when to look at its recipients, so that finding what is due costs
the same with ten recipients as with a million, and a dead destination's million is never looked through.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence

from ..disk import Disk
from .queued import Backoff, State, Taken, Turn
from .spool import Spool
from .spool_changes import storable, wake_hop
from .spool_rows import Messages
from .spool_tables import FULL, IDLE

__all__ = ["TAKEN", "Due"]

HOPS = 200
"""Destinations that one `take` looks at."""
TAKEN = 500
"""Recipients that one `take` gives at most: whoever commits waits for it."""
SKIPPED = 2000
"""Rows that one `take` passes over while a flush goes through a destination."""


class Due:
    """The queue of `spool` as its runner sees it. Methods block; they may be called in any thread."""

    def __init__(self, disk: Disk, spool: Spool, lock: str) -> None:
        self._disk = disk
        self._spool = spool
        self._lock_path = lock
        self._lock = -1
        self._messages = Messages()

    # -- who runs it

    def lock(self) -> bool:
        """Be the runner; False while another process is."""
        self._spool.prepare()
        fd = self._disk.open(self._lock_path, os.O_RDWR | os.O_CREAT)
        try:
            self._disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._disk.close(fd)
            return False
        except BaseException:
            self._disk.close(fd)
            raise
        self._lock = fd
        return True

    def begin(self) -> None:
        """What was active, of a runner that died, is due at once."""
        self._nobody_sends()

    def end(self) -> None:
        """Let another process run it, with nothing left active: nobody would look for that."""
        try:
            self._nobody_sends()
        finally:
            self.release()

    def _nobody_sends(self) -> None:
        with self._spool.transaction() as db:
            active = db.execute("SELECT seq, n, hop FROM recipients WHERE state = 1").fetchall()
            db.executemany(
                "UPDATE recipients SET state = CASE WHEN tries > 0 THEN 2 ELSE 0 END, due = 0"
                " WHERE seq = ? AND n = ?",
                [(seq, n) for seq, n, _ in active],
            )
            for hop in {hop for _, _, hop in active}:
                wake_hop(db, hop, 0)
            db.execute("UPDATE hops SET at = until WHERE at = ?", (FULL,))

    def release(self) -> None:
        """Let another process run it."""
        if self._lock >= 0:
            fd, self._lock = self._lock, -1
            self._disk.close(fd)

    # -- taking

    def take(
        self, now: float, limit: int, share: Callable[[str], int], reopened: Sequence[str]
    ) -> Turn:
        """See `queue.interfaces.Spool.take`."""
        keys: list[tuple[int, int]] = []
        limit = min(limit, TAKEN)
        with self._spool.transaction() as db:
            for hop in reopened:
                # It may not say FULL any more: what was deferred meanwhile has set it to when that is due.
                db.execute("UPDATE hops SET at = min(at, until) WHERE hop = ?", (hop,))
            rows = db.execute(
                "SELECT hop, until, failures, flushed, flushed_to FROM hops WHERE at <= ?"
                " ORDER BY at LIMIT ?",
                (now, HOPS),
            ).fetchall()
            for hop, until, failures, flushed, flushed_to in rows:
                if limit <= len(keys):
                    break
                mine = share(hop)
                if mine <= 0:
                    _look_again(db, hop, FULL)
                    continue
                want = min(mine, limit - len(keys))
                found, more = _due(db, hop, now, want, flushed, flushed_to)
                _activate(db, found)
                keys += found
                if more:
                    # Its share is used up, or ours: then it is next.
                    _look_again(db, hop, FULL if want == mine else now)
                else:
                    _look_when_due(db, hop, until, failures)
            taken = self._messages.taken(db, keys)
            return Turn(taken, _wake(db))

    def put_back(self, items: Sequence[tuple[str, int]], due: float) -> None:
        """See `queue.interfaces.Spool.put_back`."""
        with self._spool.transaction() as db:
            hops: set[str] = set()
            for message, number in items:
                row = db.execute(
                    "UPDATE recipients SET state = CASE WHEN tries > 0 THEN 2 ELSE 0 END, due = ?"
                    " WHERE state = 1 AND n = ? AND seq = (SELECT seq FROM messages WHERE id = ?)"
                    " RETURNING hop",
                    (due, number, message),
                ).fetchone()
                if row is not None:
                    hops.add(row[0])
            for hop in hops:
                wake_hop(db, hop, due)

    def rehop(self, items: Sequence[tuple[str, int]], hops: Sequence[str]) -> None:
        """See `queue.interfaces.Spool.rehop`."""
        with self._spool.transaction() as db:
            for (message, number), hop in zip(items, hops, strict=True):
                self._messages.forget(message)
                db.execute(
                    "UPDATE recipients SET state = CASE WHEN tries > 0 THEN 2 ELSE 0 END, due = 0,"
                    " hop = ? WHERE state = 1 AND n = ?"
                    " AND seq = (SELECT seq FROM messages WHERE id = ?)",
                    (hop, number, message),
                )
                wake_hop(db, hop, 0)

    # -- destinations

    def back_off(self, state: Backoff) -> None:
        """See `queue.interfaces.Spool.back_off`."""
        with self._spool.transaction() as db:
            if state.failures:
                db.execute(
                    "INSERT INTO hops (hop, at, until, failures, since, text)"
                    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (hop)"
                    " DO UPDATE SET until = excluded.until, failures = excluded.failures,"
                    " since = excluded.since, text = excluded.text",
                    (
                        state.hop,
                        IDLE,
                        state.until,
                        state.failures,
                        state.since,
                        storable(state.text),
                    ),
                )
            else:
                db.execute(
                    "UPDATE hops SET until = 0, failures = 0, since = 0, text = '' WHERE hop = ?",
                    (state.hop,),
                )
            _look_when_due(db, state.hop, state.until if state.failures else 0, state.failures)

    def backoffs(self, hops: Sequence[str]) -> dict[str, Backoff]:
        """See `queue.interfaces.Spool.backoffs`."""
        found: dict[str, Backoff] = {}
        with self._spool.reading() as db:
            for hop in hops:
                row = db.execute(
                    "SELECT hop, until, failures, since, text FROM hops"
                    " WHERE hop = ? AND failures > 0",
                    (hop,),
                ).fetchone()
                if row is not None:
                    found[hop] = Backoff(*row)
        return found

    # -- messages whose time has come

    def expired(self, now: float, limit: int) -> list[tuple[int, int]]:
        """See `queue.interfaces.Spool.expired`; for `taken`."""
        keys: list[tuple[int, int]] = []
        with self._spool.transaction() as db:
            held: list[tuple[int]] = []
            # Whatever is active of the first ones, which is a window at most: those behind them expire, too.
            for (seq,) in db.execute(
                "SELECT seq FROM messages WHERE deadline <= ? ORDER BY deadline", (now,)
            ):
                states = db.execute(
                    "SELECT n, state FROM recipients WHERE seq = ? AND state < 4 ORDER BY n", (seq,)
                ).fetchall()
                if all(state == State.HELD for _, state in states):
                    # Nothing expires that somebody holds; a release sets it again.
                    held.append((seq,))
                keys += [
                    (seq, n) for n, state in states if state in (State.WAITING, State.DEFERRED)
                ]
                if len(keys) >= limit or len(held) >= TAKEN:
                    break
            db.executemany("UPDATE messages SET deadline = NULL WHERE seq = ?", held)
        return keys

    def overdue(self, now: float, limit: int) -> list[tuple[int, int]]:
        """See `queue.interfaces.Spool.overdue`; for `taken`."""
        keys: list[tuple[int, int]] = []
        with self._spool.reading() as db:
            for (seq,) in db.execute(
                "SELECT seq FROM messages WHERE warn <= ? ORDER BY warn LIMIT ?", (now, limit)
            ).fetchall():
                keys += db.execute(
                    "SELECT seq, n FROM recipients WHERE seq = ? AND state < 4 ORDER BY n", (seq,)
                )
                if len(keys) >= limit:
                    break
        return keys

    def active(self, ids: Sequence[str]) -> list[tuple[int, int]]:
        """Which recipients of these messages are ACTIVE; for `taken`."""
        with self._spool.reading() as db:
            keys: list[tuple[int, int]] = []
            for message in ids:
                keys += db.execute(
                    "SELECT r.seq, r.n FROM recipients r JOIN messages m ON m.seq = r.seq"
                    " WHERE m.id = ? AND r.state = 1",
                    (message,),
                )
            return keys

    def taken(self, keys: Sequence[tuple[int, int]]) -> list[Taken]:
        """The recipients of these keys, but for what is forgotten by now."""
        with self._spool.reading() as db:
            return self._messages.taken(db, keys)


def _due(
    db: sqlite3.Connection, hop: str, now: float, want: int, flushed: float, flushed_to: float
) -> tuple[list[tuple[int, int]], bool]:
    """At most `want` recipients of a hop, and whether there are more."""
    rows: list[tuple[int, int]] = db.execute(
        "SELECT seq, n FROM recipients WHERE hop = ? AND due <= ? ORDER BY due LIMIT ?",
        (hop, now, want + 1),
    ).fetchall()
    if len(rows) > want:
        return rows[:want], True
    if not flushed:
        return rows, False
    # A flush goes once through what is due later; what has been tried since is passed over.
    later = db.execute(
        "SELECT seq, n, due, tried FROM recipients WHERE hop = ? AND due > ? ORDER BY due LIMIT ?",
        (hop, max(now, flushed_to), SKIPPED),
    ).fetchall()
    whole = len(later) < SKIPPED
    if not whole:
        # All of the last instant: the mark goes on behind it. What is put back together has one, a window at most.
        last = later[-1][2]
        later = [row for row in later if row[2] < last]
        later += db.execute(
            "SELECT seq, n, due, tried FROM recipients WHERE hop = ? AND due = ?", (hop, last)
        ).fetchall()
    reached = flushed_to
    for seq, n, due, tried in later:
        if len(rows) >= want:
            # Rows of the same instant are met again: none is left out.
            reached -= 1e-3
            break
        reached = due
        if tried is None or tried < flushed:
            rows.append((seq, n))
    else:
        if whole:
            db.execute("UPDATE hops SET flushed = 0, flushed_to = 0 WHERE hop = ?", (hop,))
            return rows, False
    db.execute("UPDATE hops SET flushed_to = ? WHERE hop = ?", (max(flushed_to, reached), hop))
    return rows, True


def _activate(db: sqlite3.Connection, keys: Sequence[tuple[int, int]]) -> None:
    db.executemany("UPDATE recipients SET state = 1, due = NULL WHERE seq = ? AND n = ?", keys)


def _look_again(db: sqlite3.Connection, hop: str, at: float) -> None:
    db.execute("UPDATE hops SET at = ? WHERE hop = ?", (at, hop))


def _look_when_due(db: sqlite3.Connection, hop: str, until: float, failures: int) -> None:
    """When the first of what is left is due; a hop without anything is forgotten, unless it fails."""
    (first,) = db.execute(
        "SELECT min(due) FROM recipients WHERE hop = ? AND due IS NOT NULL", (hop,)
    ).fetchone()
    if first is not None:
        _look_again(db, hop, max(first, until))
    elif failures:
        _look_again(db, hop, IDLE)
    else:
        db.execute("DELETE FROM hops WHERE hop = ?", (hop,))


def _wake(db: sqlite3.Connection) -> float | None:
    times = db.execute(
        "SELECT (SELECT min(at) FROM hops),"
        " (SELECT min(deadline) FROM messages WHERE deadline IS NOT NULL),"
        " (SELECT min(warn) FROM messages WHERE warn IS NOT NULL)"
    ).fetchone()
    return min((time for time in times if time is not None and time < IDLE), default=None)
