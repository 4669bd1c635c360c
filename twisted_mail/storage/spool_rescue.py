"""What can be had back when ``queue.sqlite3`` is damaged or lost: rows that can still be read, and kept envelopes.

`salvage` reads a damaged database in ever smaller pieces, so that a bad page hides what is on it and no more. A message
counts when its recipients are all there, as its own row says how many have to be. `refill` puts what was found into new
tables. Of the envelope the copy that has a checksum is believed (`storage.envelopes`, the journal), of how far each
recipient has come the rows. Who was being sent to waits again: better twice than never. Attempts and back-offs are
forgotten.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from .envelopes import Envelope, Progress
from .queued import Options, QueuedMessage, QueuedRecipient, State
from .spool_rows import insert_message

__all__ = ["Refilled", "refill", "salvage", "salvage_file"]

TRIES: Final = 50_000
"""Questions to a damaged database, at most: each bad page costs some dozens."""
TOGETHER: Final = 2_000
HIGHEST: Final = 1_000_000_000
"""No queue comes to this row; a flipped bit may."""
_LAST: Final = (
    "SELECT max(seq) FROM messages",
    "SELECT max(seq) FROM recipients",
    # The index of the ids has the numbers of the rows, too
    "SELECT max(seq) FROM (SELECT seq FROM messages INDEXED BY sqlite_autoindex_messages_1 WHERE id >= '')",
)
_MESSAGES: Final = (
    "SELECT seq, id, sender, arrived, expires, warn, options, skip, size, wire, unfinished FROM messages"
    " WHERE seq BETWEEN ? AND ? AND finished IS NULL"
)
_RECIPIENTS: Final = (
    "SELECT seq, n, address, hop, notify, orcpt, origin, mail_from, state, due, tries FROM recipients"
    " WHERE seq BETWEEN ? AND ? ORDER BY seq, n"
)


@dataclass(frozen=True, slots=True)
class Refilled:
    """How many messages are there again: by their rows, and by their envelopes alone."""

    rows: int = 0
    envelopes: int = 0


def salvage_file(path: str) -> dict[str, Envelope]:
    """`salvage`, of the file `path`, which stays as it is. Nothing when it is no database at all."""
    try:
        with closing(
            sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=5)
        ) as database:
            return salvage(database)
    except sqlite3.Error:
        return {}


def salvage(db: sqlite3.Connection) -> dict[str, Envelope]:
    """The messages that are not over and can be read, by their ids."""
    last = 0
    for question in _LAST:
        with suppress(sqlite3.Error, TypeError):
            found_last = db.execute(question).fetchone()[0] or 0
            last = max(last, found_last if 0 < found_last <= HIGHEST else 0)
    found: dict[str, Envelope] = {}
    tries = [TRIES]
    for first in range(1, last + 1, TOGETHER):
        end = min(first + TOGETHER - 1, last)
        recipients: dict[int, list[Sequence[Any]]] = {}
        for row in _readable(db, _RECIPIENTS, first, end, tries):
            recipients.setdefault(row[0], []).append(row)
        for row in _readable(db, _MESSAGES, first, end, tries):
            one = _envelope(row, recipients.get(row[0], ()))
            if one is not None:
                found[one.message.id] = one
    return found


def _readable(
    db: sqlite3.Connection, question: str, first: int, last: int, tries: list[int]
) -> Iterator[Sequence[Any]]:
    """The rows between two numbers, without those that cannot be read."""
    pieces = [(first, last)]
    while pieces and tries[0] > 0:
        first, last = pieces.pop()
        try:
            rows = db.execute(question, (first, last)).fetchall()
        except (sqlite3.Error, OverflowError, UnicodeDecodeError):
            tries[0] -= 1
            if first < last:
                middle = (first + last) // 2
                pieces += [(middle + 1, last), (first, middle)]
            continue
        yield from rows


def _envelope(row: Sequence[Any], recipients: Sequence[Sequence[Any]]) -> Envelope | None:
    """The message of a row; None when something of it is missing, or cannot be right."""
    _, id_, sender, arrived, expires, warn, options, skip, size, wire, unfinished = row
    try:
        if [one[1] for one in recipients] != list(range(len(recipients))):
            return None
        progress = [Progress(State(state), due, int(tries)) for *_, state, due, tries in recipients]
        waiting = sum(not State(one.state).final for one in progress)
        if not waiting or waiting != unfinished or not (id_.isascii() and id_.isalnum()):
            return None
        message = QueuedMessage(
            id_,
            str(sender),
            tuple(map(_recipient, recipients)),
            float(arrived),
            float(expires),
            None if warn is None else float(warn),
            Options(*json.loads(options)) if options else Options(),
            int(skip),
            int(size),
            int(wire),
        )
    except (ValueError, TypeError, AttributeError):
        return None
    return Envelope(message, tuple(progress))


def _recipient(row: Sequence[Any]) -> QueuedRecipient:
    address, hop, notify, orcpt, origin = map(_text, row[2:7])
    return QueuedRecipient(address, hop, notify, orcpt, origin, _text(row[7], None))


def _text(value: Any, otherwise: Any = "") -> Any:
    if isinstance(value, str):
        return value
    if value is None:
        return otherwise
    raise TypeError(value)


def refill(
    db: sqlite3.Connection,
    rows: Mapping[str, Envelope],
    kept: Iterable[Envelope],
    there: Callable[[str], bool],
) -> Refilled:
    """Add what the tables do not know, in a transaction of the caller's. `there`: whether the content of a message
    lies in the queue: what has none is over, or there is nothing of it to send.

    `kept`: the envelopes, in their order, then what the journal says of new mail (`progress` is empty).
    """
    count = {True: 0, False: 0}
    # Those with an envelope get the lower numbers, in their order: what comes behind is not written down yet.
    for one in kept:
        id_ = one.message.id
        if id_ in rows:
            now = rows[id_].progress
            if len(now) == len(one.message.recipients):
                one = Envelope(one.message, now)
        if there(id_) and _insert(db, one):
            count[id_ in rows] += 1
    for one in rows.values():
        if there(one.message.id):
            count[True] += _insert(db, one)
    return Refilled(count[True], count[False])


def _insert(db: sqlite3.Connection, one: Envelope) -> bool:
    message = one.message
    if db.execute("SELECT 1 FROM messages WHERE id = ?", (message.id,)).fetchone():
        return False
    new = State.HELD if message.held else State.WAITING
    states = [_state(progress) for progress in one.progress]
    states += [new] * (len(message.recipients) - len(states))
    if all(state.final for state in states):
        return False
    seq = insert_message(db, message, new if not one.progress else State.WAITING)
    for number, (state, progress) in enumerate(zip(states, one.progress, strict=False)):
        due = progress.due if state is State.DEFERRED else message.arrived
        db.execute(
            "UPDATE recipients SET state = ?, due = ?, tries = ? WHERE seq = ? AND n = ?",
            (state, due if state in _TAKEN else None, progress.tries, seq, number),
        )
    left = sum(not state.final for state in states)
    held = not any(state in _TAKEN for state in states)
    db.execute(
        "UPDATE messages SET unfinished = ?, deadline = iif(?, NULL, deadline) WHERE seq = ?",
        (left, held, seq),
    )
    return True


def _state(progress: Progress) -> State:
    state = State(progress.state)
    if state is State.DEFERRED and progress.due is None:
        return State.WAITING
    return State.WAITING if state is State.ACTIVE else state


_TAKEN: Final = (State.WAITING, State.DEFERRED)
