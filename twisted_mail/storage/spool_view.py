"""The queue as people look at it and tidy it: pages, one message's story, numbers, a flush, the forgetting of old ones.

Beside a running server, from another process (`mailctl queue`). Memory and time are bounded by a page, whatever the
queue's size, but for `stats`, which counts (a fraction of a second for a million), and filters that hardly any row
passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .queued import Attempt, Backoff, QueuedMessage, State
from .spool import Spool
from .spool_rows import Messages

__all__ = ["PRUNED", "Filter", "Listed", "RecipientStory", "Stats", "Story", "View"]

FLUSHED = 5000
"""Destinations changed in one transaction, for which deliveries wait."""
PRUNED = 200
"""Messages forgotten in one transaction."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which recipients; what is None or empty does not matter. Without `states`: all that are not over.

    `domain`: of the recipient's address; `sender` and `recipient`: part of the address, in any case of letters.
    """

    domain: str | None = None
    sender: str | None = None
    recipient: str | None = None
    states: tuple[State, ...] = ()


class Listed(NamedTuple):
    """One recipient in a list. `seq` is the mark to go on after, with `number`; `due` None: not to be tried.
    `last`: what its last try came to; of one that is held, the latest that was noted of its message without a peer.

    `until` and `trouble`: the destination's back-off, 0 and "" when it has none.
    """

    seq: int
    number: int
    id: str
    sender: str
    recipient: str
    hop: str
    state: State
    arrived: float
    size: int
    due: float | None
    tries: int
    last: str
    until: float
    trouble: str


class RecipientStory(NamedTuple):
    """One recipient of `Story`. `last` of its `tries`; None when that is not kept any more."""

    number: int
    state: State
    due: float | None
    tries: int
    tried: float | None
    backoff: Backoff | None
    last: Attempt | None


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of one message; `attempts` in the order of time."""

    message: QueuedMessage
    finished: float | None
    recipients: tuple[RecipientStory, ...]
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Stats:
    """`recipients` by state; `messages` and `octets` of those not over; `oldest`: seconds since 1970, or None.

    `destinations` that something waits for, and `failing` of all.
    """

    recipients: dict[State, int]
    messages: int
    octets: int
    oldest: float | None
    destinations: int
    failing: int


