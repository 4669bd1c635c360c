"""What is learned of a destination from how its connections fare, and what follows for the mail that waits for it.

A failure of the destination is told to all that wait for it, once; what hangs is counted apart from what gets on, until
it has got on for a while. `Health` and `Connections` do the counting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from .connections import Connections
from .destination import SLOW, Batch, Connection, Destination
from .interfaces import DestinationError, Outcome, Result
from .schedule import Settings, Standing
from .verdicts import error_outcomes
from .window import Window

__all__ = ["Learning", "Results"]

RECORDED = 100
"""Recipients whose story tells of a destination's failure; more are put back untold."""


class Results(Protocol):
    """Who hears of what the dispatcher does. Nothing here may wait."""

    def outcomes(self, destination: Destination, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """A batch was tried."""

    def untried(self, destination: Destination, batches: Sequence[Batch], due: float) -> None:
        """These were not."""

    def backed_off(self, destination: Destination) -> None:
        """It fails, see its `health`."""

    def lifted(self, destination: Destination) -> None:
        """It fails no more."""

    @property
    def full(self) -> bool:
        """Whether nothing more is to be sent for now; `Dispatcher.room` is called when that is over."""


class Learning:
    """`close`: of a connection that is kept."""

    def __init__(
        self,
        settings: Settings,
        window: Window,
        connections: Connections,
        results: Results,
        seconds: Callable[[], float],
        random: Callable[[], float],
        close: Callable[[Connection], None],
    ) -> None:
        self._settings = settings
        self._window = window
        self._connections = connections
        self._results = results
        self._seconds = seconds
        self._random = random
        self._close = close

    def outcomes(self, connection: Connection, outcomes: Sequence[Outcome], ended: bool) -> bool:
        """Of a message. `ended`: the connection with it. Whether the destination answered."""
        destination = connection.destination
        health = destination.health
        delivered = refused = False
        for outcome in outcomes:
            result = outcome.result
            if result is Result.DELIVERED or result is Result.RELAYED:
                delivered = True
                break
            if result is Result.FAILED:
                refused = True
        if delivered:
            recovered = health.delivered()
        elif refused or not ended:
            recovered = health.answered()
        else:
            # It broke down; in the midst of many messages that is not the destination's end.
            if (connection.served == 1 and health.setback()) or health.standing is Standing.FAILING:
                last = outcomes[-1]
                text = last.text or "the connection was lost"
                self._fail(
                    destination,
                    DestinationError(
                        text,
                        code=last.code,
                        enhanced=last.enhanced,
                        host=last.host,
                        address=last.address,
                        tls=last.tls,
                        said=last.said,
                    ),
                )
            return False
        if recovered:
            self._results.lifted(destination)
            self._window.reclass(destination)
        return True

    def refused(self, connection: Connection, error: DestinationError) -> None:
        """A connection could not be opened."""
        destination = connection.destination
        if error.permanent:
            for batch in destination.all():
                self._results.outcomes(destination, batch, error_outcomes(error, batch.taken))
            if destination.health.answered():
                self._results.lifted(destination)
            self._window.reclass(destination)
            return
        # The one whose place this is counts still.
        others = destination.running - 1 - destination.opening + len(destination.idle)
        if others > 0:
            destination.health.refused(others)
        elif destination.lines or connection.since > destination.failed_at:
            self._fail(destination, error)
        # Else: opened together with the one that has failed already, and no news.

    def _fail(self, destination: Destination, error: DestinationError) -> None:
        now = self._seconds()
        health = destination.health
        health.failed(now, self._random(), error.text)
        destination.failed_at = now
        destination.slow = 0
        self._window.reclass(destination)
        self._results.backed_off(destination)
        recorded = 0
        rest: list[Batch] = []
        for batch in destination.all():
            if recorded < RECORDED:
                recorded += len(batch.taken)
                self._results.outcomes(destination, batch, error_outcomes(error, batch.taken))
            else:
                rest.append(batch)
        if rest:
            self._results.untried(destination, rest, health.until)
        for connection in list(destination.idle):
            self._close(connection)

    def speed(self, connection: Connection, hung: bool) -> None:
        """A message took longer than one is patient, or did not."""
        destination = connection.destination
        if hung:
            destination.slow = SLOW
        elif destination.slow:
            destination.slow -= 1
        self._window.reclass(destination)
        if not destination.slow and destination.standing is not Standing.FAILING:
            self._connections.recovers(connection)

    def _spill(self, destination: Destination) -> None:
        """Who hangs keeps only as much in memory as it can use: the rest lets others in, and comes again later."""
        keep = 1 if destination.opening else 2 * destination.health.limit
        rest = destination.surplus(keep)
        if rest:
            self._results.untried(destination, rest, self._seconds())

    def notice(self, now: float) -> None:
        """What hangs gets out of the way of what gets on, or is cut off."""
        settings, connections = self._settings, self._connections
        # Who is known to be alive waits for who is not: what may be dead is looked at for less long.
        others = connections.wanted or self._window.crowded
        patience = settings.patience / 3 if others else settings.patience
        stuck = 0
        silent: list[Connection] = []
        for connection in list(connections.all):
            if connection in connections.idle:
                continue
            waited = now - connection.since
            if not connection.opening:
                if waited > settings.deliver_limit:
                    _give_up(connection)
                elif waited > settings.deliver_patience:
                    stuck += not self._hangs(connection)
                continue
            if waited > settings.open_limit:
                _give_up(connection)
                continue
            if waited > patience:
                stuck += not self._hangs(connection)
            if waited > settings.hurry and not connection.probe:
                silent.append(connection)
        # The first are the oldest.
        for connection in silent[: connections.wanting(stuck if others else 0)]:
            _give_up(connection)

    def _hangs(self, connection: Connection) -> bool:
        """It does not get on. False when it has to stay where it is counted."""
        destination = connection.destination
        if destination.health.standing is not Standing.FAILING:
            # While another connection of it gets on, it is that one only.
            fresh = destination.slow == 0
            destination.slow = SLOW
            self._window.reclass(destination)
            if fresh:
                self._spill(destination)
        return connection.slow or self._connections.hangs(connection)


def _give_up(connection: Connection) -> None:
    connection.given_up = True
    connection.work.cancel()
