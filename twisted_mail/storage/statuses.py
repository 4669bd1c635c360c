"""What STATUS said of mailboxes, kept in memory: clients ask for all of them, again and again; few have changed.

As `storage.inboxes`: what is kept is true while the directories have the marks (`scan.marks`) that they had before it
was found out, and those had settled. Flags are in the names of files, so they change them, too. What was kept for long
is forgotten: the directories are asked for on the reactor thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from ..disk import Disk
from ..mailboxes import Status
from . import scan
from .folders import Box
from .inboxes import KEPT_SECONDS, settled

__all__ = ["Statuses"]

MAX_KEPT = 10_000


class _Kept(NamedTuple):
    path: str
    marks: tuple[int, int]
    status: Status
    since: float


class Statuses:
    """Those of all accounts that this process serves. Reactor thread. `now` in seconds."""

    def __init__(self, disk: Disk, now: Callable[[], float]) -> None:
        self._disk = disk
        self._now = now
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def get(self, account: str, box: Box) -> Status | None:
        """What is true now, if it is known."""
        kept = self._kept.get((account, box.folder))
        if kept is None:
            return None
        if (
            kept.path != box.path
            or not 0 <= self._now() - kept.since < KEPT_SECONDS
            or self._marks(box) != kept.marks
        ):
            del self._kept[account, box.folder]
            return None
        return kept.status

    def before(self, box: Box) -> tuple[int, int] | None:
        """To be asked for before the status is found out, and given to `keep` with it; None: not to be kept."""
        marks = self._marks(box)
        return marks if marks is not None and settled(self._disk, marks) else None

    def keep(
        self, account: str, box: Box, before: tuple[int, int] | None, status: Status
    ) -> Status:
        """Gives `status`."""
        key = account, box.folder
        self._kept.pop(key, None)
        if before is not None:
            self._kept[key] = _Kept(box.path, before, status, self._now())
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return status

    def _marks(self, box: Box) -> tuple[int, int] | None:
        try:
            return scan.marks(self._disk, box.path)
        except OSError:
            return None
