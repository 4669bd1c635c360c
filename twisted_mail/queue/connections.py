"""How many connections there are, over all destinations, and who gets the next one. Counters and lines; no network.

Two bounds: connections that get on, and as a part of its own those that do not (`Connection.slow`): of destinations
that failed the last time (`probe`), and what has hung for longer than one is patient. So dead hosts, however many, do
not use up the places of the living. Of the first kind at most half are for opening what nothing is known of yet; of
the second at most half are for probes, so that what hangs can always get out of the way, if not at once: `wanting`
says how many that has hung for long should end.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from .destination import Connection, Destination
from .schedule import Settings, Standing

__all__ = ["Connections"]


class Connections:
    """All that stand or are being opened, and the destinations that wait for one, in line."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lines: tuple[deque[Destination], ...] = (deque(), deque(), deque())
        self._turn = False
        self._new = 0
        self.all: dict[Connection, None] = {}
        self.idle: OrderedDict[Connection, float] = OrderedDict()
        """Kept connections without work, the one that has been for longest first, and when that began."""
        self.busy = 0
        self.slow = 0
        self.probes = 0
        """Of the slow ones."""

    def _room(self, standing: Standing) -> bool:
        settings = self._settings
        if standing is Standing.FAILING:
            # Half of one is one.
            return (
                self.slow < settings.slow_connections
                and self.probes < (settings.slow_connections + 1) // 2
            )
        if self.busy >= settings.connections:
            return False
        return standing is Standing.WELL or self._new < max(1, settings.connections // 2)

    def contested(self, standing: Standing) -> bool:
        """Whether somebody in line would get the place that one of this standing takes."""
        if standing is Standing.FAILING:
            return bool(self._lines[Standing.FAILING])
        return bool(
            self._lines[Standing.WELL] or (self._lines[Standing.NEW] and self._room(Standing.NEW))
        )

    def admit(self, destination: Destination, now: float) -> Connection | None:
        """A place for one more to `destination`. Without one, it stands in line (`next`)."""
        standing = destination.standing
        if not self._room(standing):
            self.queue(destination)
            return None
        connection = Connection(destination, now, standing is Standing.FAILING)
        if connection.slow:
            connection.probe = True
            self.slow += 1
            self.probes += 1
        else:
            self.busy += 1
            if standing is Standing.NEW:
                self._new += 1
                connection.fresh = True
        self.all[connection] = None
        return connection

    def queue(self, destination: Destination) -> None:
        """Stand in line."""
        if not destination.waiting:
            destination.waiting = True
            self._lines[destination.standing].append(destination)

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for one of the places that get on."""
        return bool(self._lines[Standing.WELL] or self._lines[Standing.NEW])

    @property
    def crowded(self) -> bool:
        """Whether one more would get on only in the place of another."""
        return self.busy >= self._settings.connections

    def wanting(self, stuck: int) -> int:
        """How many slow ones should end, when `stuck` that hang keep the places of others that would get on."""
        if self.slow < self._settings.slow_connections:
            return 0
        probes = min(
            len(self._lines[Standing.FAILING]),
            (self._settings.slow_connections + 1) // 2 - self.probes,
        )
        return stuck + max(0, probes)

    def next(self) -> Destination | None:
        """Who is next and may have a place now."""
        self._turn = not self._turn
        order = (Standing.WELL, Standing.NEW) if self._turn else (Standing.NEW, Standing.WELL)
        for standing in (*order, Standing.FAILING):
            line = self._lines[standing]
            if line and self._room(standing):
                destination = line.popleft()
                destination.waiting = False
                return destination
        return None

    def opened(self, connection: Connection) -> None:
        """It is being opened no more."""
        if connection.fresh:
            connection.fresh = False
            self._new -= 1

    def hangs(self, connection: Connection) -> bool:
        """Count it with the slow ones; False when they are as many as may be already."""
        if self.slow >= self._settings.slow_connections:
            return False
        self.opened(connection)
        connection.slow = True
        self.busy -= 1
        self.slow += 1
        return True

    def recovers(self, connection: Connection) -> None:
        """It gets on again: count it so, where there is room."""
        if connection.slow and self.busy < self._settings.connections:
            self._not_slow(connection)
            self.busy += 1

    def _not_slow(self, connection: Connection) -> None:
        connection.slow = False
        self.slow -= 1
        if connection.probe:
            connection.probe = False
            self.probes -= 1

    def release(self, connection: Connection) -> None:
        """It is gone."""
        if connection not in self.all:
            return
        del self.all[connection]
        self.opened(connection)
        if connection.slow:
            self._not_slow(connection)
        else:
            self.busy -= 1
