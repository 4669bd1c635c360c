"""One mailbox that somebody has open, as this process knows it: its snapshot, kept up to date. Reactor thread.

`OpenFolder` hears of every change this process makes (`published`), and watches the directories of the mailbox for what
others do: other programs, and other processes of ours. A snapshot follows its folder's mod-sequence: when one is
missing in between, another process was there, and the index is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from ..mailboxes import Snapshot
from ..status import MailError
from ..world import World
from .account import AccountStore
from .errors import AccountOver
from .folder import FolderChange
from .folders import Box

__all__ = ["Forget", "Home", "OpenFolder"]

_log = Logger()
MAX_NAMES = 4096
"""Names of changed files that are gathered before everything is looked at."""
SOON = 0.02
"""Seconds after which files that changed are looked at: they seldom change alone …"""
PROMPT = 0.002
"""… but for the first after a quiet time …"""
QUIET = 0.2
"""… of so many seconds."""
TOLD = 0.005
"""Seconds after which the watch is asked about what we did ourselves: who waits for the change is answered first."""
AGAIN = 1.0
"""Seconds after which a look that failed is tried again while somebody listens, twice as long each time, …"""
AGAIN_MOST = 60.0
"""… up to this."""

Forget = Callable[[str, str, list[str]], Any]
"""(account, folder, bases): commit that another program took messages away; awaitable."""


class Home(Protocol):
    """What a mailbox has of its account: `storage.opened.OpenAccount` is it."""

    world: World
    key: str
    store: AccountStore
    forget: Forget


class OpenFolder:
    """One mailbox of an open account. `snapshot` is None until it has been loaded."""

    def __init__(self, account: Home, box: Box) -> None:
        self._account = account
        self._early: list[FolderChange] = []
        self._watches: list[Callable[[], None]] = []
        self._names: dict[str, dict[str, bool]] = {"new": {}, "cur": {}}
        """What the watch has told of, by directory: whether it was there then."""
        self._ours: dict[str, dict[str, bool]] = {"new": {}, "cur": {}}
        """What we did ourselves a moment ago: until the watch has told of it."""
        self._telling: Any = None
        self._everything = True
        self._looking: Deferred[None] | None = None
        self._soon: Any = None
        self._again = 0.0
        self._looked_at = 0.0
        """Seconds until the next look, after one that failed; 0: the last one did not."""
        self._users = 0
        self.box = box
        self.snapshot: Snapshot | None = None
        self.listeners: dict[object, Callable[[], None]] = {}

    # -- using

    def use(self) -> None:
        """Somebody has it open."""
        self._users += 1
        if not self._watches:
            self._watch()

    def leave(self) -> None:
        """And has it no more. It is watched until `forget`, so that who comes back need not look."""
        self._users -= 1

    def forget(self) -> None:
        """Nobody will come back soon."""
        for cancel in self._watches:
            cancel()
        self._watches = []
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
            self._ours = {"new": {}, "cur": {}}
        # Nobody tells what others do from now on.
        self._everything = True

    def moved(self, box: Box) -> None:
        """It is called otherwise now, and lies elsewhere."""
        before, self.box = self.box, box
        if before.path != box.path and self._watches:
            self.forget()
            self._watch()
            # What happened there before is told to nobody.
            self._look_soon()

    def removed(self) -> None:
        """It is no more: for who has it open, everything in it is gone."""
        self.forget()
        # There is nothing to be looked at any more
        self._everything = False
        self._taken_names()
        if self.snapshot is not None and self.snapshot.uids:
            gone = self.snapshot.uids
            self._replace(self.snapshot.after(modseq=self.snapshot.modseq + 1, expunged=set(gone)))

    @property
    def used(self) -> bool:
        """Whether anybody has it open."""
        return self._users > 0

    def _watch(self) -> None:
        for sub in ("new", "cur"):

            def changed(found: Mapping[str, bool] | None, sub: str = sub) -> None:
                self._happened(sub, found)

            path = os.path.join(self.box.path, sub)
            self._watches.append(self._account.world.watcher.watch_names(path, changed))

    def _happened(self, sub: str, found: Mapping[str, bool] | None) -> None:
        """Something did in the directory; mostly it was us."""
        names = self._names[sub]
        if found is None or len(names) + len(found) > MAX_NAMES:
            self._everything = True
            self._taken_names()
        elif self._everything:
            pass
        else:
            ours = self._ours[sub]
            for name, there in found.items():
                if ours.get(name) is there:
                    # The last that is known of it is what we did.
                    names.pop(name, None)
                elif name[:1] != ".":
                    names[name] = there
                    # Whatever comes of it now, it is looked at.
                    ours.pop(name, None)
        if self.stale:
            self._look_soon()

    def _own(self, files: Mapping[str, Mapping[str, bool]]) -> None:
        """We did that: the watch has told of it, or does soon. Who else did something with one of these files left it
        otherwise, or gets it told later."""
        for sub, names in self._names.items():
            ours = files[sub]
            for name in [name for name, there in names.items() if ours.get(name) is there]:
                del names[name]
        for sub, ours in self._ours.items():
            ours.update(files[sub])
        if self._telling is None:
            self._telling = self._account.world.reactor.callLater(TOLD, self._tell_own)

    def _tell_own(self) -> None:
        self._telling = None
        try:
            self._account.world.watcher.drain()
        finally:
            self._ours = {"new": {}, "cur": {}}

    def _taken_names(self) -> list[tuple[str, str]]:
        taken = [(sub, name) for sub, names in self._names.items() for name in names]
        if taken:
            self._names = {"new": {}, "cur": {}}
        return taken

    def listened(self) -> None:
        """Somebody listens from now on: of what a failed look has missed, too."""
        if self.stale:
            self._look_soon()

    def _look_soon(self) -> None:
        if self.listeners and self._looking is None and self._soon is None:
            world = self._account.world
            # Who hears of something after a while hears it at once; a burst of others is looked at in turns.
            quiet = not 0 <= world.now() - self._looked_at < QUIET
            pause = self._again or (PROMPT if quiet else SOON)
            self._soon = self._account.world.reactor.callLater(pause, self._look_now)

    def _look_now(self) -> None:
        self._soon = None
        if self.stale:
            self.look()

    # -- looking

    @property
    def stale(self) -> bool:
        """Whether there is anything to be looked for."""
        names = self._names
        return self._everything or bool(names["cur"] or names["new"]) or self.snapshot is None

    def look(self) -> Deferred[None]:
        """Find out what others did. Never fails when there is a snapshot; else as opening does."""
        if self._looking is None:
            self._looking = ensureDeferred(self._look())
            self._looking.addBoth(self._looked)
        waiting: Deferred[None] = Deferred()
        self._looking.addBoth(_pass_on, waiting)
        return waiting

    def _looked(self, result: Any) -> Any:
        self._looking = None
        self._looked_at = self._account.world.now()
        if self._again:
            self._look_soon()
        return result

    async def _look(self) -> None:
        threads, store = self._account.world.threads, self._account.store
        folder = self.box.folder
        while self.stale:
            names = self._taken_names()
            everything, self._everything = self._everything, False
            loaded: Snapshot | None = None
            try:
                if self.snapshot is None:
                    self._early = []
                    gone, loaded = await threads.call(store.refreshed, folder)
                elif everything:
                    gone = await threads.call(store.refresh, folder)
                else:
                    gone = await threads.call(store.examine, folder, names)
                if gone:
                    # In the journal first, or a replay would bring them back. The removal is published.
                    await self._account.forget(self._account.key, folder, gone)
                if self.snapshot is None:
                    if loaded is None:
                        self._early = []
                        loaded = await threads.call(store.snapshot, folder)
                    self._loaded(loaded)
                else:
                    await self._catch_up(self.snapshot)
                self._again = 0.0
            except Exception as error:
                self._everything = True
                if self.snapshot is None:
                    raise
                if isinstance(error, AccountOver) or (
                    isinstance(error, MailError) and error.imap == "NONEXISTENT"
                ):
                    return  # somebody has just deleted it: `removed` comes, or the end
                self._again = min(max(AGAIN, 2 * self._again), AGAIN_MOST)
                _log.error(
                    "{path} cannot be looked at: {error}", path=self.box.path, error=str(error)
                )
                return

    def _loaded(self, snapshot: Snapshot) -> None:
        early, self._early = self._early, []
        self.snapshot = snapshot
        for change in early:
            self._apply(change)

    async def _catch_up(self, known: Snapshot) -> None:
        """What another process did, or what was missed."""
        threads, store = self._account.world.threads, self._account.store
        change = await threads.call(store.since, self.box.folder, known)
        if change is None:
            loaded = await threads.call(store.snapshot, self.box.folder)
            if self.snapshot is known or loaded.modseq > known.modseq:
                self._replace(loaded)
        elif self.snapshot is not None and change.modseq > self.snapshot.modseq:
            self._replace(_after(self.snapshot, change))

    def published(self, change: FolderChange) -> None:
        """This process has changed the folder."""
        if self.snapshot is None:
            self._early.append(change)
            del self._early[:-MAX_NAMES]
            return
        self._apply(change)
        if self._watches and not self._everything and any(change.files.values()):
            self._own(change.files)

    def _apply(self, change: FolderChange) -> None:
        known = self.snapshot
        assert known is not None
        named = change.keywords is not None and change.keywords != known.keywords
        next_one = change.modseq == known.modseq + 1
        if change.whole and (next_one or (change.modseq == known.modseq and named)):
            self._replace(_after(known, change))
        elif change.modseq > known.modseq:
            # Somebody else was there in between, or it was too much.
            self._everything = True
            self.look()

    def _replace(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        for listener in tuple(self.listeners.values()):
            listener()


def _after(snapshot: Snapshot, change: FolderChange) -> Snapshot:
    return snapshot.after(
        modseq=change.modseq,
        added=change.added,
        changed=change.changed,
        expunged=change.expunged,
        uidnext=change.uidnext,
        keywords=change.keywords,
    )


def _pass_on(result: Any, waiting: Deferred[None]) -> None:
    waiting.callback(result)
