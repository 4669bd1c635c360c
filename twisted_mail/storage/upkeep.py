"""What a store does by itself while it is up: checkpoints, parked mail tried again, deleted mailboxes swept, mail that
has arrived given its UIDs.

Each is done by a pool thread, one at a time of its kind; what fails is in the log and done again later.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..world import World
from .journal import Journal
from .places import Places
from .sweeping import Sweeper

__all__ = ["Upkeep"]

_log = Logger()
CHECKPOINT_EVERY = 600.0
"""Seconds after which a journal that is not full is checkpointed all the same."""
MAKE_ROOM_EVERY = 5.0
RETRY_EVERY = 30.0
DELETED_FOR = 60.0
"""Seconds after which there is a checkpoint for a mailbox that was deleted: until then it takes its space."""
MAX_BEHIND = 1000
"""Accounts that wait for it; of others it is said again."""
SWEEP_PAUSE = 0.05
"""Seconds between two slices."""


class Upkeep:
    """The standing work of one store. Reactor thread only."""

    def __init__(self, world: World, journal: Journal, places: Places, sweeper: Sweeper) -> None:
        self._world = world
        self._journal = journal
        self._places = places
        self._sweeper = sweeper
        self._timers: list[Any] = []
        self._checkpoint: Deferred[None] | None = None
        self._retry: Deferred[None] | None = None
        self._sweeping: Deferred[bool] | None = None
        self._catching_up: Deferred[Any] | None = None
        self._behind: dict[str, None] = {}
        self._sweep_timer: Any = None
        self._deleted_timer: Any = None
        self._room_made = float("-inf")

    @property
    def on(self) -> bool:
        """Between `start` and `stop`."""
        return bool(self._timers)

    def start(self) -> None:
        self._timer(CHECKPOINT_EVERY, self.checkpoint)
        self._timer(RETRY_EVERY, self._try_again)
        self.sweep_soon()

    def stop(self) -> None:
        """Nothing is begun from now on."""
        timers, self._timers = self._timers, []
        for timer in (*timers, self._sweep_timer, self._deleted_timer):
            if timer is not None and timer.active():
                timer.cancel()

    async def over(self) -> None:
        """Return when all that was begun is done."""
        for work in (self._checkpoint, self._retry, self._sweeping, self._catching_up):
            if work is not None:
                await work

    def _timer(self, seconds: float, work: Any) -> None:
        def run() -> None:
            self._timers.remove(timer)
            self._timer(seconds, work)
            work()

        timer = self._world.reactor.callLater(seconds, run)
        self._timers.append(timer)

    # -- checkpoints

    def checkpoint(self) -> None:
        """A checkpoint, unless one is under way."""
        if self._checkpoint is None and self.on:
            self._checkpoint = self._world.threads.call(self._journal.checkpoint)
            self._checkpoint.addBoth(self._checkpointed)

    def _checkpointed(self, _: object) -> None:
        self._checkpoint = None

    def make_room(self) -> None:
        """The journal keeps the space of what was deleted since the last checkpoint: time for one."""
        now = self._world.now()
        if not 0 <= now - self._room_made < MAKE_ROOM_EVERY:
            self._room_made = now
            self.checkpoint()

    def folder_deleted(self) -> None:
        """A checkpoint comes soon, so that it can be swept."""
        if self.on and self._deleted_timer is None:
            self._deleted_timer = self._world.reactor.callLater(DELETED_FOR, self._deleted)

    def _deleted(self) -> None:
        self._deleted_timer = None
        self.checkpoint()

    # -- parked mail

    def _try_again(self) -> None:
        """Parked mail, unless that is under way."""
        if self._retry is None:
            retry = self._world.threads.call(self._places.parking.retry)
            self._retry = retry.addBoth(self._tried_again)

    def _tried_again(self, result: object) -> None:
        self._retry = None
        if isinstance(result, Failure):
            _log.error("parked mail: {error}", error=str(result.value))

    # -- mail that has no UID yet

    def catch_up(self, account: str) -> None:
        """Somebody has to look into this account, soon."""
        if self.on and len(self._behind) < MAX_BEHIND:
            self._behind[account] = None
            self._next_behind()

    def _next_behind(self) -> None:
        if self._catching_up is None and self._behind and self.on:
            account = next(iter(self._behind))
            del self._behind[account]
            self._catching_up = self._world.threads.call(self._places.catch_up, account)
            self._catching_up.addBoth(self._caught_up)

    def _caught_up(self, result: object) -> None:
        self._catching_up = None
        self._next_behind()

    # -- deleted mailboxes

    def sweep_soon(self) -> None:
        """Deleted mailboxes that nobody needs any more, a slice after the other."""
        if self.on and self._sweep_timer is None:
            self._sweep_timer = self._world.reactor.callLater(SWEEP_PAUSE, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = self._world.threads.call(self._sweeper.sweep)
        self._sweeping.addCallback(self._swept)

    def _swept(self, more: bool) -> bool:
        self._sweeping = self._sweep_timer = None
        if more:
            self.sweep_soon()
        return more
