"""The accounts that sessions of this process have open: one `OpenAccount` each, however many sessions it has."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from twisted.python.failure import Failure

from ..mailboxes import Mailboxes
from ..world import World
from .account import AccountStore
from .digests import Digests
from .mailboxes import AccountMailboxes, Filing, called
from .opened import Forget, OpenAccount, Search

__all__ = ["Sessions"]

_log = Logger()


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

    async def open(self, key: str) -> Mailboxes:
        """The mailboxes of an account, for one session. Raises MailError."""
        account = self._open.get(key)
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
            await called(self._world, account.store.folders.furnish)
        except BaseException:
            ended()
            raise
        return AccountMailboxes(
            self._world, account, self._filing, lambda: self._limits(key), ended
        )

    def _ended(self, account: OpenAccount) -> None:
        if account.end():
            # Another one of that name may have been made since.
            if self._open.get(account.key) is account:
                del self._open[account.key]
                self._let_go(account.key)
            account.search.close()
            # In a thread: another may be using it.
            self._world.threads.call(account.digests.close).addErrback(_told)


def _told(failure: Failure) -> None:
    _log.error("a cache was not closed: {error}", error=str(failure.value))
