"""Inboxes as they were when somebody opened them last: who polls a mailbox that nobody has changed opens no index.

What an inbox held is kept in memory with the marks (`scan.marks`) that its directories had. A name that comes or goes
in a directory changes its mark, when that has settled; so while the marks are the same, what is kept is the inbox. They
are asked for on the reactor thread: the kernel has at hand what it was asked a short while ago, and what was kept for
longer is forgotten.

It promises bounded memory, and that nothing in here is believed without a look at the directories, with the inbox
locked.
"""

from __future__ import annotations

import fcntl
import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ..disk import Disk
from ..interfaces import MessageInfo
from . import scan
from .errors import mailbox_in_use
from .index import RowTuple

__all__ = ["KEPT_SECONDS", "Inboxes", "Opened", "hold", "settled"]

MAX_INBOXES = 4000
MAX_MESSAGES = 20_000
"""Of all that are kept, together: some 10 MB."""
KEPT_SECONDS = 900.0
SETTLED_NS = 100_000_000
"""A directory that changed this long ago will show the next change in its modification time: the clock that stamps it
ticks at least every 10 ms …"""
COARSE_NS = 2_000_000_000
"""… but where the file system knows whole seconds only, or two."""


@dataclass(slots=True)
class Opened:
    """An inbox that is held. `marks`: of its directories, before the rows were read; `lock`: the descriptor that holds
    it; `settled`: the marks were old enough then to show every change since; `gone`: bases of what another program
    took."""

    maildir: str
    rows: Sequence[RowTuple]
    messages: Sequence[MessageInfo]
    lock: int
    marks: tuple[int, int] = (0, 0)
    settled: bool = False
    gone: Sequence[str] = ()


def settled(disk: Disk, marks: Collection[int]) -> bool:
    """Whether each change that comes will change these marks (`scan.marks`)."""
    now = disk.clock_ns()
    return all(mark + (SETTLED_NS if mark % 10**9 else COARSE_NS) < now for mark in marks)


def hold(disk: Disk, home: str) -> int:
    """Take the lock of the one session that may write the inbox of the account in `home`; close the descriptor to give
    it up.

    Raises OSError, and MailError with ``pop3="IN-USE"``.
    """
    fd = disk.open(os.path.join(home, "inbox.lock"), os.O_RDWR | os.O_CREAT)
    try:
        disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        disk.close(fd)
        raise mailbox_in_use() from None
    except BaseException:
        disk.close(fd)
        raise
    return fd


class Inboxes:
    """The inboxes of this process's POP3 sessions. Reactor thread. `now` in seconds."""

    def __init__(self, disk: Disk, now: Callable[[], float]) -> None:
        self._disk = disk
        self._now = now
        self._kept: OrderedDict[str, tuple[Opened, float]] = OrderedDict()
        self._messages = 0

    def open(self, key: str) -> Opened | None:
        """The inbox, held; None: what is kept of it is not true any more, or nothing is. Raises as `hold` does."""
        known = self._kept.get(key)
        if known is None:
            return None
        kept, since = known
        if not 0 <= self._now() - since < KEPT_SECONDS:
            self._forget(key)
            return None
        try:
            lock = hold(self._disk, os.path.dirname(kept.maildir))
        except OSError:
            # Taken away, for one.
            self._forget(key)
            return None
        try:
            current = scan.marks(self._disk, kept.maildir) == kept.marks
        except OSError:
            current = False
        if not current:
            self._disk.close(lock)
            self._forget(key)
            return None
        self._kept[key] = (kept, self._now())
        self._kept.move_to_end(key)
        return Opened(kept.maildir, kept.rows, kept.messages, lock)

    def keep(self, key: str, opened: Opened) -> None:
        """It was opened just now."""
        self._forget(key)
        count = len(opened.rows)
        if opened.settled and not opened.gone and count <= MAX_MESSAGES:
            self._kept[key] = (opened, self._now())
            self._messages += count
            while len(self._kept) > MAX_INBOXES or self._messages > MAX_MESSAGES:
                self._forget(next(iter(self._kept)))

    def _forget(self, key: str) -> None:
        known = self._kept.pop(key, None)
        if known is not None:
            self._messages -= len(known[0].rows)
