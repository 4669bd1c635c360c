"""Blocking work, one piece at a time, in a thread that nobody has to wait for.

A CA that lets one wait must not keep the server from stopping, as a thread of the pool would; nor may it keep renewal
from going on: work that takes too long is left to itself, and a new thread takes its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..world import Lane, World

__all__ = ["TooLong", "Worker"]

P = ParamSpec("P")
T = TypeVar("T")


class TooLong(Exception):
    """It may be done still; nobody looks."""


class Worker:
    """`limit`: seconds that a piece of work may take."""

    def __init__(self, world: World, name: str, limit: float) -> None:
        self._world = world
        self._name = name
        self._limit = limit
        self._lane: Lane | None = None
        self._busy = False

    async def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns. Raises what it raises, and TooLong."""
        if self._lane is None:
            self._lane = self._world.threads.lane(self._name)
        outcome: Deferred[T] = Deferred()
        wanted = True

        def over(result: Any) -> None:
            if wanted:
                self._busy = False
                outcome.callback(result)

        def run() -> None:
            result: T | Failure
            try:
                result = work(*args, **kwargs)
            except BaseException:
                result = Failure()
                result.cleanFailure()
            self._world.threads.back(over, result)

        def expire() -> None:
            self._leave()
            outcome.errback(TooLong(f"no answer in {self._limit:.0f} seconds"))

        self._busy = True
        self._lane.submit(run)
        timer = self._world.reactor.callLater(self._limit, expire)
        try:
            return await outcome
        finally:
            wanted = False
            if timer.active():
                timer.cancel()
            if self._busy:  # cancelled
                self._leave()

    def stop(self) -> None:
        """Nothing more is to be done. What is being done may go on until the process ends."""
        lane, self._lane = self._lane, None
        if lane is not None and not self._busy:
            lane.stop()

    def _leave(self) -> None:
        """Let the thread be, with what it does; it is a daemon."""
        self._lane, self._busy = None, False
