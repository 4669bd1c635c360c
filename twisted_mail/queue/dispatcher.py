"""Who sends: opens connections to destinations, hands batches over one after the other, keeps and closes them.

Works only on what is in memory. What came of it, and what was not tried, is told to `Results`, which also sees to the
disk. A connection is one coroutine as long as it has work; a kept one is an entry in a table.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from ..interfaces import Content
from ..storage.queued import QueuedMessage
from ..world import World
from .connections import Connections
from .destination import SLOW, Batch, Connection, Destination
from .interfaces import Carrier, DestinationError, Job, Outcome, Result
from .schedule import Settings, Standing
from .verdicts import error_outcomes
from .window import Window

__all__ = ["Dispatcher", "Results"]

_log = Logger()

REMEMBERED = 4096
"""Destinations without mail of which is remembered how they fared."""
RECORDED = 100
"""Recipients whose story tells of a destination's failure; more are put back untold."""
FAIR = 10
"""Messages after which a connection that is not its destination's only one makes room for others."""


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


class Dispatcher:
    """Sends by `carrier` what is added. `destinations` is the table that `window` counts, filled here."""

    def __init__(
        self,
        world: World,
        settings: Settings,
        carrier: Carrier,
        open: Callable[[QueuedMessage], Awaitable[Content]],
        window: Window,
        destinations: dict[str, Destination],
        results: Results,
        random: Callable[[], float],
    ) -> None:
        self._seconds: Callable[[], float] = world.reactor.seconds
        self._settings = settings
        self._carrier = carrier
        self._open = open
        self._window = window
        self._destinations = destinations
        self._results = results
        self._random = random
        self._remembered: OrderedDict[str, None] = OrderedDict()
        self._stalled: dict[Destination, None] = {}
        self._resting: list[tuple[float, int, Destination]] = []
        self._rests = 0
        self._ended: list[Deferred[None]] = []
        self.connections = Connections(settings)
        self.running = False
        self.opened = 0
        """Connections that were opened, ever."""

    # -- destinations

    def destination(self, hop: str) -> Destination:
        """The destination of that name; one that is not known begins as new."""
        destination = self._destinations.get(hop)
        if destination is None:
            destination = Destination(hop, self._settings, self._seconds())
            self._destinations[hop] = destination
        else:
            self._remembered.pop(hop, None)
        return destination

    def rest(self, destination: Destination) -> None:
        """When it is empty: only remember it, for as long as there is room."""
        if not destination.empty:
            return
        remembered = self._remembered
        remembered[destination.hop] = None
        if len(remembered) > REMEMBERED:
            hop, _ = remembered.popitem(last=False)
            del self._destinations[hop]

    # -- work comes

    def add(self, destination: Destination, batch: Batch) -> None:
        """One more to send; `pump` begins."""
        self._window.add(destination, len(batch.taken))
        destination.lines.append(batch)

    def pump(self, destination: Destination) -> None:
        """Put as many connections to work as there is work for, and room."""
        while (
            destination.lines
            and destination.running < destination.health.limit
            and destination.opening < len(destination.lines)
            and not destination.resting
            and self.running
        ):
            if self._results.full:
                self._stalled[destination] = None
                return
            if destination.idle:
                connection = destination.idle.pop()
                del self.connections.idle[connection]
                destination.running += 1
            else:
                admitted = self.connections.admit(destination, self._seconds())
                if admitted is None:
                    self._make_room(destination)
                    return
                connection = admitted
                destination.running += 1
                destination.opening += 1
            connection.work = Deferred.fromCoroutine(self._run(connection))
            connection.work.addErrback(_unexpected)

    def _make_room(self, destination: Destination) -> None:
        if destination.standing is not Standing.FAILING and self.connections.idle:
            self._close(next(iter(self.connections.idle)))

    def room(self) -> None:
        """`Results.full` is over."""
        stalled, self._stalled = self._stalled, {}
        for destination in stalled:
            self.pump(destination)

    def serve(self) -> None:
        """Places are free: whoever is next in line."""
        while (destination := self.connections.next()) is not None:
            self.pump(destination)

    # -- one connection

    async def _run(self, connection: Connection) -> None:
        destination = connection.destination
        kept = False
        try:
            if connection.courier is not None or await self._opened(connection):
                await self._deliver_all(connection)
                kept = self._keeps(connection)
                if not kept:
                    connection.since = self._seconds()
                    await _bye(connection)
        except CancelledError:
            pass
        finally:
            if connection.opening:
                self._is_open(connection)
            destination.running -= 1
            if kept:
                destination.idle.append(connection)
                self.connections.idle[connection] = self._seconds()
            else:
                self._gone(connection)

    def _is_open(self, connection: Connection) -> None:
        connection.opening = False
        connection.destination.opening -= 1
        self.connections.opened(connection)

    def _gone(self, connection: Connection) -> None:
        self.connections.release(connection)
        destination = connection.destination
        if destination.lines:
            self.pump(destination)
        else:
            self.rest(destination)
        self.serve()
        if not self.connections.all:
            self._ring()

    async def _opened(self, connection: Connection) -> bool:
        destination = connection.destination
        try:
            connection.courier = await self._carrier.open(destination.hop)
        except DestinationError as error:
            self._is_open(connection)
            self._refused(connection, error)
            return False
        except CancelledError:
            if not connection.given_up:
                raise
            self._is_open(connection)
            text = f"no connection within {self._settings.open_limit:.0f} seconds"
            self._refused(connection, DestinationError(text))
            return False
        except Exception:
            _log.failure("failure while opening a connection", hop=destination.hop)
            self._is_open(connection)
            self._refused(connection, _fault())
            return False
        self._is_open(connection)
        self.opened += 1
        destination.health.opened()
        self._window.reclass(destination)
        if connection.slow and destination.standing is not Standing.FAILING:
            self.connections.recovers(connection)
        self.serve()
        return True

    async def _deliver_all(self, connection: Connection) -> None:
        destination = connection.destination
        courier = connection.courier
        assert courier is not None
        patience = self._settings.deliver_patience
        while (batch := self._next(connection)) is not None:
            if not connection.served and destination.lines:
                # It answers: more connections may be of use, and not before its first message is in hand.
                self.pump(destination)
            connection.since = began = self._seconds()
            job = Job(
                batch.message,
                tuple([(one.number, batch.message.recipients[one.number]) for one in batch.taken]),
                batch.mail_from,
                partial(self._open, batch.message),
            )
            faulty = False
            try:
                outcomes = await courier.deliver(job)
                if len(outcomes) != len(batch.taken):
                    raise ValueError(f"{len(outcomes)} outcomes for {len(batch.taken)} recipients")
            except CancelledError:
                if not connection.given_up:
                    self._results.untried(destination, (batch,), self._seconds())
                    raise
                text = f"not done within {self._settings.deliver_limit:.0f} seconds"
                outcomes = error_outcomes(DestinationError(text, enhanced="4.4.2"), batch.taken)
            except Exception:
                _log.failure("failure while sending", message=batch.message.id, hop=destination.hop)
                outcomes = error_outcomes(_fault(), batch.taken)
                faulty = True
            connection.served += 1
            ended = faulty or connection.given_up or not courier.usable
            self._results.outcomes(destination, batch, outcomes)
            self._learn(connection, outcomes, ended)
            if destination.slow or self._seconds() - began > patience:
                self._speed(connection, self._seconds() - began > patience)
            if ended:
                # What failed in the midst of something is not to be used again.
                connection.given_up = True
                return

    def _next(self, connection: Connection) -> Batch | None:
        destination = connection.destination
        if not destination.lines or not self.running or connection.given_up:
            return None
        courier = connection.courier
        assert courier is not None
        if not courier.usable or connection.served >= self._settings.messages:
            return None
        if destination.running > destination.health.limit:
            return None
        if (
            self.connections.wanted
            and destination.running > 1
            and connection.served
            and connection.served % FAIR == 0
        ):
            return None
        if self._results.full:
            self._stalled[destination] = None
            return None
        if destination.bucket is not None:
            now = self._seconds()
            wait = destination.bucket.take(now)
            if wait > 0:
                destination.resting = True
                self._rests += 1
                heapq.heappush(self._resting, (now + wait, self._rests, destination))
                return None
        return destination.next()

    def _keeps(self, connection: Connection) -> bool:
        courier = connection.courier
        assert courier is not None
        return (
            self.running
            and not connection.given_up
            and courier.usable
            and connection.served < self._settings.messages
            and connection.destination.running <= connection.destination.health.limit
            and self._settings.idle > 0
            and not connection.slow
            and not self.connections.wanted
        )

    # -- what is learned of a destination

    def _learn(self, connection: Connection, outcomes: Sequence[Outcome], ended: bool) -> None:
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
            return
        if recovered:
            self._results.lifted(destination)
            self._window.reclass(destination)
        if destination.running < health.limit and destination.lines:
            self.pump(destination)

    def _refused(self, connection: Connection, error: DestinationError) -> None:
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

    def _speed(self, connection: Connection, hung: bool) -> None:
        destination = connection.destination
        if hung:
            destination.slow = SLOW
        elif destination.slow:
            destination.slow -= 1
        self._window.reclass(destination)
        if not destination.slow and destination.standing is not Standing.FAILING:
            self.connections.recovers(connection)

    def _spill(self, destination: Destination) -> None:
        """Who hangs keeps only as much in memory as it can use: the rest lets others in, and comes again later."""
        keep = 1 if destination.opening else 2 * destination.health.limit
        rest = destination.surplus(keep)
        if rest:
            self._results.untried(destination, rest, self._seconds())

    # -- time passes

    def tick(self, now: float) -> None:
        """To be called every second or so: notice what hangs, close what was kept for nothing, wake what rested."""
        settings = self._settings
        freed = False
        for connection in list(self.connections.all):
            if connection in self.connections.idle:
                continue
            waited = now - connection.since
            opening = connection.opening
            if waited > (settings.open_limit if opening else settings.deliver_limit):
                connection.given_up = True
                connection.work.cancel()
            elif waited > (settings.patience if opening else settings.deliver_patience):
                freed = self._hangs(connection) or freed
        idle = self.connections.idle
        while idle:
            connection = next(iter(idle))
            courier = connection.courier
            if now - idle[connection] < settings.idle and courier is not None and courier.usable:
                break
            self._close(connection)
        resting = self._resting
        while resting and resting[0][0] <= now:
            destination = heapq.heappop(resting)[2]
            destination.resting = False
            self.pump(destination)
        if freed:
            self.serve()

    def _hangs(self, connection: Connection) -> bool:
        destination = connection.destination
        if destination.health.standing is not Standing.FAILING:
            # While another connection of it gets on, it is that one only.
            fresh = destination.slow == 0
            destination.slow = SLOW
            self._window.reclass(destination)
            if fresh:
                self._spill(destination)
        return not connection.slow and self.connections.hangs(connection)

    def _close(self, connection: Connection) -> None:
        """Of those that are kept."""
        del self.connections.idle[connection]
        connection.destination.idle.remove(connection)
        connection.since = self._seconds()
        connection.work = Deferred.fromCoroutine(self._farewell(connection))
        connection.work.addErrback(_unexpected)

    async def _farewell(self, connection: Connection) -> None:
        try:
            await _bye(connection)
        except CancelledError:
            pass
        finally:
            self._gone(connection)

    # -- the end

    def unsent(self) -> list[tuple[Destination, list[Batch]]]:
        """All that no connection has in hand; it is the caller's from now on."""
        found = []
        for destination in list(self._destinations.values()):
            if destination.lines:
                found.append((destination, destination.all()))
        return found

    async def stop(self, clock: Any, seconds: float) -> None:
        """Begin nothing more, wait `seconds` for what runs, then cut it off."""
        self.running = False
        for connection in list(self.connections.idle):
            self._close(connection)
        for connection in list(self.connections.all):
            if connection.opening:
                connection.work.cancel()
        await self._wait(clock, seconds)
        for connection in list(self.connections.all):
            connection.work.cancel()
        await self._wait(clock, 5.0)
        if self.connections.all:
            _log.warn("connections do not end", connections=len(self.connections.all))

    async def _wait(self, clock: Any, seconds: float) -> None:
        if not self.connections.all:
            return
        ended: Deferred[None] = Deferred()
        self._ended.append(ended)
        timer = clock.callLater(seconds, self._ring)
        await ended
        if timer.active():
            timer.cancel()

    def _ring(self) -> None:
        ended, self._ended = self._ended, []
        for one in ended:
            one.callback(None)


async def _bye(connection: Connection) -> None:
    courier = connection.courier
    assert courier is not None
    try:
        await courier.close()
    except CancelledError:
        raise
    except Exception:
        _log.failure("failure while closing a connection", hop=connection.destination.hop)


def _fault() -> DestinationError:
    # What is unknown is temporary.
    return DestinationError("internal error, to be tried again", enhanced="4.3.0", code=451)


def _unexpected(failure: Any) -> None:
    _log.failure("failure in the queue", failure)