class View:
    """Looks at `spool`."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._messages = Messages()

    def page(
        self, which: Filter, after: tuple[int, int] | None = None, limit: int = 100
    ) -> list[Listed]:
        """At most `limit` recipients, in the order of arrival, behind the mark (seq, number) `after`."""
        where = ["(r.seq, r.n) > (?, ?)"]
        values: list[object] = list(after or (0, -1))
        if which.states:
            where.append(f"r.state IN ({', '.join('?' * len(which.states))})")
            values += map(int, which.states)
        else:
            where.append("r.state < 4")
        if which.domain is not None:
            where.append("r.address LIKE ? ESCAPE '\\'")
            values.append(f"%@{_escaped(which.domain)}")
        if which.recipient is not None:
            where.append("r.address LIKE ? ESCAPE '\\'")
            values.append(f"%{_escaped(which.recipient)}%")
        if which.sender is not None:
            if which.sender in ("", "<>"):
                where.append("m.sender = ''")
            else:
                where.append("m.sender LIKE ? ESCAPE '\\'")
                values.append(f"%{_escaped(which.sender)}%")
        query = (
            "SELECT r.seq, r.n, m.id, m.sender, r.address, r.hop, r.state, m.arrived, m.size,"  # noqa: S608
            " r.due, r.tries, coalesce(CASE r.state WHEN 3 THEN"
            " (SELECT text FROM attempts WHERE seq = r.seq AND host = '' AND address = ''"
            " AND text LIKE 'held%' ORDER BY at DESC LIMIT 1) END, a.text, ''),"
            " coalesce(h.until, 0), coalesce(h.text, '')"
            " FROM recipients r CROSS JOIN messages m ON m.seq = r.seq"
            " LEFT JOIN attempts a ON a.seq = r.seq AND a.at = r.tried AND a.key = r.last"
            " LEFT JOIN hops h ON h.hop = r.hop AND h.failures > 0"
            f" WHERE {' AND '.join(where)} ORDER BY r.seq, r.n LIMIT ?"
        )
        with self._spool.reading() as db:
            return [
                Listed._make((*row[:6], State(row[6]), *row[7:]))
                for row in db.execute(query, (*values, limit))
            ]

    def story(self, id_: str) -> Story | None:
        """Of one message; None when there is none, or it was over long ago."""
        with self._spool.reading() as db:
            row = db.execute("SELECT seq, finished FROM messages WHERE id = ?", (id_,)).fetchone()
            if row is None:
                return None
            seq, finished = row
            message = self._messages.get(db, seq)
            recipients = []
            for n, hop, state, due, tries, tried, *last in db.execute(
                "SELECT r.n, r.hop, r.state, r.due, r.tries, r.tried,"
                " a.at, a.host, a.address, a.tls, a.text FROM recipients r"
                " LEFT JOIN attempts a ON a.seq = r.seq AND a.at = r.tried AND a.key = r.last"
                " WHERE r.seq = ? ORDER BY r.n",
                (seq,),
            ).fetchall():
                failing = db.execute(
                    "SELECT hop, until, failures, since, text FROM hops"
                    " WHERE hop = ? AND failures > 0",
                    (hop,),
                ).fetchone()
                backoff = Backoff(*failing) if failing is not None else None
                attempt = Attempt(*last) if last[0] is not None else None
                recipients.append(
                    RecipientStory(n, State(state), due, tries, tried, backoff, attempt)
                )
            attempts = tuple(
                Attempt(*one)
                for one in db.execute(
                    "SELECT at, host, address, tls, text FROM attempts WHERE seq = ?"
                    " ORDER BY at, key",
                    (seq,),
                )
            )
            return Story(message, finished, tuple(recipients), attempts)

    def stats(self) -> Stats:
        """Numbers of the whole queue."""
        with self._spool.reading() as db:
            recipients = {
                State(state): number
                for state, number in db.execute(
                    "SELECT state, count(*) FROM recipients GROUP BY state"
                )
            }
            messages, octets, oldest = db.execute(
                "SELECT count(*), coalesce(sum(size), 0), min(arrived) FROM messages"
                " WHERE finished IS NULL"
            ).fetchone()
            (destinations,) = db.execute("SELECT count(*) FROM hops WHERE at < 8e99").fetchone()
            (failing,) = db.execute("SELECT count(*) FROM hops WHERE failures > 0").fetchone()
        return Stats(recipients, messages, octets, oldest, destinations, failing)

    def flush(self, now: float, hops: Sequence[str] | None = None) -> None:
        """All that was tried before `now` is due, back-offs are lifted; of these hops, or of all."""
        last = ""
        pending = sorted(hops) if hops is not None else None
        while True:
            with self._spool.transaction() as db:
                if pending is None:
                    batch = [
                        hop
                        for (hop,) in db.execute(
                            "SELECT hop FROM hops WHERE hop > ? ORDER BY hop LIMIT ?",
                            (last, FLUSHED),
                        )
                    ]
                    if last == "":
                        batch = ["", *batch]
                else:
                    batch, pending = pending[:FLUSHED], pending[FLUSHED:]
                db.executemany(
                    "UPDATE hops SET flushed = ?, flushed_to = 0, until = 0,"
                    " at = CASE WHEN at >= 8e99 THEN at ELSE 0 END WHERE hop = ?",
                    [(now, hop) for hop in batch],
                )
            if not batch or batch == [""]:
                return
            last = batch[-1]

    def hops_of(self, domain: str) -> list[str]:
        """Through which hops mail for a domain waits."""
        with self._spool.reading() as db:
            return [
                hop
                for (hop,) in db.execute(
                    "SELECT DISTINCT hop FROM recipients WHERE state < 4"
                    " AND address LIKE ? ESCAPE '\\'",
                    (f"%@{_escaped(domain)}",),
                )
            ]

    def prune(self, before: float, keep: int) -> int:
        """Forget finished messages: those of before `before`, and all but the latest `keep`; some at a time.

        Returns how many were forgotten: with PRUNED there may be more.
        """
        with self._spool.transaction() as db:
            row = db.execute(
                "SELECT finished FROM messages WHERE finished IS NOT NULL"
                " ORDER BY finished DESC LIMIT 1 OFFSET ?",
                (keep,),
            ).fetchone()
            limit = before if row is None else max(before, row[0])
            old = db.execute(
                "SELECT seq, id FROM messages WHERE finished <= ? ORDER BY finished LIMIT ?",
                (limit, PRUNED),
            ).fetchall()
            rows = [(seq,) for seq, _ in old]
            for table in ("messages", "recipients", "attempts"):
                db.executemany(f"DELETE FROM {table} WHERE seq = ?", rows)  # noqa: S608
        for _, message in old:
            # Gone as a rule; one that could not be deleted when the message was over goes now.
            self._spool.forget_file(message)
        return len(old)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
