"""A `World` in which nothing is real but the program.

`simulated_world` makes one. Time stands still until the test calls
``world.reactor.advance(seconds)``; work for threads runs on the one thread there is, in the order
it was given; connections are made with ``world.reactor.connect(port)`` and carry real bytes, and
real TLS, between protocols of one process. The same seed and the same calls give the same run.

It does not simulate a disk: give one (`twisted_mail.testing.disk` has those that fail or forget),
else the real disk is used and the test says where. Work that waits for other work in another thread
would wait for ever here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from ..disk import Disk, OsDisk
from ..world import Lane, World
from .client import Client, connect
from .network import Listener

__all__ = ["SimulatedReactor", "SimulatedThreads", "simulated_world"]

P = ParamSpec("P")
T = TypeVar("T")

_START = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC


class SimulatedReactor(MemoryReactorClock):
    """A clock that the test moves, and a network that ends where the process ends.

    What is scheduled for "now" runs at the next `advance`, also with ``advance(0)``; an exception
    in it comes out of `advance`, to be seen by the test.
    """

    def __init__(self, start: float = _START) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's is not annotated
        self.rightNow = start
        self.listeners: dict[int, Listener] = {}

    def settle(self) -> None:
        """Run everything that is due, and what that makes due, without moving the clock."""
        self.advance(0)

    def callFromThread(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        self.callLater(0, work, *args, **kwargs)

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> Listener:
        """Listen in the simulated network; port 0 takes a free one.

        There is one network: `interface` is only remembered. Raises `CannotListenError` when the
        port is taken.
        """
        return Listener(self.listeners, port, factory, interface)

    def connect(self, port: int | IProtocolFactory, *, address: str = "192.0.2.1") -> Client:
        """A client, connected from `address`, to who listens on `port`, or to a factory itself.

        Raises `ConnectionRefusedError` when nobody listens, or the factory wants no connection.
        """
        return connect(self, self.listeners, port, address)


class _SimulatedLane:
    def __init__(self, reactor: SimulatedReactor) -> None:
        self._reactor = reactor
        self._work: deque[Callable[[], None]] = deque()

    def submit(self, work: Callable[[], None]) -> None:
        self._work.append(work)
        if len(self._work) == 1:
            self._reactor.callLater(0, self._run)

    def stop(self) -> None:
        self._run()

    def _run(self) -> None:
        while self._work:
            self._work.popleft()()


class SimulatedThreads:
    """Threads in turn: what is given runs on the clock's next turn, in order, on one thread."""

    def __init__(self, reactor: SimulatedReactor) -> None:
        self._reactor = reactor

    def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        done: Deferred[T] = Deferred()

        def run() -> None:
            try:
                result = work(*args, **kwargs)
            except Exception:
                done.errback(Failure())
            else:
                done.callback(result)

        self._reactor.callLater(0, run)
        return done

    def lane(self, name: str) -> Lane:
        return _SimulatedLane(self._reactor)

    def back(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        self._reactor.callLater(0, work, *args, **kwargs)


def simulated_world(*, seed: int = 0, disk: Disk | None = None, start: float = _START) -> World:
    """A `World` whose `reactor` is a `SimulatedReactor` and whose `threads` are `SimulatedThreads`.

    `seed`: of the randomness. `disk`: None is the real one. `start`: seconds since 1970-01-01 UTC.
    """
    reactor: Any = SimulatedReactor(start)
    return World(
        reactor=reactor,
        threads=SimulatedThreads(reactor),
        disk=OsDisk() if disk is None else disk,
        entropy=Random(seed).randbytes,
    )
