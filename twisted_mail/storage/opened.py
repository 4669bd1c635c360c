"""Accounts whose mailboxes somebody has open, as this process knows them: which mailboxes there are. Reactor thread.

`OpenAccount` hears of every change this process makes (`AccountStore.publish_to`), and tells it to the mailbox that it
is about (`open_folder.OpenFolder`). It keeps those that somebody had open, so that who comes back need not look.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..world import World
from .account import AccountStore
from .digests import Digests
from .errors import AccountOver
from .folder import FolderChange
from .folders import Box, nonexistent
from .open_folder import Forget, OpenFolder

__all__ = ["OpenAccount", "Search"]

_log = Logger()
MAX_KEPT = 200_000
"""Messages in snapshots that are kept though nobody has the mailbox open, in one account …"""
MAX_WATCHED = 20
"""… and such mailboxes."""


class Search(Protocol):
    """What of a message's text is searched for; `storage.matching` is it."""

    async def text(
        self, folder: str, text: str, uids: Sequence[int], *, body_only: bool
    ) -> Sequence[int]: ...
    async def header(
        self, folder: str, name: str, text: str, uids: Sequence[int]
    ) -> Sequence[int]: ...
    def close(self) -> None: ...


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
