"""A queue with everything around it in memory, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from twisted.internet.defer import Deferred

from twisted_mail.queue.manager import QueueManager
from twisted_mail.queue.schedule import Settings
from twisted_mail.storage.queued import QueuedMessage, State
from twisted_mail.testing.queue import Host, MemoryCarrier, MemoryDoor, MemorySpool, queued_message
from twisted_mail.testing.world import simulated_world


class Site:
    """`manager` runs from the start, unless told otherwise."""

    def __init__(
        self,
        *,
        seed: int = 0,
        lag: float | None = 0.002,
        start: bool = True,
        hop_of: Callable[[str, bool], str] | None = None,
        double_bounces_to: str = "",
        **settings: Any,
    ) -> None:
        self.world = simulated_world(seed=seed)
        self.spool = MemorySpool(self.world, lag=lag)
        self.door = MemoryDoor(self.world, self.spool, lag=lag)
        self.carrier = MemoryCarrier(self.world)
        self.settings = Settings(**settings)
        self.hop_of = hop_of
        self.double_bounces_to = double_bounces_to
        self.count = 0
        self.manager = self.new_manager()
        if start:
            self.manager.start()
            self.run(0.1)

    def new_manager(self) -> QueueManager:
        return QueueManager(
            self.world,
            self.spool,
            self.carrier,
            self.door,
            self.settings,
            self.hop_of,
            hostname="home.example",
            double_bounces_to=self.double_bounces_to,
        )

    def crash(self) -> None:
        """The process dies, and the next one begins."""
        for call in list(self.world.reactor.getDelayedCalls()):
            call.cancel()
        # What is collected as garbage of a dead process must not go on as if it were alive.
        self.door.cut = self.carrier.dead = True
        self.manager.running = self.manager.dispatcher.running = self.manager.window.open = False
        self.spool.crash()
        notices, nobody = self.door.notices, self.door.nobody
        self.door = MemoryDoor(self.world, self.spool, lag=self.door.lag)
        self.door.notices, self.door.nobody = notices, nobody
        hosts, sent, tries = self.carrier.hosts, self.carrier.sent, self.carrier.tries
        self.carrier = MemoryCarrier(self.world)
        self.carrier.hosts, self.carrier.sent, self.carrier.tries = hosts, sent, tries
        for host in hosts.values():
            host.open = 0
        self.manager = self.new_manager()
        self.manager.start()

    def host(self, hop: str, **more: Any) -> Host:
        host = self.carrier.hosts[hop] = Host(**more)
        return host

    @property
    def now(self) -> float:
        return self.world.now()

    def message(self, *to: Any, identity: str = "", **more: Any) -> QueuedMessage:
        self.count += 1
        return queued_message(identity or f"m{self.count}", *to, arrived=self.now, **more)

    def accept(self, *to: Any, **more: Any) -> str:
        """A message to these, committed now; its id."""
        message = self.message(*to, **more)
        self.spool.accept(message)
        return message.id

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.world.reactor.advance(seconds)

    def until(self, condition: Callable[[], bool], within: float) -> float:
        """Let time pass until `condition` holds; the seconds that took."""
        clock = self.world.reactor
        began = clock.seconds()
        while not condition():
            at = self._next()
            assert at - began <= within, f"not within {within} seconds"
            clock.advance(max(0.0, at - clock.seconds()))
        return float(clock.seconds() - began)

    def _next(self) -> float:
        calls = self.world.reactor.calls
        return float(calls[0][0]) if calls else inf

    def stop(self) -> None:
        stopped = Deferred.fromCoroutine(self.manager.stop())
        self.until(lambda: bool(stopped.called), 60)
        stopped.result  # noqa: B018

    def state(self, identity: str) -> str:
        return " ".join(state.name for state in self.spool.states(identity))

    def done(self) -> bool:
        """Whether everything is over."""
        return all(row.state.final for row in self.spool.rows.values())

    def sent(self) -> list[tuple[str, int]]:
        return [(identity, number) for _, _, identity, number in self.carrier.sent]

    def waiting(self) -> int:
        return self.spool.count(State.WAITING, State.DEFERRED, State.ACTIVE)
