"""Accounts whose mailboxes somebody has open, as this process knows them: snapshots, kept up to date. Reactor thread.

`OpenAccount` hears of every change this process makes (`AccountStore.publish_to`), and watches the directories of the
mailboxes that are selected for what others do: other programs, and other processes of ours. A snapshot follows its
folder's mod-sequence: when one is missing in between, another process was there, and the index is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..mailboxes import Snapshot
from ..status import MailError
from ..world import World
from .account import AccountStore
from .digests import Digests
from .errors import AccountOver
from .folder import FolderChange
from .folders import Box, nonexistent

__all__ = ["Forget", "OpenAccount", "OpenFolder", "Search"]

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
MAX_KEPT = 200_000
"""Messages in snapshots that are kept though nobody has the mailbox open, in one account …"""
MAX_WATCHED = 20
"""… and such mailboxes."""

Forget = Callable[[str, str, list[str]], Any]
"""(account, folder, bases): commit that another program took messages away; awaitable."""


class Search(Protocol):
    """What of a message's text is searched for; `storage.matching` is it."""

    async def text(
        self, folder: str, text: str, uids: Sequence[int], *, body_only: bool
    ) -> Sequence[int]: ...
    async def header(
        self, folder: str, name: str, text: str, uids: Sequence[int]
    ) -> Sequence[int]: ...
    def close(self) -> None: ...


class OpenFolder:
    """One mailbox of an open account. `snapshot` is None until it has been loaded."""

    def __init__(self, account: OpenAccount, box: Box) -> None:
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


class OpenAccount:
    """One account that sessions of this process have open."""

    def __init__(
        self,
        world: World,
        key: str,
        store: AccountStore,
        digests: Digests,
        search: Search,
        forget: Forget,
    ) -> None:
        self.world = world
        self.key = key
        self.store = store
        self.digests = digests
        self.search = search
        self.forget = forget
        self.sessions = 0
        self._folders: dict[str, OpenFolder] = {}
        self._boxes: dict[str, Box] | None = None
        self._version = 0
        self._cancel: tuple[Callable[[], None], ...] = ()
        self.over = False
        """The account was removed: nothing can be done with it."""
        self.endings: dict[object, Callable[[], None]] = {}
        """Told, once, when `over` becomes true."""
        self.watchers: dict[object, Callable[[str], None]] = {}
        self.annotating: dict[object, tuple[object, Callable[[str, Collection[str]], None]]] = {}

    def begin(self) -> None:
        """One more session."""
        self.sessions += 1
        if not self._cancel:
            self.store.publish_to(self._published, self._ended)
            watch, home = self.world.watcher.watch, self.store.home
            # A directory whose parent is moved hears nothing of it.
            self._cancel = (
                watch(self.store.maildir, self._others),
                watch(os.path.dirname(home), self._around),
            )

    def end(self) -> bool:
        """One less. True when it was the last: `leave` is to come, unless somebody comes back before."""
        self.sessions -= 1
        return not self.sessions

    @property
    def loaded(self) -> int:
        """Messages of mailboxes that somebody had open, as they are known here."""
        return sum([len(folder.snapshot or ()) for folder in self._folders.values()])

    def leave(self) -> None:
        """Nobody has it open: from now on nothing is known of it."""
        self.store.publish_to(None)
        for cancel in self._cancel:
            cancel()
        self._cancel = ()
        self._boxes = None
        for folder in self._folders.values():
            folder.forget()
        self._folders.clear()

    # -- its end

    def _ended(self) -> None:
        """In whatever thread."""
        self.world.threads.back(self._tell_end)

    def _tell_end(self) -> None:
        if not self.over:
            self.over = True
            for ended in tuple(self.endings.values()):
                ended()

    def _around(self, name: str | None) -> None:
        """An account has come or gone beside this one, or it was this."""
        if not self.over and name in (None, os.path.basename(self.store.home)):
            self.world.threads.call(self.store.gone).addErrback(
                lambda failure: _log.error(
                    "{path} cannot be looked at: {error}",
                    path=self.store.home,
                    error=str(failure.value),
                )
            )

    # -- which mailboxes there are

    async def boxes(self) -> dict[str, Box]:
        """Mailboxes by name. Raises MailError."""
        if self.over:
            raise AccountOver
        self.world.watcher.hasten()
        known = self._boxes
        if known is not None:
            return known
        version = self._version
        boxes = {box.name: box for box in await self.world.threads.call(self.store.folders.all)}
        if version == self._version and self._cancel:
            self._boxes = boxes
            there = {box.folder: box for box in boxes.values()}
            for key, folder in tuple(self._folders.items()):
                if key in there:
                    folder.moved(there[key])
                else:
                    del self._folders[key]
                    folder.removed()
        return boxes

    async def box(self, name: str) -> Box:
        """A mailbox by name. Raises MailError imap="NONEXISTENT"."""
        found = (await self.boxes()).get(name)
        if found is None:
            raise nonexistent(name)
        return found

    def listed(self) -> None:
        """There are other mailboxes, or other names of them, than before."""
        self._version += 1
        self._boxes = None
        if any(folder.used for folder in self._folders.values()):
            # Who has one open is told that it is gone, without asking.
            ensureDeferred(self.boxes()).addErrback(self._not_listed)
        for changed in tuple(self.watchers.values()):
            changed("")

    def _not_listed(self, failure: Failure) -> None:
        if failure.check(AccountOver) is None:
            _log.error(
                "{path} cannot be looked at: {error}",
                path=self.store.maildir,
                error=str(failure.value),
            )

    def _others(self, name: str | None) -> None:
        """Something has changed in the Maildir itself: a folder, or subscriptions, by whomever."""
        if name is None or name.startswith(".") or name == "subscriptions":
            self.listed()

    # -- one mailbox

    async def folder(self, name: str) -> OpenFolder:
        """A mailbox with its snapshot. Raises MailError."""
        box = await self.box(name)
        found = self._folders.pop(box.folder, None)
        if found is None:
            self._bound()
            found = OpenFolder(self, box)
        self._folders[box.folder] = found
        found.use()
        try:
            if found.stale:
                await found.look()
        except BaseException:
            found.leave()
            raise
        return found

    def _bound(self) -> None:
        """Forget mailboxes that nobody has open, when they are too many; the last opened are kept."""
        kept = count = 0
        for key, folder in reversed(tuple(self._folders.items())):
            if not folder.used:
                count += 1
                kept += len(folder.snapshot or ())
                if kept > MAX_KEPT or count > MAX_WATCHED:
                    folder.forget()
                    del self._folders[key]

    def knows(self, box: Box) -> bool:
        """Whether the mailbox is watched, so that `refresh` mostly has nothing to do."""
        return box.folder in self._folders

    async def refresh(self, box: Box) -> None:
        """See what others did in a mailbox, open or not. Raises what the store does."""
        known = self._folders.get(box.folder)
        if known is not None:
            self.world.watcher.hasten()
            if known.stale:
                await known.look()
            return
        gone = await self.world.threads.call(self.store.refresh, box.folder)
        if gone:
            await self.forget(self.key, box.folder, gone)

    def _published(self, change: FolderChange) -> None:
        """In whatever thread, with the account locked."""
        self.world.threads.back(self._changed, change)

    def _changed(self, change: FolderChange) -> None:
        folder = self._folders.get(change.folder)
        if folder is not None:
            folder.published(change)
        if self.watchers:
            boxes = self._boxes or {}
            for box in boxes.values():
                if box.folder == change.folder:
                    for changed in tuple(self.watchers.values()):
                        changed(box.name)
                    break


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
