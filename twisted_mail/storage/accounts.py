"""The accounts whose files this process has open: so many at the most, but those that sessions hold."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from .account import AccountStore

__all__ = ["Accounts"]

OPEN_ACCOUNTS = 64
"""Accounts whose files are kept open, besides those of sessions: each holds up to four descriptors, and some 200 KB."""


class Accounts:
    """The account stores of this process, by key; the least used ones close their files. To be used in threads."""

    def __init__(self, make: Callable[[str], AccountStore]) -> None:
        self._make = make
        self._guard = threading.Lock()
        self._known: OrderedDict[str, AccountStore] = OrderedDict()
        self._held: set[str] = set()

    def hold(self, key: str) -> AccountStore:
        """As `get`; until `let_go` there is no other store of this account: who listens to it hears of everything.

        Nobody's files are closed here, which blocks: it may be called on the reactor thread.
        """
        with self._guard:
            store = self._known.get(key)
            if store is None or store.over:
                store = self._known[key] = self._make(key)
            self._known.move_to_end(key)
            self._held.add(key)
            return store

    def let_go(self, key: str) -> bool:
        """It may close its files when others need them. True: too many are open, `trim` is to be called."""
        with self._guard:
            self._held.discard(key)
            return len(self._known) > OPEN_ACCOUNTS + len(self._held)

    def trim(self) -> None:
        """Close the files of those that were used least, when too many are open. Blocks."""
        with self._guard:
            surplus = len(self._known) - OPEN_ACCOUNTS - len(self._held)
            if surplus <= 0:
                return
            unused = [key for key in self._known if key not in self._held][:surplus]
            old = [self._known.pop(key) for key in unused]
        for store in old:
            store.retire()

    def get(self, key: str) -> AccountStore:
        with self._guard:
            store = self._known.get(key)
            if store is not None and not store.over:
                self._known.move_to_end(key)
                return store
            store = self._known[key] = self._make(key)
        self.trim()
        return store

    def is_held(self, key: str) -> bool:
        """Whether a session has it, so that it has to hear of everything."""
        return key in self._held

    def gone(self, key: str) -> None:
        """Its directory is not there: what is known of it is over, whatever is made in its place."""
        with self._guard:
            store = self._known.get(key)
        if store is not None:
            store.gone()

    def drop(self, key: str) -> None:
        with self._guard:
            store = self._known.pop(key, None)
        if store is not None:
            store.retire()

    def close(self) -> None:
        with self._guard:
            stores, self._known = list(self._known.values()), OrderedDict()
        for store in stores:
            store.retire()
