"""How many recipients are in memory, of whom, and who may come in: the bound on the queue's memory.

The window has one size. A destination has a share of it, and so have all of a kind (`Standing`): what fails, or is not
known, never fills it. New mail on its short way (`claim`) leaves room for what waits on the disk.

`claim` and `share` are called in other threads. They read what the reactor's thread counts, which is never far off,
and write only what is theirs: `claim` under a lock, `share` while one `take` runs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping

from ..storage.queued import QueuedMessage
from .destination import Destination
from .schedule import Settings, Standing

__all__ = ["Window"]

REOPENED = 200
"""Destinations that are named to one `take`: as many as it looks at."""


class Window:
    """Counts the recipients of `destinations`, which the manager fills and empties."""

    def __init__(self, settings: Settings, destinations: Mapping[str, Destination]) -> None:
        self._settings = settings
        self._destinations = destinations
        self._lock = threading.Lock()
        self._claims: dict[str, tuple[str, ...]] = {}
        self._claimed: dict[str, int] = {}
        self._claim_count = 0
        self._taking = 0
        self._granted: dict[str, int] = {}
        self._granted_of = [0, 0, 0]
        self._capped: tuple[dict[str, None], ...] = ({}, {}, {})
        self._reopened: deque[str] = deque()
        self._limits = (settings.window, settings.new_window, settings.probe_window)
        self._shares = (settings.share, settings.new_share, settings.probe_share)
        self._claim_room = max(1, settings.window * 3 // 4)
        self._new_claims = max(1, settings.window // 20)
        self.of = [0, 0, 0]
        """Recipients in memory by `Standing` of their destination."""
        self.total = 0
        """All of them."""
        self.open = False
        """Whether new mail may come in on the short way."""
        self.refused = False
        """Whether some could not: it lies on the disk, due."""

    # -- what is in memory

    def add(self, destination: Destination, count: int) -> None:
        """`count` recipients more; a negative number when they have left."""
        destination.held += count
        self.of[destination.standing] += count
        self.total += count
        if count < 0 and destination.parked:
            self.reopen(destination)

    def reclass(self, destination: Destination) -> None:
        """Count it as what it is now."""
        standing = destination.deserved
        if standing is not destination.standing:
            self.of[destination.standing] -= destination.held
            self.of[standing] += destination.held
            destination.standing = standing
            if destination.parked:
                self.reopen(destination)

    def reopen(self, destination: Destination) -> None:
        """Look again at a destination that had more than its share, once half of that is used up."""
        if destination.held <= self._share_of(destination) // 2:
            destination.parked = False
            self._reopened.append(destination.hop)

    def _share_of(self, destination: Destination) -> int:
        if destination.slow:
            # It is alive: its connections are to have something to do.
            return max(self._settings.probe_share, 2 * destination.health.limit)
        return self._shares[destination.standing]

    # -- new mail

    def claim(self, message: QueuedMessage) -> bool:
        """Whether there is room for a new message; then it is counted. In any thread."""
        recipients = message.recipients
        count = len(recipients)
        with self._lock:
            taken = self.total + self._claim_count + count
            if (
                not self.open
                or taken > self._claim_room
                or taken + self._taking > self._settings.window
            ):
                self.refused = True
                return False
            hops: tuple[str, ...]
            if count == 1:
                hops = (recipients[0].hop,)
                fits = self._fits(hops[0], 1)
            else:
                hops = tuple(recipient.hop for recipient in recipients)
                fits = all(self._fits(hop, hops.count(hop)) for hop in set(hops))
            if not fits:
                self.refused = True
                return False
            self._claims[message.id] = hops
            self._claim_count += count
            for hop in hops:
                self._claimed[hop] = self._claimed.get(hop, 0) + 1
        return True

    def _fits(self, hop: str, count: int) -> bool:
        if not hop:
            return True
        destination = self._destinations.get(hop)
        standing = Standing.NEW if destination is None else destination.standing
        if standing is Standing.FAILING:
            return False
        held = count + self._claimed.get(hop, 0) + (destination.held if destination else 0)
        if standing is Standing.NEW:
            return held <= self._new_claims and self.of[standing] + held <= self._limits[standing]
        return held <= max(1, self._shares[standing] * 3 // 4)

    def settle(self, messages: Iterable[QueuedMessage]) -> None:
        """What was claimed for these counts no longer: they have come, or they will not."""
        with self._lock:
            for message in messages:
                for hop in self._claims.pop(message.id, ()):
                    self._claim_count -= 1
                    left = self._claimed[hop] - 1
                    if left:
                        self._claimed[hop] = left
                    else:
                        del self._claimed[hop]

    @property
    def crowded(self) -> bool:
        """Whether destinations that nothing is known of wait on the disk until others of them are known."""
        return bool(self._capped[Standing.NEW])

    @property
    def claims(self) -> bool:
        """Whether some that were claimed have not come yet."""
        return bool(self._claim_count)

    # -- what lies on the disk

    def begin(self) -> tuple[int, list[str]]:
        """Before a `take`: how many recipients there is room for (0: none), and which destinations to look at again."""
        with self._lock:
            room = self._settings.window - self.total - self._claim_count
            # Not all at once: meanwhile new mail wants in.
            self._taking = max(0, min(room, max(1, self._settings.window // 4)))
        self._granted = {}
        self._granted_of = [0, 0, 0]
        reopened: list[str] = []
        if self._taking:
            for standing in (Standing.NEW, Standing.FAILING):
                free = self._limits[standing] - self.of[standing]
                capped = self._capped[standing]
                for _ in range(min(len(capped), max(0, free // self._shares[standing]), REOPENED)):
                    hop = next(iter(capped))
                    del capped[hop]
                    reopened.append(hop)
            while self._reopened and len(reopened) < 2 * REOPENED:
                reopened.append(self._reopened.popleft())
        return self._taking, reopened

    def share(self, hop: str) -> int:
        """How many more of `hop` may be taken. In a thread, while a `take` runs."""
        if not hop:
            return self._taking
        destination = self._destinations.get(hop)
        if destination is None:
            standing, room = Standing.NEW, self._shares[Standing.NEW]
        else:
            standing = destination.standing
            room = self._share_of(destination) - destination.held
        room -= self._claimed.get(hop, 0) + self._granted.get(hop, 0)
        if room > 0 and standing is not Standing.WELL:
            free = self._limits[standing] - self.of[standing] - self._granted_of[standing]
            if free <= 0:
                self._capped[standing][hop] = None
                return 0
            room = min(room, free)
        room = max(0, room)
        self._granted[hop] = self._granted.get(hop, 0) + room
        self._granted_of[standing] += room
        return room

    def undo(self, reopened: Iterable[str]) -> None:
        """These of `begin` were not looked at: the `take` failed."""
        self._reopened.extend(reopened)

    def end(self, used: Mapping[str, int]) -> None:
        """After a `take` that gave `used` recipients of each hop, which are counted by now."""
        self._taking = 0
        for hop, granted in self._granted.items():
            if used.get(hop, 0) >= granted:
                # It may have more.
                destination = self._destinations.get(hop)
                if destination is None:
                    self._reopened.append(hop)
                else:
                    destination.parked = True
                    self.reopen(destination)
        self._granted = {}

    @property
    def pending(self) -> bool:
        """Whether destinations with more on the disk can be looked at now."""
        return bool(self._reopened) or any(
            self._capped[standing]
            and self._limits[standing] - self.of[standing] >= self._shares[standing]
            for standing in (Standing.NEW, Standing.FAILING)
        )
