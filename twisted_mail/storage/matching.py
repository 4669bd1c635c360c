"""Which messages of an account hold a text: by its full-text index where that knows them, else by looking at them.

`Matching` is an account's, on the reactor thread; what blocks is done in pool threads, a slice at a time. Messages that
had to be read for a search are learned behind it, so that the next one finds them in the index; `Learning` does that
for all accounts of the process, one slice at a time, with pauses. `look_at` is the plain way, for one slice.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ..disk import Disk
from ..message.searchable import contains, has_field, searchable
from ..world import World
from .account import AccountStore
from .contents import LARGE, begun, whole
from .fulltext import Found, FullText, Learned
from .index import Row

__all__ = ["Learning", "Matching", "Searches", "look_at"]

_log = Logger()
LOOKED_AT: Final = 200
"""Messages that are looked at in one go …"""
LOOKED_AT_BYTES: Final = 2 * 1024 * 1024
"""… while they have no more bytes than so many together."""
LEARNED: Final = 32
LEARNED_BYTES: Final = 512 * 1024
PAUSE: Final = 0.02
"""Seconds between two slices that are learned."""
MAX_WAITING: Final = 2_000_000
"""UIDs of one search that may wait to be learned …"""
MAX_PIECES: Final = 500
"""… and such searches: of a large mailbox IMAP asks in pieces of some thousand messages."""


def look_at(
    disk: Disk,
    store: AccountStore,
    folder: str,
    uids: Sequence[int],
    holds: Callable[[bytes], bool],
) -> tuple[int, list[int]]:
    """How many of `uids` were looked at (one at least), and those of them whose content `holds`. Blocks."""
    path, rows = store.found(folder, uids[:LOOKED_AT])
    taken, last = _together(rows, LOOKED_AT_BYTES)
    hits = []
    for row in taken:
        if row.size <= LARGE:
            some = begun(disk, path, row, LARGE)
            if some is not None and holds(some):
                hits.append(row.uid)
            continue
        with whole(disk, path, row) as content:
            if content is not None and holds(content):
                hits.append(row.uid)
        del content
    if last is None:
        return min(LOOKED_AT, len(uids)), hits
    return sum(1 for uid in uids[:LOOKED_AT] if uid < last), hits


def _together(rows: Sequence[Row], room: int) -> tuple[Sequence[Row], int | None]:
    """The first of `rows` that are read together, one at least, and the UID of the first one that is not."""
    for at, row in enumerate(rows):
        room -= row.size
        if room < 0 and at:
            return rows[:at], row.uid
    return rows, None


class Searches:
    """Makes the `Matching` of each account; one for a process."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.learning = Learning(world)

    def __call__(self, store: AccountStore) -> Matching:
        return Matching(self._world, store, self.learning)


