"""The accounts that sessions of this process have open: one `OpenAccount` each, however many sessions it has.

Programs for mail come and go: they look, log out, and come back. So the mailboxes of an account whose last session has
ended are known, and watched, for some seconds more; then opening a large one is no work.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from ..mailboxes import Mailboxes
from ..world import World
from .account import AccountStore
from .digests import Digests
from .mailboxes import AccountMailboxes, Filing, called
from .open_folder import Forget
from .opened import OpenAccount, Search
from .statuses import Statuses

__all__ = ["Sessions"]

_log = Logger()
FURNISHED_SECONDS = 900.0
"""So long an account is known to have its folders …"""
MAX_FURNISHED = 10_000
"""… and so many are."""
LEFT_SECONDS = 10.0
"""So long the mailboxes of an account are known that its last session had open …"""
MAX_LEFT = 16
"""… of so many accounts …"""
MAX_LEFT_MESSAGES = 500_000
"""… with so many messages, of some 32 bytes each."""


class Sessions:
    """`hold` gives an account's store, which stays the one of this process until `let_go`."""

    def __init__(
        self,
        world: World,
        filing: Filing,
        *,
        hold: Callable[[str], AccountStore],
        let_go: Callable[[str], None],
        search: Callable[[AccountStore], Search],
        limits: Callable[[str], tuple[int | None, int | None]],
        forget: Forget,
    ) -> None:
        self._world = world
        self._filing = filing
        self._hold = hold
        self._let_go = let_go
        self._search = search
        self._limits = limits
        self._forget = forget
        self._open: dict[str, OpenAccount] = {}
        # Those that nobody has open any more, the first one longest, and when they end.
        self._left: OrderedDict[OpenAccount, Any] = OrderedDict()
        self._statuses = Statuses(world.disk, world.now)
        # What `Home.mark` was when it was known to have its folders, and when.
        self._furnished: OrderedDict[str, tuple[tuple[int, int], float]] = OrderedDict()

    async def open(self, key: str) -> Mailboxes:
        """The mailboxes of an account, for one session. Raises MailError."""
        account = self._open.get(key)
        if account is not None and not account.sessions:
            # Somebody is back.
            self._left.pop(account).cancel()
            if account.over:
                self._leave(account)
                account = None
            else:
                account.digests = Digests(self._world.disk, account.store)
                account.search = self._search(account.store)
        if account is None or account.over:
            store = self._hold(key)
            digests = Digests(self._world.disk, store)
            account = self._open[key] = OpenAccount(
                self._world, key, store, digests, self._search(store), self._forget
            )
        account.begin()

        def ended() -> None:
            self._ended(account)

        try:
            await self._furnish(account)
        except BaseException:
            ended()
            raise
        return AccountMailboxes(
            self._world, account, self._filing, lambda: self._limits(key), self._statuses, ended
        )

    async def _furnish(self, account: OpenAccount) -> None:
        """Have the folders of a new account made. Mostly they are known to be there: of an account that was looked at a
        short while ago the kernel has at hand what is asked for here."""
        home, now = account.store.files, self._world.now()
        mark = home.mark()
        known, since = self._furnished.pop(account.key, (None, 0.0))
        fresh = mark is not None and mark == known and 0 <= now - since < FURNISHED_SECONDS
        # Else one small file tells, which another process of the site has mostly read a moment ago.
        if not fresh and (mark is None or not home.furnished()):
            await called(self._world, account.store.folders.furnish)
            mark = home.mark()
        if mark is not None:
            self._furnished[account.key] = (mark, now)
            if len(self._furnished) > MAX_FURNISHED:
                self._furnished.popitem(last=False)

    def _ended(self, account: OpenAccount) -> None:
        if not account.end():
            return
        account.search.close()
        if not account.digests.close_unused():
            # In a thread: another may be using it.
            self._world.threads.call(account.digests.close).addErrback(_told)
        if account.over or not account.loaded or self._open.get(account.key) is not account:
            self._leave(account)
            return
        self._left[account] = self._world.reactor.callLater(LEFT_SECONDS, self._late, account)
        loaded = sum([one.loaded for one in self._left])
        while len(self._left) > MAX_LEFT or loaded > MAX_LEFT_MESSAGES:
            first, ending = self._left.popitem(last=False)
            loaded -= first.loaded
            ending.cancel()
            self._leave(first)

    def _late(self, account: OpenAccount) -> None:
        del self._left[account]
        self._leave(account)

    def _leave(self, account: OpenAccount) -> None:
        account.leave()
        # Another one of that name may have been made since.
        if self._open.get(account.key) is account:
            del self._open[account.key]
            self._let_go(account.key)

    def close(self) -> None:
        """The site stops: nobody comes back."""
        while self._left:
            account, ending = self._left.popitem()
            ending.cancel()
            self._leave(account)


def _told(failure: Failure) -> None:
    _log.error("a cache was not closed: {error}", error=str(failure.value))
