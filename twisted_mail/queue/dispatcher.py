"""Who sends: opens connections to destinations, hands batches over one after the other, keeps and closes them.

Works only on what is in memory. What came of it, and what was not tried, is told to `Results`, which also sees to the
disk; `learning` draws the conclusions. A connection is one coroutine as long as it has work; a kept one is an entry in
a table. Coroutines run until they really wait, so all of this may be entered again from anything that begins one.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from ..interfaces import Content
from ..status import MailError
from ..storage.queued import QueuedMessage
from ..world import World
from .bell import Bell
from .connections import Connections
from .destination import Batch, Connection, Destination, Destinations
from .interfaces import Carrier, DestinationError, Job
from .learning import Learning, Results
from .schedule import Settings, Standing
from .verdicts import error_outcomes, unreadable_outcomes
from .window import Window

__all__ = ["Dispatcher"]

_log = Logger()

FAIR = 10
"""Messages after which a connection that is not its destination's only one makes room for others."""


class Dispatcher:
    """Sends by `carrier` what is added. `destinations` is the table that `window` counts, filled here."""

    def __init__(
        self,
        world: World,
        settings: Settings,
        carrier: Carrier,
        open: Callable[[QueuedMessage], Awaitable[Content]],
        window: Window,
        destinations: Destinations,
        results: Results,
        random: Callable[[], float],
    ) -> None:
        self._seconds: Callable[[], float] = world.reactor.seconds
        self._settings = settings
        self._carrier = carrier
        self._open = open
        self._window = window
        self.destinations = destinations
        self._results = results
        self._stalled: dict[Destination, None] = {}
        self._resting: list[tuple[float, int, Destination]] = []
        self._rests = 0
        self._ended = Bell(world.reactor)
        self._serving = False
        self.connections = Connections(settings)
        self._learning = Learning(
            settings, window, self.connections, results, self._seconds, random, self._close
        )
        self.running = False
        self.opened = 0
        """Connections that were opened, ever."""

    # -- work comes

    def add(self, destination: Destination, batch: Batch) -> None:
        """One more to send; `pump` begins."""
        self._window.add(destination, len(batch.taken))
        destination.lines.append(batch)

    def pump(self, destination: Destination, *, turn: bool = False) -> None:
        """Put as many connections to work as there is work for, and room. `turn`: it was the first in line."""
        if destination.pumping:
            return  # further out, and goes on there
        destination.pumping = True
        try:
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
                connection = self._connection(destination, turn)
                if connection is None:
                    break
                turn = False
                destination.running += 1
                connection.work = Deferred.fromCoroutine(self._run(connection))
                connection.work.addErrback(_unexpected)
        finally:
            destination.pumping = False
        if (
            destination.waiting
            and destination.standing is not Standing.FAILING
            and self.connections.crowded
        ):
            # Only now that it may be its turn at once.
            for kept in self.connections.idle:
                self._close(kept)
                break

    def _connection(self, destination: Destination, turn: bool) -> Connection | None:
        """One that is kept, or a place for a new one."""
        connections = self.connections
        if destination.idle:
            connection = destination.idle.pop()
            del connections.idle[connection]
            return connection
        if not turn and connections.contested(destination.standing):
            connections.queue(destination)
            return None
        admitted = connections.admit(destination, self._seconds())
        if admitted is not None:
            destination.opening += 1
        return admitted

    def room(self) -> None:
        """`Results.full` is over."""
        stalled, self._stalled = self._stalled, {}
        for destination in stalled:
            self.pump(destination)

    def serve(self) -> None:
        """Places are free: whoever is next in line."""
        if self._serving:
            return  # further out, and goes on there
        self._serving = True
        try:
            while (destination := self.connections.next()) is not None:
                self.pump(destination, turn=True)
        finally:
            self._serving = False

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
            self.destinations.rest(destination)
        self.serve()
        if not self.connections.all:
            self._ended.ring()

    async def _opened(self, connection: Connection) -> bool:
        destination = connection.destination
        try:
            connection.courier = await self._carrier.open(destination.hop)
        except DestinationError as error:
            return self._not_opened(connection, error)
        except CancelledError:
            if connection.given_up:
                waited = self._seconds() - connection.since
                text = f"no connection within {waited:.0f} seconds"
                return self._not_opened(connection, DestinationError(text))
            if not self.running:
                raise
            # Nobody here has cancelled it.
            _log.failure("failure while opening a connection", hop=destination.hop)
            return self._not_opened(connection, _fault())
        except Exception:
            _log.failure("failure while opening a connection", hop=destination.hop)
            return self._not_opened(connection, _fault())
        self._is_open(connection)
        self.opened += 1
        destination.health.opened()
        self._window.reclass(destination)
        if connection.slow and destination.standing is not Standing.FAILING:
            self.connections.recovers(connection)
        self.serve()
        return True

    def _not_opened(self, connection: Connection, error: DestinationError) -> bool:
        self._is_open(connection)
        self._learning.refused(connection, error)
        return False

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
            except MailError as error:
                # No fault of the destination: what else waits for it goes on by the same connection.
                _log.error(
                    "cannot be sent: {error}",
                    error=str(error),
                    message=batch.message.id,
                    sender=batch.message.sender,
                )
                outcomes = unreadable_outcomes(error, batch.taken)
            except (Exception, CancelledError) as error:
                if isinstance(error, CancelledError) and connection.given_up:
                    text = f"not done within {self._settings.deliver_limit:.0f} seconds"
                    end = DestinationError(text, enhanced="4.4.2")
                elif isinstance(error, CancelledError) and not self.running:
                    self._results.untried(destination, (batch,), self._seconds())
                    raise
                else:
                    _log.failure(
                        "failure while sending", message=batch.message.id, hop=destination.hop
                    )
                    end = _fault()
                outcomes = error_outcomes(end, batch.taken)
                faulty = True
            connection.served += 1
            # What failed in the midst of something is not to be used again.
            ended = faulty or connection.given_up or not courier.usable
            self._results.outcomes(destination, batch, outcomes)
            if (
                self._learning.outcomes(connection, outcomes, ended)
                and destination.lines
                and destination.running < destination.health.limit
            ):
                self.pump(destination)
            took = self._seconds() - began
            if destination.slow or took > patience:
                self._learning.speed(connection, took > patience)
            if ended:
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

    # -- time passes

    def tick(self, now: float) -> None:
        """To be called every second or so: notice what hangs, close what was kept for nothing, wake what rested."""
        self._learning.notice(now)
        settings = self._settings
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
        self.serve()

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
        for destination in list(self.destinations.values()):
            if destination.lines:
                found.append((destination, destination.all()))
        return found

    async def stop(self, seconds: float) -> None:
        """Begin nothing more, wait `seconds` for what runs, then cut it off."""
        self.running = False
        for connection in list(self.connections.idle):
            self._close(connection)
        for connection in list(self.connections.all):
            if connection.opening:
                connection.work.cancel()
        if self.connections.all:
            await self._ended.wait(seconds)
        for connection in list(self.connections.all):
            connection.work.cancel()
        if self.connections.all:
            await self._ended.wait(5.0)
        if self.connections.all:
            _log.warn("connections do not end", connections=len(self.connections.all))


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
