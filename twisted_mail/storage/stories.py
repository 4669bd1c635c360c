"""The stories of messages: what happened to each from its connection to its place, in words, for those who ask later.

``stories.sqlite3`` is a log that is looked up, not a promise: it may be deleted, a crash loses the last second of it,
and when it cannot be written mail goes on. Stories are written in a pool thread, many at once; they are kept for a
while, and no more than so many.

In the file they stand together, up to a hundred in one row of JSON, without an index: all are written, few are ever
looked for. Who looks reads the whole file, two tenths of a second for 200 000 of them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..disk import Disk, OsDisk
from ..message.words import one_line
from ..world import World
from .aside import is_damage, no_file, set_aside
from .transaction import transaction, use_wal

__all__ = ["MAX_LINE", "Stories", "Story", "find", "find_mail", "kept", "similar"]

_log = Logger()
VERSION: Final = 2
"""1 had a row, and four entries of indexes, for each."""
SOON: Final = 1.0
"""Seconds that a story waits for others."""
CROWD: Final = 1_000
"""Stories that wait for no others. To open and close the file costs as much as forty of them."""
PENDING: Final = 5_000
"""Stories that wait to be written, at most; further ones are not kept."""
MAX_LINE: Final = 400
_SWEPT: Final = 200
"""Written stories after which the old ones go."""
_TOGETHER: Final = 100
"""Stories in one row; to make it holds the interpreter for less than a millisecond."""
_json = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS told (
    last INTEGER PRIMARY KEY, count INTEGER NOT NULL, until REAL NOT NULL, stories BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS by_time ON told (until);
"""
"""`last` is the number of the row's last story, of all that there ever were; `until`: when the latest of them began."""


class Story(NamedTuple):
    """One message, or one attempt to send one.

    `id`: the queue id of its 250, "" when it came to none; `at`: seconds since 1970; `message`: its Message-ID with
    angle brackets, "" when unknown; `connection`: the log's id, or the queue id of the message that a notice of ours
    tells of; `facts` about it by name (ip, helo, sender, recipients, size …), values of JSON; `lines`: (seconds since
    `at`, what happened), which become `kept` lines when they are written.
    """

    id: str
    at: float
    message: str
    connection: str
    facts: dict[str, Any]
    lines: Sequence[tuple[float, str]]


