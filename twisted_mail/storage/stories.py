"""The stories of messages: what happened to each from its connection to its place, in words, for those who ask later.

``stories.sqlite3`` is a log that is looked up, not a promise: it may be deleted, a crash loses the last second of it,
and when it cannot be written mail goes on. Stories are written in a pool thread, many at once; they are kept for a
while, and no more than so many.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..disk import Disk, OsDisk
from ..message.words import one_line
from ..world import World
from .transaction import use_wal

__all__ = ["MAX_LINE", "Stories", "Story", "find", "find_mail", "kept", "similar"]

_log = Logger()
VERSION: Final = 1
SOON: Final = 1.0
"""Seconds that a story waits for others."""
CROWD: Final = 1_000
"""Stories that wait for no others. To open and close the file costs as much as forty of them."""
PENDING: Final = 5_000
"""Stories that wait to be written, at most; further ones are not kept."""
MAX_LINE: Final = 400
_SWEPT: Final = 200
"""Written stories after which the old ones go."""
_json = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS stories (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, at REAL NOT NULL, message TEXT NOT NULL,
    connection TEXT NOT NULL, story TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_id ON stories (id);
CREATE INDEX IF NOT EXISTS by_message ON stories (message);
CREATE INDEX IF NOT EXISTS by_connection ON stories (connection);
CREATE INDEX IF NOT EXISTS by_time ON stories (at);
"""
_SELECT: Final = "SELECT id, at, message, connection, story FROM stories"


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
                one.id,
                one.at,
                one.message,
                one.connection,
                _json({"facts": one.facts, "lines": kept(one.lines)}),
            )
            for one in stories
        ]
        with _opened(self._path, self._world.disk) as database, database:
            database.executemany(
                "INSERT INTO stories (id, at, message, connection, story) VALUES (?, ?, ?, ?, ?)",
                rows,
            )
            if now is not None:
                database.execute("DELETE FROM stories WHERE at < ?", (now - self._keep,))
                database.execute(
                    "DELETE FROM stories WHERE number <= (SELECT max(number) FROM stories) - ?",
                    (self._most,),
                )


def find(path: Path, name: str, *, limit: int = 20) -> list[Story]:
    """The stories of a queue id, a Message-ID (with or without its brackets), or a connection; the oldest first, and
    the latest `limit`.

    Raises FileNotFoundError when there is no such file, sqlite3.Error when it cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    bare = _bare(name)
    if not bare:
        return []
    with _opened(path) as database:
        found = database.execute(
            f"{_SELECT} WHERE id = ? OR message = ? OR connection = ? ORDER BY number DESC LIMIT ?",
            (bare, f"<{bare}>", bare, limit),
        ).fetchall()
    return [_story(row) for row in reversed(found)]


def find_mail(path: Path, sender: str | None, recipient: str | None, *, limit: int) -> list[Story]:
    """The stories of mail from `sender` ("" is ``<>``) to `recipient`, None for anybody; the oldest first, and the
    latest `limit`. Looks at all there are: some tenths of a second. Raises as `find` does.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    where, values = ["json_extract(story, '$.facts.sender') IS NOT NULL"], list[object]()
    if sender is not None:
        where.append("lower(json_extract(story, '$.facts.sender')) = ?")
        values.append(sender.lower())
    if recipient is not None:
        where.append(
            "EXISTS (SELECT 1 FROM json_tree(story, '$.facts') AS fact WHERE lower(fact.value) = ?"
            " AND (fact.path = '$.facts.recipients' OR fact.path = '$.facts.refused'))"
        )
        values.append(recipient.lower())
    with _opened(path) as database:
        found = database.execute(
            f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY number DESC LIMIT ?",
            (*values, limit),
        ).fetchall()
    return [_story(row) for row in reversed(found)]


def similar(path: Path, name: str, *, limit: int = 5) -> list[str]:
    """Names of stories that `name` may have been meant for: one that begins so, or is spelled otherwise; the latest."""
    bare = _bare(name)
    if not path.exists() or len(bare) < 4:
        return []
    begin = bare.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    found: dict[str, None] = {}
    with _opened(path) as database:
        for column, pattern in (("id", f"{begin}%"), ("message", f"<{begin}%")):
            for (one,) in database.execute(
                f"SELECT DISTINCT {column} FROM stories WHERE {column} LIKE ? ESCAPE '\\'"  # noqa: S608
                " ORDER BY number DESC LIMIT ?",
                (pattern, limit),
            ):
                found[str(one)] = None
    return list(found)[:limit]


def _bare(name: str) -> str:
    return name.strip().removeprefix("<").removesuffix(">")


def _story(row: tuple[Any, ...]) -> Story:
    id_, at, message, connection, text = row
    value = json.loads(text)
    lines = [(float(seconds), str(words)) for seconds, words in value["lines"]]
    return Story(id_, at, message, connection, value["facts"], lines)


@contextmanager
def _opened(path: Path, disk: Disk | None = None) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, timeout=5)) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            disk = disk or OsDisk()
            if version:
                # Of another version of this program: a log that is begun anew.
                database.execute("DROP TABLE IF EXISTS stories")
            path.chmod(0o600)
            use_wal(database, disk, str(path))
            database.executescript(_SCHEMA)
            database.execute(f"PRAGMA user_version={VERSION}")
        database.execute("PRAGMA synchronous=OFF")
        yield database
