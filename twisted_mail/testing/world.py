"""A `World` in which nothing is real but the program.

`simulated_world` makes one. Time stands still until the test calls ``world.reactor.advance(seconds)`` or
``world.run(coroutine)``; work for threads runs on the one thread there is, in the order it was given;
connections carry real bytes, and real TLS, between protocols of one process. The same seed and the same calls
give the same run.

A test begins at home, on a machine with the addresses 192.0.2.1 and 2001:db8::1. `SimulatedWorld.at` gives the
world of another machine in the same network and on the same clock: several sites run beside each other, and
each can be killed. `SimulatedWorld.network` has the faults.

It does not simulate a disk: give one (`twisted_mail.testing.disk` has those that fail or forget),
else the real disk is used and the test says where. Work that waits for other work in another thread
would wait for ever here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from random import Random
from typing import Any, ParamSpec, TypeVar, cast

from twisted.internet.address import UNIXAddress
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.internet.protocol import ClientFactory
from twisted.internet.testing import MemoryReactor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..counters import Counters
from ..disk import Disk, OsDisk
from ..dns.interfaces import Resolver
from ..world import Lane, World
from .client import Client, connect
from .clock import SimulatedClock
from .connecting import TcpConnector, UnixConnector
from .dns import FakeResolver, Zone
from .mortal import MortalDisk
from .names import Names
from .network import Listener, Network, Process
from .watch import SimulatedWatcher

__all__ = ["SimulatedReactor", "SimulatedThreads", "SimulatedWorld", "simulated_world"]

P = ParamSpec("P")
T = TypeVar("T")

_START = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC


@implementer(IReactorTime)
class SimulatedReactor(MemoryReactor):
    """A clock that the test moves, and a network that ends where the process ends: what one `process` sees of them.

    What is scheduled for "now" runs at the next `advance`, also with ``advance(0)``; an exception
    in it comes out of `advance`, to be seen by the test.
    """

    def __init__(
        self, clock: SimulatedClock, process: Process, resolver: Resolver | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's is not annotated
        self.process = process
        self.network = process.machine.network
        self.nameResolver = Names(resolver)
        self._clock = clock

    # Time

    @property
    def rightNow(self) -> float:
        return self._clock.rightNow

    @rightNow.setter
    def rightNow(self, now: float) -> None:
        self._clock.rightNow = now

    @property
    def calls(self) -> list[Any]:
        """What is to be done by anybody, as the clock keeps it; `getDelayedCalls` is for reading."""
        return self._clock.calls

    def seconds(self) -> float:
        return self._clock.rightNow

    def callLater(
        self, delay: float, callable: Callable[P, object], *args: P.args, **kwargs: P.kwargs
    ) -> DelayedCall:
        return self._clock.call_later(self.process, delay, callable, args, kwargs)

    def callFromThread(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        self.callLater(0, work, *args, **kwargs)

    def getDelayedCalls(self) -> list[DelayedCall]:
        """Those of this process."""
        return self._clock.pending(self.process)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass: what is due meanwhile, for whomever, runs at its time."""
        self._clock.advance(seconds)

    def jump(self, seconds: float) -> None:
        """Set the clock, forward or back, as somebody does who has the right to: no time passes, nothing is run.

        As with Twisted's own reactors, a call waits until the clock says its time: longer, after it was set back.
        """
        self._clock.jump(seconds)

    def settle(self) -> None:
        """Run everything that is due, and what that makes due, without moving the clock."""
        self._clock.advance(0)

    def step(self, within: float = math.inf) -> bool:
        """Run one call, the next, moving the clock to it. False when none is due `within` so many seconds."""
        return self._clock.step(self._clock.rightNow + within)

    # Network

    @property
    def listeners(self) -> dict[int, Listener]:
        """Who listens on this machine, by TCP port; a copy."""
        return self.process.machine.by_port()

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> Listener:
        """Listen on an address of this machine, or on all; port 0 takes a free one.

        Raises `CannotListenError` when the port is taken, or the address is another machine's.
        """
        return self.network.listen(self.process, port, factory, interface)

    def listenUNIX(
        self,
        address: str,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: int = 0,
    ) -> Listener:
        """A socket that is only in the simulated network: there is no such file. Raises `CannotListenError`."""
        return Listener(self.process, "", address, factory, UNIXAddress(address))

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> TcpConnector:
        """Connect to the address `host`, from an address of this machine, or that of `bindAddress`.

        Names are not resolved here; ``HostnameEndpoint`` asks the world's resolver.
        """
        source = None if bindAddress is None else bindAddress[0]
        connector = TcpConnector(self, self.process, host, port, factory, timeout, source)
        connector.connect()
        return connector

    def connectUNIX(
        self, address: str, factory: ClientFactory[Any], timeout: float = 30, checkPID: int = 0
    ) -> UnixConnector:
        """Connect to who listens on the path `address` of this machine."""
        connector = UnixConnector(self, self.process, address, factory, timeout)
        connector.connect()
        return connector

    def connect(self, port: int | IProtocolFactory, *, address: str = "192.0.2.1") -> Client:
        """A client, connected from `address`, to who listens on `port` of this machine, or to a factory itself.

        Raises `ConnectionRefusedError` when nobody listens, or the factory wants no connection.
        """
        return connect(self, self.process, port, address)


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
    """Threads in turn: what is given runs on the clock's next turn, in order, on one thread.

    What work gives to `back` is there before its result, as with real threads.
    """

    def __init__(self, reactor: SimulatedReactor) -> None:
        self._reactor = reactor
        self._given_back = 0

    def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        done: Deferred[T] = Deferred()

        def run() -> None:
            before = self._given_back
            result: Any
            try:
                result = work(*args, **kwargs)
            except Exception:
                result = Failure()
            if self._given_back == before:
                done.callback(result)
            else:
                self._reactor.callLater(0, done.callback, result)

        self._reactor.callLater(0, run)
        return done

    def lane(self, name: str) -> Lane:
        return _SimulatedLane(self._reactor)

    def back(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        self._given_back += 1
        self._reactor.callLater(0, work, *args, **kwargs)


class SimulatedWorld(World):
    """What one process on one machine sees of the simulation. Made by `simulated_world`, and by `at`."""

    reactor: SimulatedReactor
    watcher: SimulatedWatcher

    @property
    def network(self) -> Network:
        """All machines, and what is wrong with them."""
        return self.reactor.network

    def at(
        self, *addresses: str, disk: Disk | None = None, resolver: Resolver | None = None
    ) -> SimulatedWorld:
        """The world of a new process on the machine that has `addresses`: same clock, network and randomness.

        It connects from the first address of the family that it needs, and ``""`` listens on all of them. The
        machine is made when it is not there; who comes back after `kill` calls this again. `disk` and `resolver` are
        this world's unless given. Raises ValueError when an address is another machine's.
        """
        process = Process(self.network.machine(*addresses))
        resolver = self.resolver if resolver is None else resolver
        reactor = SimulatedReactor(self.reactor._clock, process, resolver)
        below = self.disk
        if disk is not None:
            below = disk
        elif isinstance(below, MortalDisk):
            below = below.disk
        mortal = cast(Disk, MortalDisk(below))
        return replace(
            self,
            reactor=reactor,
            threads=SimulatedThreads(reactor),
            disk=mortal,
            watcher=SimulatedWatcher(reactor, mortal),
            resolver=resolver,
            counters=Counters(),
        )

    @property
    def mortal(self) -> bool:
        """Whether `at` made it, so that it can be killed."""
        return isinstance(self.disk, MortalDisk)

    def kill(self) -> None:
        """The process is gone in the middle of what it did, as by ``kill -9``: none of its code runs any more.

        Its files are closed, its ports free, and who is connected to it gets what was written, and then the end. Only
        for a world that `at` made; RuntimeError for the first one.
        """
        if not isinstance(self.disk, MortalDisk):
            raise RuntimeError("only a world made by SimulatedWorld.at can be killed")
        self.reactor.process.kill()
        self.disk.kill()

    def run(self, work: Coroutine[Any, Any, T], *, within: float = 3600.0) -> T:
        """What `work` returns, or raises, letting as little time pass as it needs.

        RuntimeError when it is not done `within` so many seconds; it goes on, then.
        """
        results: list[T | Failure] = []
        Deferred.fromCoroutine(work).addBoth(results.append)
        end = self.now() + within
        while not results and self.reactor.step(end - self.now()):
            pass
        self.reactor.settle()
        if not results:
            raise RuntimeError(f"not done within {within} seconds")
        result = results[0]
        if isinstance(result, Failure):
            result.raiseException()
        return result


def simulated_world(
    *,
    seed: int = 0,
    disk: Disk | None = None,
    start: float = _START,
    resolver: Resolver | None = None,
) -> SimulatedWorld:
    """A `World` whose `reactor` is a `SimulatedReactor` and whose `threads` are `SimulatedThreads`.

    `seed`: of the randomness. `disk`: None is the real one. `start`: seconds since 1970-01-01 UTC. `resolver`: who
    knows names; None: one that knows none.
    """
    resolver = FakeResolver(Zone({})) if resolver is None else resolver
    clock = SimulatedClock(start)
    reactor = SimulatedReactor(clock, Process(Network(clock).home), resolver)
    disk = OsDisk() if disk is None else disk
    return SimulatedWorld(
        reactor=reactor,
        threads=SimulatedThreads(reactor),
        disk=disk,
        watcher=SimulatedWatcher(reactor, disk),
        entropy=Random(seed).randbytes,
        resolver=resolver,
    )