def kept(lines: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Lines as they are kept: milliseconds, and what peers chose made harmless, in one line of at most `MAX_LINE`."""
    return [(round(seconds, 3), one_line(text, MAX_LINE)) for seconds, text in lines]


class Stories:
    """Where they are put. `keep`: seconds; `most`: how many."""

    def __init__(
        self, world: World, path: Path, *, keep: float = 7 * 86_400.0, most: int = 200_000
    ) -> None:
        self._world = world
        self._path = path
        self._keep = keep
        self._most = most
        self._pending: list[Story] = []
        self._writing = False
        self._timer: Any = None
        self._since_swept = _SWEPT
        self._idle: list[Deferred[None]] = []

    def put(self, story: Story) -> None:
        """Keep it, soon. Never raises, never waits."""
        if len(self._pending) >= PENDING:
            return
        self._pending.append(story)
        if not self._writing and (self._timer is None or len(self._pending) == CROWD):
            self._write_soon()

    async def close(self) -> None:
        """All of them are written when it returns, or cannot be."""
        if self._timer is not None:
            self._timer.cancel()
            self._write()
        while self._writing:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle

    def _write_soon(self) -> None:
        if len(self._pending) < CROWD and not self._idle:
            self._timer = self._world.reactor.callLater(SOON, self._write)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._write()

    def _write(self) -> None:
        self._timer = None
        stories, self._pending = self._pending, []
        self._since_swept += len(stories)
        sweep = self._since_swept >= _SWEPT
        if sweep:
            self._since_swept = 0
        self._writing = True
        now = self._world.now()
        self._world.threads.call(self._insert, stories, now if sweep else None).addBoth(self._wrote)

    def _wrote(self, result: object) -> None:
        self._writing = False
        if isinstance(result, Failure):
            _log.warn("stories could not be kept: {error}", error=str(result.value))
        if self._pending:
            self._write_soon()
            return
        idle, self._idle = self._idle, []
        for one in idle:
            one.callback(None)

    def _insert(self, stories: Sequence[Story], now: float | None) -> None:
        rows = [
            (
                len(some),
                max(one.at for one in some),
                _json([(*one[:5], _in_milliseconds(one.lines)) for one in some]).encode(
                    errors="replace"
                ),
            )
            for some in (stories[at : at + _TOGETHER] for at in range(0, len(stories), _TOGETHER))
        ]
        disk = self._world.disk
        try:
            self._write_rows(rows, now)
        except sqlite3.Error as error:
            if not is_damage(error) and not no_file(disk, str(self._path)):
                raise
            aside = set_aside(disk, str(self._path))
            _log.error(
                "{path} is damaged ({error}): set aside as {aside}, and begun anew; what was told in it is only there",
                path=str(self._path),
                error=str(error),
                aside=aside,
            )
            self._write_rows(rows, now)

    def _write_rows(self, rows: Sequence[tuple[int, float, bytes]], now: float | None) -> None:
        with _opened(self._path, self._world.disk) as database, transaction(database):
            for count, until, text in rows:
                database.execute(
                    "INSERT INTO told (last, count, until, stories)"
                    " SELECT coalesce(max(last), 0) + ?1, ?1, ?2, ?3 FROM told",
                    (count, until, text),
                )
            if now is not None:
                database.execute("DELETE FROM told WHERE until < ?", (now - self._keep,))
                self._drop(database)

    def _drop(self, database: sqlite3.Connection) -> None:
        """Those over the bound."""
        (last,) = database.execute("SELECT coalesce(max(last), 0) FROM told").fetchone()
        gone = last - self._most
        database.execute("DELETE FROM told WHERE last <= ?", (gone,))
        cut = database.execute(
            "SELECT last, stories FROM told WHERE last - count < ? ORDER BY last LIMIT 1", (gone,)
        ).fetchone()
        if cut is not None:
            left = _stored(cut[1])[gone - cut[0] :]
            database.execute(
                "UPDATE told SET count = ?, stories = ? WHERE last = ?",
                (len(left), _json(left).encode(), cut[0]),
            )


def _in_milliseconds(lines: Sequence[tuple[float, str]]) -> list[tuple[int, str]]:
    """As `kept`, in whole numbers: a message's dozen floats took as long to write as all the rest of it."""
    return [(round(seconds * 1000.0), one_line(text, MAX_LINE)) for seconds, text in lines]


def find(path: Path, name: str, *, limit: int = 20) -> list[Story]:
    """The stories of a queue id, a Message-ID (with or without its brackets), or a connection; the oldest first, and
    the latest `limit`.

    Raises FileNotFoundError when there is no such file, sqlite3.Error when it cannot be read.
    """
    bare = _bare(name)

    def named(story: Story) -> bool:
        return bool(bare) and (bare in (story.id, story.connection) or story.message == f"<{bare}>")

    return _latest(path, [bare], named, limit if bare else 0)


def find_mail(path: Path, sender: str | None, recipient: str | None, *, limit: int) -> list[Story]:
    """The stories of mail from `sender` ("" is ``<>``) to `recipient`, None for anybody; the oldest first, and the
    latest `limit`. Raises as `find` does.
    """

    def between(story: Story) -> bool:
        facts = story.facts
        if facts.get("sender") is None:
            return False
        if sender is not None and str(facts["sender"]).lower() != sender.lower():
            return False
        named = [*_list(facts.get("recipients")), *_list(facts.get("refused"))]
        return recipient is None or recipient.lower() in map(str.lower, named)

    return _latest(path, [one for one in (sender, recipient) if one], between, limit)


def similar(path: Path, name: str, *, limit: int = 5) -> list[str]:
    """Names of stories that `name` may have been meant for: one that begins so, or is spelled otherwise; the latest."""
    bare = _bare(name)
    if not path.exists() or len(bare) < 4:
        return []
    begin = bare.lower()
    ids: dict[str, None] = {}
    messages: dict[str, None] = {}
    with _opened(path) as database:
        for story in _told(database, [bare]):
            if len(ids) < limit and story.id.lower().startswith(begin):
                ids[story.id] = None
            if len(messages) < limit and story.message.lower().startswith(f"<{begin}"):
                messages[story.message] = None
    return list({**ids, **messages})[:limit]


def _bare(name: str) -> str:
    return name.strip().removeprefix("<").removesuffix(">")


def _list(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _latest(
    path: Path, words: Sequence[str], wanted: Callable[[Story], bool], limit: int
) -> list[Story]:
    if not path.exists():
        raise FileNotFoundError(path)
    with _opened(path) as database:
        found = list(islice(filter(wanted, _told(database, words)), limit))
    return found[::-1]


def _told(database: sqlite3.Connection, words: Sequence[str]) -> Iterator[Story]:
    """All stories that may have these words somewhere, in letters of either case; the latest first."""
    # Of other alphabets the file has the letters as they came.
    needles = [_json(word)[1:-1].lower().encode() for word in words if word.isascii()]
    for (text,) in database.execute("SELECT stories FROM told ORDER BY last DESC"):
        if needles:
            lower = text.lower()
            if not all(needle in lower for needle in needles):
                continue
        for id_, at, message, connection, facts, lines in reversed(_stored(text)):
            told = [(milliseconds / 1000.0, words) for milliseconds, words in lines]
            yield Story(id_, at, message, connection, facts, told)


def _stored(text: bytes) -> list[Any]:
    """The stories of a row; of a damaged one none."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return found if isinstance(found, list) else []


@contextmanager
def _opened(path: Path, disk: Disk | None = None) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, timeout=5)) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            disk = disk or OsDisk()
            if version:
                # Of another version of this program: a log that is begun anew.
                database.execute("DROP TABLE IF EXISTS stories")
                if version > VERSION:
                    # No earlier one had it: another process may have made it just now.
                    database.execute("DROP TABLE IF EXISTS told")
            path.chmod(0o600)
            use_wal(database, disk, str(path))
            database.executescript(_SCHEMA)
            database.execute(f"PRAGMA user_version={VERSION}")
        database.execute("PRAGMA synchronous=OFF")
        yield database
