"""The spool: what is on the disk of the queue, ``queue/`` (a file a message) and ``queue.sqlite3`` (who and when).

    queue/<xx>/<id>      the content, linked from where the journal wrote it; gone when the message is over
    queue/envelopes/     whom what waits for long is for, once more (`envelopes`)
    queue.sqlite3        messages, recipients, attempts, destinations (`spool_tables`)

Everything that counts comes through the journal: `fill` after a commit, `settle` at a replay, both doing the same thing
however often: a message that is known is not added again, a recipient that is over stays so. What is not journaled
(who is active, back-offs) is only about *when*: losing it means trying too early, never not at all.

A database that is damaged is set aside, and made anew of what can be read of it, of the envelopes, and of the journal;
one that is lost of the latter two.

All methods block and may be called in any thread; the connection is used by one at a time.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from twisted.logger import Logger

from ..disk import Disk, make_directories
from .aside import is_corrupt, is_damage, set_aside
from .envelopes import Envelope, Envelopes
from .queued import Attempt, Change, QueuedMessage, State
from .spool_changes import apply, record_attempts
from .spool_rescue import refill, salvage, salvage_file
from .spool_rows import insert_message
from .spool_tables import TABLES, Damaged, open_tables
from .transaction import transaction

__all__ = ["Item", "Spool", "SpoolSource"]

_log = Logger()
CHECKED = 64 * 1024 * 1024
"""Octets of a database that is looked through at a start: two tenths of a second. Of a greater one damage is found when
it is met, or by ``mailctl verify``."""


class SpoolSource(Protocol):
    """A committed message's bytes (`storage.source`)."""

    def link(self, target: str) -> None: ...
    def mend(self, path: str) -> None: ...


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

    `recall`, of who has the journal: settles what that says of the queue, when the rows were lost; without it none are
    made anew; `accepted`: new mail that the journal has records of.
    `claim`, `claimed` and `dropped`: see `queue.interfaces.Spool.attach`; `waiting`: there is new mail that nobody here
    has claimed. All are called in the thread that fills.
    """

    def __init__(self, disk: Disk, data: str) -> None:
        self._disk = disk
        self.directory = os.path.join(data, "queue")
        self._database = os.path.join(data, "queue.sqlite3")
        self.envelopes = Envelopes(
            disk, os.path.join(self.directory, "envelopes"), self.reading, self.is_there
        )
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._refilled = False
        self._turn = -1
        self._mutex = threading.Lock()
        self._made: set[str] = set()
        self._version: int | None = None
        self._settled = False
        self.recall: Callable[[], None] | None = None
        self.accepted: Callable[[], Iterable[QueuedMessage]] | None = None
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
        try:
            with self._mutex:
                yield self._connection()
        except sqlite3.DatabaseError as error:
            self._met(error)
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The connection in a transaction that is committed at the end, and taken back when something is raised."""
        try:
            with self._mutex:
                connection = self._connection()
                # SQLite lets who waits for another process sleep, for milliseconds, and look again: so would mail.
                self._disk.flock(self._turn, fcntl.LOCK_EX)
                try:
                    if not self._current():
                        # Another process has made it anew while we waited.
                        connection = self._reopened()
                    with transaction(connection) as db:
                        yield db
                finally:
                    self._disk.flock(self._turn, fcntl.LOCK_UN)
        except sqlite3.DatabaseError as error:
            self._met(error)
            raise

    def _connection(self) -> sqlite3.Connection:
        if self._db is not None and self._current():
            return self._db
        if self._turn < 0:
            if not self._disk.exists(self.directory):
                make_directories(self._disk, self.directory)
            self._turn = self._disk.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        # SQLite lets nobody wait for who makes the file (journal_mode): it says that it is locked.
        self._disk.flock(self._turn, fcntl.LOCK_EX)
        try:
            return self._reopened()
        finally:
            self._disk.flock(self._turn, fcntl.LOCK_UN)

    def _current(self) -> bool:
        """Whether the file is still the one that is open."""
        try:
            return self._disk.stat(self._database).st_ino == self._inode
        except FileNotFoundError:
            return False

    # -- a database that is damaged or lost

    def check(self) -> None:
        """Look for damage, and mend it. For who is alone on the site: what the journal says comes after it."""
        try:
            with self._mutex:
                db = self._connection()
                if self._disk.stat(self._database).st_size > CHECKED:
                    return
                found = [text for (text,) in db.execute("PRAGMA quick_check(1)")]
                for table in TABLES:
                    db.execute(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            found = [str(error)]
        if found != ["ok"]:
            self.mend(found[0] if found else "damaged")
        elif self.strays():
            self._take_back()
        self._refilled = False

    def _take_back(self) -> None:
        """There is content and no row at all: somebody else has made the database, where one was lost. Or it came
        just before a crash: that is the journal's."""
        with self.transaction() as db:
            found = refill(db, {}, self._written_down(), self.is_there)
        if found.envelopes:
            _log.error(
                "{path} was empty: {envelopes} messages are in it again, by the envelopes in queue/envelopes",
                path=self._database,
                envelopes=found.envelopes,
            )

    def remember(self) -> None:
        """What the journal says of the queue, if the rows were made anew since this was last asked: once more."""
        if not self._refilled or self.recall is None:
            return
        self._refilled = False
        self.recall()
        with self.transaction() as db:
            # A record that was dropped just now has left its envelope.
            refill(db, {}, self.kept(), self.is_there)

    def _met(self, error: sqlite3.DatabaseError) -> None:
        """Who asked hears of it, and asks again."""
        if self.recall is not None and is_corrupt(error):
            self.mend(str(error))
            self.remember()

    def mend(self, why: str) -> None:
        """Make the database anew: it is damaged, as `why` says."""
        with self._mutex:
            self._disk.flock(self._turn, fcntl.LOCK_EX)
            try:
                if self._db is not None:
                    self._db.close()
                    self._db = None
                if self._current():
                    self._made_anew(why)
                else:
                    self._reopened()
            finally:
                self._disk.flock(self._turn, fcntl.LOCK_UN)

    def _reopened(self) -> sqlite3.Connection:
        """The connection to the file that is there now; made when there is none. The turn is ours."""
        old, self._db = self._db, None
        try:
            if not self._disk.exists(self._database):
                # What was left behind must not be played into the new one.
                set_aside(self._disk, self._database)
            try:
                db, made = open_tables(self._disk, self._database)
            except Damaged as error:
                if self.recall is None:
                    raise
                return self._made_anew(str(error))
            self._use(db)
            if made or (old and not db.execute("SELECT 1 FROM messages LIMIT 1").fetchone()):
                # Deleted, it may still be open here.
                self._refill("lost", salvage(old) if old is not None else {})
            return db
        finally:
            if old is not None:
                old.close()

    def _made_anew(self, why: str) -> sqlite3.Connection:
        aside = set_aside(self._disk, self._database)
        _log.error("{path} is damaged: {why}", path=self._database, why=why)
        rows = salvage_file(aside) if aside is not None else {}
        db, _ = open_tables(self._disk, self._database)
        self._use(db)
        self._refill(f"set aside as {aside}", rows)
        return db

    def _use(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._inode = self._disk.stat(self._database).st_ino
        self._version = db.execute("PRAGMA data_version").fetchone()[0]

    def _refill(self, what: str, rows: dict[str, Envelope]) -> None:
        assert self._db is not None
        if self.recall is None:
            return
        with transaction(self._db) as db:
            found = refill(db, rows, self.kept(), self.is_there)
        if rows or next(self._files(), None) is not None:
            self._settled = self._refilled = True
            _log.error(
                "{path} is {what}, and made anew: {rows} messages by the rows that could be read, {envelopes} by the"
                " envelopes in queue/envelopes; what the journal still has comes from there",
                path=self._database,
                what=what,
                rows=found.rows,
                envelopes=found.envelopes,
            )

    def kept(self) -> list[Envelope]:
        """All envelopes, and what the journal says of new mail. Never raises."""
        kept = {one.message.id: one for one in self._written_down()}
        if self.accepted is not None:
            try:
                for message in self.accepted():
                    kept.setdefault(message.id, Envelope(message, ()))
            except Exception as error:
                _log.error("the journal cannot be read: {error}", error=str(error))
        return list(kept.values())

    def _written_down(self) -> list[Envelope]:
        try:
            return list(self.envelopes.load())
        except OSError as error:
            _log.error("the envelopes cannot be read: {error}", error=str(error))
            return []

    def is_there(self, message: str) -> bool:
        """Whether its content lies in the queue."""
        return self._disk.exists(self.path(message))

    def keep_envelopes(self) -> None:
        """What waits is written down once more, before the journal forgets it. Never raises: it is the second copy."""
        try:
            self.envelopes.keep()
        except Exception as error:
            _log.error("envelopes are not kept: {error}", error=str(error))

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
            record_attempts(db, seq, (why,))
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
        elif item.crc is not None:
            item.source.mend(path)

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
        return sum(1 for _ in self._files())

    def _files(self) -> Iterator[str]:
        """The names of all contents that lie in the queue."""
        for name in self._disk.names(self.directory):
            if len(name) > 2:
                continue
            try:
                yield from self._disk.names(os.path.join(self.directory, name))
            except NotADirectoryError:
                continue

    def known(self, messages: Sequence[str]) -> set[str]:
        """Which of these ids have rows."""
        with self.reading() as db:
            return {
                message
                for message in messages
                if db.execute("SELECT 1 FROM messages WHERE id = ?", (message,)).fetchone()
            }
