"""The spool: what is on the disk of the queue, ``queue/`` (a file a message) and ``queue.sqlite3`` (who and when).

    queue/<xx>/<id>      the content, linked from where the journal wrote it; gone when the message is over
    queue.sqlite3        messages, recipients, attempts, destinations (`spool_tables`)

Everything that counts comes through the journal: `fill` after a commit, `settle` at a replay, both doing the same thing
however often: a message that is known is not added again, a recipient that is over stays so. What is not journaled
(who is active, back-offs) is only about *when*: losing it means trying too early, never not at all.

All methods block and may be called in any thread; the connection is used by one at a time.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from twisted.logger import Logger

from ..disk import Disk, make_directories
from .maildir import read_file
from .queued import Attempt, Change, QueuedMessage, State
from .spool_rows import insert_message
from .spool_tables import open_tables
from .transaction import transaction

__all__ = ["Item", "Spool", "SpoolSource"]

_log = Logger()
ATTEMPTS = 500
"""Attempts that are kept of a message, the latest ones."""


class SpoolSource(Protocol):
    """A committed message's bytes (`storage.source`)."""

    def link(self, target: str) -> None: ...
    def replace(self, target: str) -> None: ...


@dataclass(slots=True)
class Item:
    """What one record says of the queue: a message to add, with its bytes, and changes; either may be missing.

    `crc`: of the content, given when a file that is there already may be damaged. `applied`: the changes were made,
    even if the message could not be added (`error`); changes of long ago must not be made again. `again`: they may have
    been made before, and the queue has run on since.
    """

    message: QueuedMessage | None
    source: SpoolSource | None
    changes: Sequence[Change] = ()
    crc: int | None = None
    error: Exception | None = None
    applied: bool = False
    again: bool = False


