"""Messages and recipients of the queue as rows, and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

from .queued import Attempt, Options, QueuedMessage, QueuedRecipient, State, Taken

__all__ = ["Messages", "insert_message"]

_PLAIN: Final = Options()
_MESSAGE: Final = (
    "SELECT coalesce(deadline, expires), id, sender, arrived, expires, warn, options, skip, size, wire"
    " FROM messages WHERE seq = ?"
)


def insert_message(db: sqlite3.Connection, message: QueuedMessage, state: State) -> int:
    """Add a message that is not there, and give its `seq`; every recipient in `state`: WAITING (due at once), ACTIVE,
    or HELD, which has no end and no warning before somebody lets it go."""
    options = "" if message.options == _PLAIN else json.dumps(message.options)
    seq = db.execute(
        "INSERT INTO messages (id, sender, arrived, expires, deadline, warn, options, skip, size,"
        " wire, unfinished) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            message.id,
            message.sender,
            message.arrived,
            message.expires,
            None if state is State.HELD else message.expires,
            message.warn,
            options,
            message.skip,
            message.size,
            message.wire,
            len(message.recipients),
        ),
    ).lastrowid
    assert seq is not None
    due = message.arrived if state is State.WAITING else None
    db.executemany(
        "INSERT INTO recipients (seq, n, address, hop, notify, orcpt, origin, mail_from, state, due)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (seq, n, to.address, to.hop, to.notify, to.orcpt, to.origin, to.mail_from, state, due)
            for n, to in enumerate(message.recipients)
        ],
    )
    if due is not None:
        db.executemany(
            "INSERT INTO hops (hop, at) VALUES (?, ?) ON CONFLICT (hop)"
            " DO UPDATE SET at = min(at, max(excluded.at, until))",
            {(to.hop, due) for to in message.recipients},
        )
    return seq


class Messages:
    """Reads messages; while somebody holds one, it is not read again. Memory is the holders' matter."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[str, QueuedMessage] = WeakValueDictionary()

    def get(self, db: sqlite3.Connection, seq: int) -> QueuedMessage:
        """The message with all its recipients."""
        return self._made(db, seq, db.execute(_MESSAGE, (seq,)).fetchone())

    def _made(self, db: sqlite3.Connection, seq: int, row: Sequence[Any]) -> QueuedMessage:
        _, id_, sender, arrived, expires, warn, options, skip, size, wire = row
        known = self._known.get(id_)
        if known is not None:
            return known
        recipients = tuple(
            QueuedRecipient(*row)
            for row in db.execute(
                "SELECT address, hop, notify, orcpt, origin, mail_from FROM recipients"
                " WHERE seq = ? ORDER BY n",
                (seq,),
            )
        )
        message = self._known[id_] = QueuedMessage(
            id_,
            sender,
            recipients,
            arrived,
            expires,
            warn,
            Options(*json.loads(options)) if options else _PLAIN,
            skip,
            size,
            wire,
        )
        return message

    def forget(self, message: str) -> None:
        """Its recipients' hops are others now."""
        self._known.pop(message, None)

    def taken(self, db: sqlite3.Connection, keys: Iterable[tuple[int, int]]) -> list[Taken]:
        """The recipients with these (seq, n), as the runner sees them; without those that are forgotten."""
        found: list[Taken] = []
        messages: dict[int, tuple[QueuedMessage, float]] = {}
        for seq, n in keys:
            if seq not in messages:
                row = db.execute(_MESSAGE, (seq,)).fetchone()
                if row is None:
                    continue
                messages[seq] = (self._made(db, seq, row), row[0])
            message, expires = messages[seq]
            tries, *last = db.execute(
                "SELECT r.tries, a.at, a.host, a.address, a.tls, a.text FROM recipients r"
                " LEFT JOIN attempts a ON a.seq = r.seq AND a.at = r.tried AND a.key = r.last"
                " WHERE r.seq = ? AND r.n = ?",
                (seq, n),
            ).fetchone()
            attempt = Attempt(*last) if last[0] is not None else None
            found.append(Taken(message, n, tries, attempt, expires))
        return found
