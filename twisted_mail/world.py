"""The outside as one argument: clock, network, threads, disk, randomness, names, other processes of the site.

The real one is made in `tap`, `mail.tac` and `cli`; the simulated one in `twisted_mail.testing`. Nothing else
imports the reactor, asks the time, draws a random number or opens a file behind its back.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from .counters import Counters
from .disk import Disk, OsDisk
from .dns.interfaces import Resolver
from .siblings import Alone, Siblings
from .turns import Turns
from .watch import DirectoryWatcher, Watcher

__all__ = ["Lane", "Threads", "World", "call_or_drop", "real_world"]

P = ParamSpec("P")
T = TypeVar("T")


class Lane(Protocol):
    """One thread of its own: what is given to it runs in order, off the reactor thread."""

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work`, which must not raise, after everything submitted before. Callable from any thread."""

    def stop(self) -> None:
        """Run what was submitted, then end. Blocks until it has; nothing may be submitted afterwards."""


class Threads(Protocol):
    """Where blocking work goes."""

    def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run `work` in a pool thread; fires on the reactor thread."""

    def lane(self, name: str) -> Lane:
        """A new thread of its own."""

    def back(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """From any thread: run `work` on the reactor thread soon."""


@dataclass(frozen=True)
class World:
    """Everything outside the program.

    `reactor` provides IReactorTime, IReactorTCP, IReactorCore as its user needs; `watcher` tells of changes in
    directories; `entropy(n)` gives n unpredictable bytes; `resolver` asks the DNS, None: who needs one makes it from
    the configuration; `siblings`: the other processes of this site; `counters`: what this process has done;
    `descriptors`: how many files it may have open, 0: nobody knows.
    """

    reactor: Any
    threads: Threads
    disk: Disk
    watcher: Watcher
    entropy: Callable[[int], bytes] = field(default=os.urandom)
    resolver: Resolver | None = None
    siblings: Siblings = field(default_factory=Alone)
    counters: Counters = field(default_factory=Counters)
    descriptors: int = 0

    @cached_property
    def now(self) -> Callable[[], float]:
        """Seconds since 1970-01-01 UTC: ``world.now()``. The reactor's own, as it is asked a dozen times a message."""
        seconds: Callable[[], float] = self.reactor.seconds
        return seconds

    @cached_property
    def turns(self) -> Turns:
        """How those who have much to do share the reactor."""
        return Turns(self.reactor)


async def call_or_drop(
    threads: Threads,
    drop: Callable[[T], object],
    work: Callable[P, T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """`Threads.call` of something that opens: when who waits is cancelled meanwhile, the result goes to `drop`.

    Work in a thread cannot be stopped: without this, what it opens for a client that has vanished stays open.
    """
    outcome: Deferred[T] = Deferred()
    wanted = True

    def over(result: T | Failure) -> None:
        if wanted:
            outcome.callback(result)
        elif not isinstance(result, Failure):
            drop(result)

    threads.call(work, *args, **kwargs).addBoth(over)
    try:
        return await outcome
    except BaseException:
        wanted = False
        raise


class _RealLane:
    def __init__(self, name: str) -> None:
        import queue

        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        self._work.put(work)

    def stop(self) -> None:
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


class _RealThreads:
    def __init__(self, reactor: Any, size: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=size, name="mail")
        self._started = False

    def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        if not self._started:
            self._started = True
            self._pool.start()
            self._reactor.addSystemEventTrigger("after", "shutdown", self._pool.stop)
        return deferToThreadPool(self._reactor, self._pool, work, *args, **kwargs)

    def lane(self, name: str) -> Lane:
        return _RealLane(name)

    def back(self, work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        self._reactor.callFromThread(work, *args, **kwargs)


def real_world(
    reactor: Any, *, threads: int = 16, siblings: Siblings | None = None, descriptors: int = 0
) -> World:
    """The world as it is, with a pool of at most `threads` threads. `siblings`: None for who serves alone;
    `descriptors`: as `World` has it."""
    disk = OsDisk()
    return World(
        reactor=reactor,
        threads=_RealThreads(reactor, threads),
        disk=disk,
        watcher=DirectoryWatcher(reactor, disk),
        siblings=siblings or Alone(),
        descriptors=descriptors,
    )