class Spool:
    """The spool in the data directory `data`.

    `claim`, `claimed` and `dropped`: see `queue.interfaces.Spool.attach`; `waiting`: there is new mail that nobody here
    has claimed. All are called in the thread that fills.
    """

    def __init__(self, disk: Disk, data: str) -> None:
        self._disk = disk
        self.directory = os.path.join(data, "queue")
        self._database = os.path.join(data, "queue.sqlite3")
        self._db: sqlite3.Connection | None = None
        self._turn = -1
        self._mutex = threading.Lock()
        self._made: set[str] = set()
        self._version: int | None = None
        self._settled = False
        self.claim: Callable[[QueuedMessage], bool] | None = None
        self.claimed: Callable[[Sequence[QueuedMessage]], None] | None = None
        self.dropped: Callable[[Sequence[QueuedMessage]], None] | None = None
        self.waiting: Callable[[], None] | None = None

    # -- the connection

    def prepare(self) -> None:
        """See that mail can be queued. Raises what keeps it from that."""
        with self._mutex:
            self._connection()

    def close(self) -> None:
        with self._mutex:
            db, self._db = self._db, None
            if db is not None:
                db.close()
            turn, self._turn = self._turn, -1
            if turn >= 0:
                self._disk.close(turn)

    def changed(self) -> bool:
        """Whether another connection, or `settle`, has changed the rows since this was last asked. Never waits."""
        if not self._mutex.acquire(blocking=False):
            return False
        try:
            if self._db is None:
                return False
            version = self._db.execute("PRAGMA data_version").fetchone()[0]
            known, self._version = self._version, version
            settled, self._settled = self._settled, False
            return settled or (known is not None and version != known)
        finally:
            self._mutex.release()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for look-ups."""
        with self._mutex:
            yield self._connection()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The connection in a transaction that is committed at the end, and taken back when something is raised."""
        with self._mutex:
            connection = self._connection()
            # SQLite lets who waits for another process sleep, for milliseconds, and look again: mail would wait, too.
            self._disk.flock(self._turn, fcntl.LOCK_EX)
            try:
                with transaction(connection) as db:
                    yield db
            finally:
                self._disk.flock(self._turn, fcntl.LOCK_UN)

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            if not self._disk.exists(self.directory):
                make_directories(self._disk, self.directory)
            held = self._disk.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                # SQLite lets nobody wait for who makes the file (journal_mode): it says that it is locked.
                self._disk.flock(held, fcntl.LOCK_EX)
                db = open_tables(self._disk, self._database)
            except BaseException:
                self._disk.close(held)
                raise
            self._disk.flock(held, fcntl.LOCK_UN)
            self._db, self._turn = db, held
            self._version = self._db.execute("PRAGMA data_version").fetchone()[0]
        return self._db

    # -- what the journal says

    def fill(self, items: Sequence[Item]) -> None:
        """After a commit. What cannot be done now gets its `Item.error`; the rest is done."""
        self._do(items, short=True)

    def settle(self, items: Sequence[Item]) -> None:
        """At a replay, in the order of the journal: `fill`, for what may have been done already."""
        self._do(items, short=False)
        # Who runs the queue does not know of it, even if it is this process.
        self._settled = True

    def _do(self, items: Sequence[Item], *, short: bool) -> None:
        claims: list[QueuedMessage] = []
        if short:
            # Not while other processes wait for the rows.
            for item in items:
                if item.message is not None:
                    try:
                        self._link(item.message, item)
                    except OSError as error:
                        item.error = error
        try:
            over = self._rows(items, short, claims)
        except Exception as error:
            if claims and self.dropped is not None:
                self.dropped(claims)
            if len(items) > 1 and not isinstance(error, sqlite3.OperationalError):
                # What cannot be stored keeps nothing else from it.
                for item in items:
                    self._do([item], short=False)
                self._settled = True
                return
            for item in items:
                item.error = item.error or error
            return
        for item in items:
            item.applied = True
        for message in over:
            self.forget_file(message)
        if claims and self.claimed is not None:
            self.claimed(claims)
        if self.waiting is not None and len(claims) < sum(one.message is not None for one in items):
            self.waiting()

    def _rows(
        self,
        items: Sequence[Item],
        short: bool,
        claims: list[QueuedMessage],
    ) -> list[str]:
        """Returns the ids of messages that are over. `short`: new ones may be claimed."""
        over: dict[str, None] = {}
        with self.transaction() as db:
            # Not before the connection is ours: who has stopped running the queue claims nothing more.
            claim = self.claim if short else None
            for item in items:
                message = item.message
                if message is not None and not (short and item.error is not None):
                    try:
                        if self._add(db, item, message, claim, claims, linked=short):
                            over[message.id] = None
                    except OSError as error:
                        item.error = error
                for change in item.changes:
                    if apply(db, change, again=item.again):
                        over[change.message] = None
        return list(over)

    def _add(
        self,
        db: sqlite3.Connection,
        item: Item,
        message: QueuedMessage,
        claim: Callable[[QueuedMessage], bool] | None,
        claims: list[QueuedMessage],
        *,
        linked: bool,
    ) -> bool:
        """`linked`: the file is there. True when it is not to be: the message is over."""
        known = db.execute("SELECT finished FROM messages WHERE id = ?", (message.id,)).fetchone()
        if known is not None:
            if known[0] is not None:
                return linked
            self._check_file(message, item)
            return False
        if not linked:
            self._link(message, item)
        if message.held:
            seq = insert_message(db, message, State.HELD)
            why = Attempt(message.arrived, "", "", "", f"held: {message.held}")
            _record(db, seq, (why,), (_key(why),))
            return False
        active = claim is not None and claim(message)
        if active:
            claims.append(message)
        insert_message(db, message, State.ACTIVE if active else State.WAITING)
        return False

    # -- files

    def path(self, message: str) -> str:
        """Where the content of a message lies."""
        return os.path.join(self.directory, message[:2], message)

    def _link(self, message: QueuedMessage, item: Item) -> None:
        assert item.source is not None
        path = self.path(message.id)
        directory = os.path.dirname(path)
        if directory not in self._made:
            if not self._disk.exists(directory):
                # Not synced, as what is linked there is not: the record stays until all of it is.
                try:
                    self._disk.mkdir(directory)
                except FileExistsError:
                    pass
                except FileNotFoundError:
                    make_directories(self._disk, directory)
            self._made.add(directory)
        try:
            item.source.link(path)
        except FileNotFoundError:
            # Somebody has tidied up.
            make_directories(self._disk, directory)
            item.source.link(path)
        except FileExistsError:
            # A replay: linked, and the rows were lost.
            self._check_file(message, item)

    def _check_file(self, message: QueuedMessage, item: Item) -> None:
        """The message is known and not over: its file is to be there, and on another boot to be whole."""
        assert item.source is not None
        path = self.path(message.id)
        if not self._disk.exists(path):
            self._made.discard(os.path.dirname(path))
            make_directories(self._disk, os.path.dirname(path))
            item.source.link(path)
        elif item.crc is not None and not self._whole(path, message.size, item.crc):
            item.source.replace(path)

    def _whole(self, path: str, size: int, crc: int) -> bool:
        return (
            self._disk.stat(path).st_size == size
            and zlib.crc32(read_file(self._disk, path, size)) == crc
        )

    def forget_file(self, message: str) -> None:
        """Remove the content of a message that is over. Never raises."""
        try:
            self._disk.unlink(self.path(message))
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.error("the file of {message} stays: {error}", message=message, error=str(error))

    def strays(self) -> int:
        """How many files there are without rows, when there are no rows at all."""
        with self.reading() as db:
            if db.execute("SELECT 1 FROM messages LIMIT 1").fetchone():
                return 0
        count = 0
        for name in self._disk.names(self.directory):
            try:
                count += len(self._disk.names(os.path.join(self.directory, name)))
            except NotADirectoryError:
                continue
        return count

    def known(self, messages: Sequence[str]) -> set[str]:
        """Which of these ids have rows."""
        with self.reading() as db:
            return {
                message
                for message in messages
                if db.execute("SELECT 1 FROM messages WHERE id = ?", (message,)).fetchone()
            }


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
    keys = [_key(attempt) for attempt in change.attempts]
    if keys:
        _record(db, seq, change.attempts, keys)
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


def _record(
    db: sqlite3.Connection, seq: int, attempts: Sequence[Attempt], keys: Sequence[int]
) -> None:
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
