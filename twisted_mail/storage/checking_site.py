"""What `mailctl verify` looks at of a site as a whole: its small files, the journal, what is parked, and the queue.

Beside a server that runs a message has content before it has rows, and a spill file before a record; segments come and
go. What seems wrong is looked at again (`Site.check`), and only what is wrong both times is told.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final

from ..disk import Disk
from .aside import remains
from .problems import Problem, check_database, exposed, patiently, read_only
from .segments import Loaded, Segments, load_file
from .site_file import SiteFile
from .spool import Spool
from .spool_rescue import refill
from .spool_tables import VERSION
from .story import queued

__all__ = ["Site", "server_is_up"]

CACHES: Final = ("reputation.sqlite3", "mta-sts.sqlite3", "reports.sqlite3", "stories.sqlite3")
ASIDE: Final = (
    *("site.json", "queue.sqlite3", *CACHES),
    *("journal/damaged-segment", "parked/damaged"),
)
LISTED: Final = 1000
"""Of the queue so many are told one by one."""
_AT_START: Final = (
    "the server makes it anew at its next start, of all that can be read; "
    "--repair does so now, when it is stopped"
)

_LOST_RECORDS: Final = (
    "the next start goes on without it: what was answered in the minutes before it stopped, and is not in its place"
    " yet, is lost; a backup may have it"
)
_ALWAYS: Final = frozenset({"site.json", "mail", "journal"})


class Site:
    """The site in the directory `data`. `deep`: the content of spill files is read. Methods block."""

    def __init__(self, disk: Disk, data: str, *, deep: bool = False) -> None:
        self._disk = disk
        self._data = data
        self._deep = deep
        self._journal = os.path.join(data, "journal")
        self._queue = os.path.join(data, "queue")
        self._database = os.path.join(data, "queue.sqlite3")

    def generation(self) -> int:
        """What the indexes of accounts are to be of. Raises OSError, ValueError."""
        site = SiteFile(self._disk, self._data)
        site.read()
        return site.generation

    def check(self, pause: Callable[[], object]) -> Iterator[Problem]:
        """All that is wrong. Between the two looks `pause` is called, which lets a moment pass. Raises OSError."""
        first = patiently(self._look)
        if not any(not problem.note for problem in first):
            yield from first
            return
        pause()
        again = {problem.key: problem for problem in patiently(self._look)}
        # As it is now: what mends it must not be of an earlier moment.
        yield from (again[problem.key] for problem in first if problem.key in again)

    def _look(self) -> Iterator[Problem]:
        yield from self._own()
        loaded = self._segments()
        yield from self._whole(loaded)
        yield from self._spilled(loaded)
        yield from self._parked()
        for name in CACHES:
            yield from check_database(self._disk, os.path.join(self._data, name), "cache")
        yield from self._rows(loaded)
        for name in ASIDE:
            path = os.path.join(self._data, name)
            if self._disk.exists(os.path.dirname(path)):
                for old in remains(self._disk, path):
                    text = "was set aside as damaged"
                    yield Problem("remains", old, text, "look at it, and remove it", note=True)

    # -- the site's own files

    def _own(self) -> Iterator[Problem]:
        yield from exposed(self._disk, self._data)
        path = os.path.join(self._data, "site.json")
        site = SiteFile(self._disk, self._data)
        try:
            site.read()
        except (ValueError, OSError) as error:
            yield Problem("site", path, str(error), "see the text")
        if site.damaged:
            yield Problem(
                "site", path, f"is damaged: {site.damaged}", "the next start makes it anew"
            )
        # Where a server has been, there are all.
        served = any(self._disk.exists(os.path.join(self._data, name)) for name in _ALWAYS)
        if served and not self._disk.exists(path):
            yield Problem("site", path, "is not there", "the next start makes it anew")
        owner = self._disk.stat(self._data).st_uid
        for name in ("mail", "journal", "queue", "parked", "dkim", "acme"):
            where = os.path.join(self._data, name)
            if self._disk.exists(where):
                yield from exposed(self._disk, where, owner)
            elif name in _ALWAYS and served:
                text = "is not there, with all that was in it"
                advice = "put it back, from a backup perhaps, before the next start begins with an empty one"
                yield Problem("site", where, text, advice)
        for name in self._disk.names(self._data):
            path = os.path.join(self._data, name)
            if name == "site.json.new" or name.startswith("accounts.sqlite3.new-"):
                text = "was begun and never finished"
                yield Problem("temporary", path, text, "it may be removed", note=True)

    # -- the journal

    def _segments(self) -> list[Loaded]:
        if not self._disk.exists(self._journal):
            return []
        segments = Segments(self._disk, self._journal, boot="", size=0, entropy=lambda _: b"")
        found: list[Loaded] = []
        for number in segments.numbers():
            try:
                found.append(segments.load(number))
            except FileNotFoundError:
                continue  # dropped just now
        return found

    def _whole(self, loaded: Sequence[Loaded]) -> Iterator[Problem]:
        last = None
        if not loaded and server_is_up(self._disk, self._data):
            text = "has no segment, and the server runs"
            yield Problem("journal", self._journal, text, "the next message makes one; see the log")
        for segment in loaded:
            path = os.path.join(self._journal, f"{segment.number}.log")
            if segment.damaged:
                text = f"{segment.damaged} octets are no whole record"
                yield Problem(
                    "journal", path, text, "what is whole is obeyed; the next start sets it aside"
                )
            elif segment.boot is None:
                # None is linked before its head is on the disk.
                text = "is empty: what it said is lost"
                yield Problem("journal", path, text, _LOST_RECORDS)
            elif segment.own != segment.number:
                text = f"is segment {segment.own} by what it says: somebody has renamed it"
                advice = f"stop the server, and call each by its number: {segment.own}.log"
                yield Problem("journal", path, text, advice)
            if last is not None and segment.number > last + 1:
                path = os.path.join(self._journal, f"{last + 1}.log")
                yield Problem("journal", path, "is not there, and later ones are", _LOST_RECORDS)
            last = segment.number

    def _spilled(self, loaded: Sequence[Loaded]) -> Iterator[Problem]:
        directory = os.path.join(self._journal, "spill")
        for segment in loaded:
            for found in segment.records:
                crc, size = found.meta.get("crc"), found.meta.get("size")
                for name in found.spills():
                    path = os.path.join(directory, name)
                    if not self._disk.exists(path):
                        if self._disk.exists(os.path.join(self._journal, f"{segment.number}.log")):
                            text = "a record names it, and it is not there"
                            yield Problem("journal", path, text, "what was filled from it is whole")
                    elif isinstance(size, int) and self._disk.stat(path).st_size != size:
                        text = f"has {self._disk.stat(path).st_size} octets, its record says {size}"
                        yield Problem("journal", path, text, "put it back from a backup")
                    elif self._deep and isinstance(crc, int) and _checksum(self._disk, path) != crc:
                        text = "is not what its record says"
                        yield Problem("journal", path, text, "put it back from a backup")

    def _parked(self) -> Iterator[Problem]:
        directory = os.path.join(self._data, "parked")
        if not self._disk.exists(directory):
            return
        waiting = 0
        for name in self._disk.names(directory):
            if not name.endswith(".log"):
                continue
            path = os.path.join(directory, name)
            try:
                found = load_file(self._disk, path)
            except FileNotFoundError:
                continue  # filled just now
            except OSError as error:
                yield Problem(
                    "parked", path, f"cannot be read: {error}", "the next start sets it aside"
                )
                continue
            waiting += 1
            if len(found.records) < 2 or found.damaged:
                yield Problem("parked", path, "is damaged", "the server sets it aside")
        if waiting:
            text = f"{waiting} places wait to be filled"
            yield Problem(
                "parked",
                directory,
                text,
                "the log says why; it is tried each half minute",
                note=True,
            )

    # -- the queue

    def _rows(self, loaded: Sequence[Loaded]) -> Iterator[Problem]:
        if not self._disk.exists(self._database):
            if any(True for _ in self._contents()):
                yield self._broken("is not there, and queued mail is", loaded)
            return
        try:
            with closing(read_only(self._database)) as db:
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version > VERSION:
                    text = f"is of version {version}, this program knows {VERSION}"
                    yield Problem("queue", self._database, text, "use the program that made it")
                    return
                if version != VERSION:
                    yield self._broken("is empty, or made by something else", loaded)
                    return
                found = [row[0] for row in db.execute("PRAGMA integrity_check(3)")]
                if found != ["ok"]:
                    yield self._broken(f"is damaged: {'; '.join(found)[:300]}", loaded)
                    return
                yield from self._agree(db, loaded)
        except sqlite3.OperationalError as error:
            yield Problem(
                "queue", self._database, f"cannot be read: {error}", "look who has it, and why"
            )
        except sqlite3.DatabaseError as error:
            yield self._broken(f"is damaged: {error}", loaded)

    def _broken(self, text: str, loaded: Sequence[Loaded]) -> Problem:
        return Problem(
            "queue",
            self._database,
            text.replace("\n", " "),
            _AT_START,
            lambda: self._make_anew(loaded),
        )

    def _agree(self, db: sqlite3.Connection, loaded: Sequence[Loaded]) -> Iterator[Problem]:
        contents = dict(self._contents())
        told = 0
        for id_, size in db.execute("SELECT id, size FROM messages WHERE finished IS NULL"):
            path = contents.pop(id_, None)
            try:
                text = self._content(id_, path, size)
            except FileNotFoundError:
                text = "its content is not there"
            if text and told < LISTED:
                told += 1
                where = path or os.path.join(self._queue, id_[:2], id_)
                advice = f"put it back from a backup, or: mailctl queue bounce {id_}"
                yield Problem("queue", where, f"message {id_}: {text}", advice)
        if contents:
            yield from self._strays(db, contents, loaded)
        for id_, _, _ in db.execute(
            "SELECT m.id, m.unfinished, count(r.state < 4 OR NULL) AS waiting FROM messages m"
            " LEFT JOIN recipients r ON r.seq = m.seq WHERE m.finished IS NULL GROUP BY m.seq"
            " HAVING m.unfinished <> waiting LIMIT ?",
            (LISTED,),
        ):
            yield Problem(
                "queue",
                self._database,
                f"message {id_}: its recipients are not as many as it says",
                "--repair counts them",
                self._count,
            )
        for (hop,) in db.execute(
            "SELECT DISTINCT hop FROM recipients WHERE due IS NOT NULL AND state < 4"
            " AND hop NOT IN (SELECT hop FROM hops) LIMIT ?",
            (LISTED,),
        ):
            yield Problem(
                "queue",
                self._database,
                f"mail waits for {hop or 'a notice'!r}, and nobody would look at it",
                "--repair makes it due",
                self._wake,
            )

    def _content(self, id_: str, path: str | None, size: int) -> str:
        """What is wrong with it, "" when nothing is."""
        if path is None:
            path = os.path.join(self._queue, id_[:2], id_)
        if os.path.islink(path):
            return "its content is a link, which nothing here makes"
        there = self._disk.stat(path).st_size
        return "" if there == size else f"its content has {there} octets, its row says {size}"

    def _strays(
        self, db: sqlite3.Connection, contents: dict[str, str], loaded: Sequence[Loaded]
    ) -> Iterator[Problem]:
        """Content without a row that waits."""
        enveloped = {one.message.id for one in self._spool(loaded).envelopes.load()}
        enveloped |= {message.id for message in queued(loaded)}
        for number, (id_, path) in enumerate(sorted(contents.items())):
            if number == LISTED:
                text = f"{len(contents) - LISTED} more of these"
                yield Problem("queue", self._queue, text, "as those above")
                return
            row = db.execute("SELECT finished FROM messages WHERE id = ?", (id_,)).fetchone()
            if row is not None:
                if row[0] is not None:
                    text = f"message {id_} is over, its content still lies there"
                    yield Problem("queue", path, text, "it may be removed", note=True)
            elif id_ in enveloped:
                text = f"message {id_} waits, and has no row"
                advice = "--repair puts it back in the queue, by its envelope"
                yield Problem("queue", path, text, advice, lambda: self._refill(loaded))
            else:
                text = f"message {id_} has no row, and nobody knows whom it is for"
                yield Problem(
                    "queue",
                    path,
                    text,
                    "read it; mailctl explain may know; then remove it or send it again",
                )

    def _contents(self) -> Iterator[tuple[str, str]]:
        """The id and the path of all content in the queue."""
        if not self._disk.exists(self._queue):
            return
        for directory in self._disk.names(self._queue):
            if len(directory) != 2:
                continue
            try:
                for name in self._disk.names(os.path.join(self._queue, directory)):
                    yield name, os.path.join(self._queue, directory, name)
            except (FileNotFoundError, NotADirectoryError):
                continue

    # -- what mends

    def _spool(self, loaded: Sequence[Loaded]) -> Spool:
        spool = Spool(self._disk, self._data)
        spool.accepted = lambda: queued(loaded)
        return spool

    def _make_anew(self, loaded: Sequence[Loaded]) -> None:
        with stopped(self._disk, self._data):
            spool = self._spool(loaded)
            # What the journal says beside of new mail, the next start does.
            spool.recall = lambda: None
            was = self._disk.stat(self._database).st_ino if self._disk.exists(self._database) else 0
            try:
                spool.prepare()
                if self._disk.stat(self._database).st_ino == was:
                    spool.mend("as mailctl verify says")
            finally:
                spool.close()

    def _refill(self, loaded: Sequence[Loaded]) -> None:
        self._in_rows(loaded, lambda spool, db: refill(db, {}, spool.kept(), spool.is_there))

    def _count(self) -> None:
        def count(_: Spool, db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE messages SET unfinished ="
                " (SELECT count(*) FROM recipients r WHERE r.seq = messages.seq AND r.state < 4)"
                " WHERE finished IS NULL"
            )
            db.execute(
                "UPDATE messages SET finished = arrived WHERE unfinished = 0 AND finished IS NULL"
            )

        self._in_rows((), count)

    def _wake(self) -> None:
        self._in_rows(
            (),
            lambda _, db: db.execute(
                "INSERT OR IGNORE INTO hops (hop, at) SELECT hop, min(due) FROM recipients"
                " WHERE due IS NOT NULL AND state < 4 GROUP BY hop"
            ),
        )

    def _in_rows(
        self, loaded: Sequence[Loaded], work: Callable[[Spool, sqlite3.Connection], object]
    ) -> None:
        spool = self._spool(loaded)
        try:
            with spool.transaction() as db:
                work(spool, db)
        finally:
            spool.close()


@contextmanager
def stopped(disk: Disk, data: str) -> Iterator[None]:
    """While it is held no server starts on the site in `data`. Raises OSError while one runs."""
    path = os.path.join(data, "journal", "site.lock")
    if not disk.exists(path):
        yield
        return
    held = disk.open(path, os.O_RDWR)
    try:
        try:
            disk.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError("the server runs: stop it first") from None
        yield
    finally:
        disk.close(held)


def server_is_up(disk: Disk, data: str) -> bool:
    """Whether a process has the store open."""
    try:
        with stopped(disk, data):
            return False
    except OSError:
        return True


def _checksum(disk: Disk, path: str) -> int:
    fd = disk.open(path, os.O_RDONLY)
    try:
        crc = at = 0
        while block := disk.pread(fd, 1024 * 1024, at):
            crc = zlib.crc32(block, crc)
            at += len(block)
        return crc
    finally:
        disk.close(fd)
