"""Mail that arrives for accounts that nobody has open: one more link in ``new``, and nothing else.

No lock is taken, no UID, no row is written, no name is synced. The file is called
``<base>,S=<size>,W=<wire size>[,A=<ascii size>],T=0`` (`maildir.arriving`): who looks next gives it its UID
(`AccountStore.catch_up`, `AccountStore.refresh`). A delivery costs the same for the first message of an account as for
the millionth, for one account as for a million: what is remembered here is bounded, and it is only how much waits to be
looked at, so that nobody has to catch up with very much. The journal's record is what is durable; a replay makes again
what a power cut took away, directories, too.

On the lane and in pool threads; `caught_up` may come from any thread.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable

from ..disk import Disk
from .errors import mailbox_broken
from .filling import Source
from .maildir import SUBDIRECTORIES, arriving

__all__ = ["BEHIND", "Arrivals"]

BEHIND = 1000
"""Messages of an account that this process puts there before somebody has to look at them: 30 ms of work, 28 µs a
message. After 200 it is 44 µs each, as every look opens, locks and syncs …"""
SHARE = 16
"""… or one in so many that lie in ``new``, when that is more: a look reads all their names."""
MAX_KNOWN = 10_000
"""Accounts of which is known how many wait."""


class Arrivals:
    """`home` gives an account's directory by its key, and raises ValueError for what is no key.

    `missing` is told that the directory of an account is not there, before it is made; `due`, that somebody has to look
    into an account. Neither may raise.
    """

    def __init__(
        self,
        disk: Disk,
        home: Callable[[str], str],
        *,
        missing: Callable[[str], None],
        due: Callable[[str], None],
    ) -> None:
        self._disk = disk
        self._home = home
        self._missing = missing
        self._due = due
        self._waiting: OrderedDict[str, int] = OrderedDict()
        self._bounds: dict[str, int] = {}
        self._debt = 0
        """How many wait in accounts that are not known any more and were not looked into."""

    def check(self, account: str) -> None:
        """Make sure that the inbox is there and takes mail. Raises MailError 451, OSError, ValueError."""
        home = self._home(account)
        if not self._disk.writable(f"{home}/Maildir/new"):
            self._make(account, home)

    def complete(self, account: str) -> None:
        """After a power cut a part of an inbox may be there: make the rest. Raises as `check` does."""
        home = self._home(account)
        if self._disk.exists(f"{home}/Maildir/new"):
            self._make_parts(home)
        else:
            self._make(account, home)

    def fill(self, account: str, base: str, source: Source) -> None:
        """Put a message there. Raises OSError, MailError."""
        home = self._home(account)
        name = arriving(base, source.size, source.wire, source.ascii)
        path = f"{home}/Maildir/new/{name}"
        try:
            source.link(path)
        except FileNotFoundError:
            self._make(account, home)
            source.link(path)
        self._count(account)

    def waiting(self, account: str) -> bool:
        """Whether some of what this process put there is known to wait."""
        return bool(self._waiting.get(account))

    def caught_up(self, account: str, listed: int) -> None:
        """Somebody has looked; so many names are in ``new``."""
        if account in self._waiting:
            self._waiting[account] = 0
        if listed > BEHIND * SHARE and account in self._waiting:
            self._bounds[account] = listed // SHARE
        else:
            self._bounds.pop(account, None)

    def _count(self, account: str) -> None:
        count = self._waiting.get(account, 0) + 1
        if count >= self._bounds.get(account, BEHIND):
            count = 0
            self._due(account)
        self._waiting[account] = count
        if len(self._waiting) > MAX_KNOWN:
            oldest, count = self._waiting.popitem(last=False)
            self._bounds.pop(oldest, None)
            self._debt += count
            if self._debt >= BEHIND:
                # By chance, the more probably the more wait: in the long run no account has very many.
                self._debt -= BEHIND
                self._due(oldest)

    def _make(self, account: str, home: str) -> None:
        """Make what is missing. Raises when it is there, and takes nothing."""
        new = f"{home}/Maildir/new"
        if self._disk.exists(new):
            raise mailbox_broken(f"{new}: not writable")
        if self._disk.exists(f"{home}/index.sqlite3"):
            # An index without its Maildir: taken away, or its file system is not mounted.
            raise mailbox_broken(f"{home}/Maildir: not there")
        self._missing(account)
        self._make_parts(home)

    def _make_parts(self, home: str) -> None:
        # What has a `new` is a Maildir: that comes last.
        for part in ("tmp", *reversed(SUBDIRECTORIES)):
            self._directory(f"{home}/Maildir/{part}")

    def _directory(self, path: str) -> None:
        try:
            self._disk.mkdir(path)
        except FileExistsError:
            pass
        except FileNotFoundError:
            self._directory(os.path.dirname(path))
            with contextlib.suppress(FileExistsError):
                self._disk.mkdir(path)