class Matching:
    """What `store`'s messages hold. `close` once, when nobody has the account open."""

    def __init__(self, world: World, store: AccountStore, learning: Learning) -> None:
        self._world = world
        self._store = store
        self._learning = learning
        self.index = FullText(world.disk, os.path.join(store.home, "fulltext.sqlite3"))
        self.closed = False

    async def text(
        self, folder: str, text: str, uids: Sequence[int], *, body_only: bool
    ) -> Sequence[int]:
        """Those of `uids` whose text contains `text`, folded."""

        def search(validity: int) -> Found:
            return self.index.search(folder, validity, text, uids, body_only=body_only)

        def holds(content: bytes) -> bool:
            return contains(content, text, body_only=body_only)

        return await self._found(folder, search, holds)

    async def header(self, folder: str, name: str, text: str, uids: Sequence[int]) -> Sequence[int]:
        """Those of `uids` with a header field `name` (lower case) whose text contains `text`, folded."""

        def search(validity: int) -> Found:
            return self.index.search_field(folder, validity, name, text, uids)

        def holds(content: bytes) -> bool:
            return has_field(content, name, text)

        return await self._found(folder, search, holds)

    async def _found(
        self, folder: str, search: Callable[[int], Found], holds: Callable[[bytes], bool]
    ) -> Sequence[int]:
        threads, disk = self._world.threads, self._world.disk

        def ask() -> Found:
            return search(self._store.validity(folder))

        hits, unsure = await threads.call(ask)
        if not unsure:
            return hits
        at = 0
        found = set(hits)
        while at < len(unsure):
            taken, more = await threads.call(
                look_at, disk, self._store, folder, unsure[at : at + LOOKED_AT], holds
            )
            at += taken
            found.update(more)
        self._learning.add(self, folder, unsure)
        return sorted(found)

    def close(self) -> None:
        """Let go of the files; nothing more is learned."""
        self.closed = True
        self._learning.drop(self)
        if not self.index.close_unused():
            # A slice that is being written is waited for, in a thread
            self._world.threads.call(self.index.close)

    # In pool threads

    def learn(self, folder: str, uids: Sequence[int]) -> int:
        """Learn some of `uids`: how many."""
        path, rows = self._store.found(folder, uids[:LEARNED])
        validity = self._store.validity(folder)
        taken, last = _together(rows, LEARNED_BYTES)
        keys = {row.uid: _key(row) for row in taken}
        known = self.index.known(keys.values())
        messages = []
        for row in taken:
            key = keys[row.uid]
            text = None
            if key not in known:
                with whole(self._world.disk, path, row) as content:
                    text = searchable(content) if content is not None else None
                del content
            messages.append(Learned(row.uid, key, text))
        if not self.index.learn(folder, validity, messages):
            return len(uids)
        if last is None:
            return min(LEARNED, len(uids))
        return sum(1 for uid in uids[:LEARNED] if uid < last)

    def tidy(self, folder: str) -> bool:
        """Forget some of what is kept of messages, and of folders, that are gone. True: there is more."""
        store = self._store
        validity = store.validity(folder)
        if self.index.too_many(folder, validity, store.status(folder).messages):
            return self.index.tidy(folder, validity, {row[0] for row in store.rows(folder)})
        return self.index.keep_only(
            {(box.folder, store.validity(box.folder)) for box in store.folders.all()}
        )


def _key(row: Row) -> str:
    """The same for copies only: a base name is given once, and who gives it again seldom has the size, too."""
    return f"{row.base},{row.size}"


class _Waiting(NamedTuple):
    """`last` is the highest UID: a search of many messages comes in pieces, and each of them waits."""

    matching: Matching
    folder: str
    last: int


class Learning:
    """What is to be learned, by all accounts of this process: a slice of each in turn. Reactor thread."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: OrderedDict[_Waiting, Sequence[int]] = OrderedDict()
        self._running: Deferred[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether all is learned."""
        return self._running is None

    def add(self, matching: Matching, folder: str, uids: Sequence[int]) -> None:
        """These have been looked at, and will be again."""
        if matching.closed or not uids or len(self._waiting) >= MAX_PIECES:
            return
        one = _Waiting(matching, folder, uids[-1])
        known = self._waiting.get(one)
        if known is None or len(known) < len(uids):
            self._waiting[one] = uids[:MAX_WAITING]
        if self._running is None:
            self._running = ensureDeferred(self._run())
            self._running.addErrback(self._failed)

    def drop(self, matching: Matching) -> None:
        """Nothing more for this account."""
        for one in [one for one in self._waiting if one.matching is matching]:
            del self._waiting[one]

    def _failed(self, failure: Any) -> None:
        self._running = None
        _log.failure("learning has ended", failure)

    async def _run(self) -> None:
        try:
            while self._waiting:
                # Who searches goes first
                await deferLater(self._world.reactor, PAUSE)
                if not self._waiting:
                    break
                one, uids = self._waiting.popitem(last=False)
                try:
                    await self._slice(one, uids)
                except Exception:
                    _log.failure("{folder} is not learned", folder=one.folder)
        finally:
            self._running = None

    async def _slice(self, one: _Waiting, uids: Sequence[int]) -> None:
        threads = self._world.threads
        if uids:
            taken = await threads.call(one.matching.learn, one.folder, uids)
            left = uids[taken:]
        elif await threads.call(one.matching.tidy, one.folder):
            left = uids
        else:
            return
        if one not in self._waiting and not one.matching.closed:
            self._waiting[one] = left
