"""Simulated time: one heap of calls, run one after the other, each at its own instant.

The clock stands still until `SimulatedClock.advance` or `step`. Calls that are due at the same instant
run in the order they were made. Every call belongs to an owner; those of one that is not alive any more
are never run.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Protocol

from twisted.internet.base import DelayedCall

__all__ = ["Owner", "SimulatedClock"]


class Owner(Protocol):
    """Who made a call."""

    alive: bool


class SimulatedClock:
    """Seconds since 1970, and what is to be done when."""

    def __init__(self, start: float) -> None:
        self.rightNow = start
        self.calls: list[tuple[float, int, DelayedCall, Owner]] = []
        self._serial = count()

    def seconds(self) -> float:
        return self.rightNow

    def call_later(
        self,
        owner: Owner,
        delay: float,
        work: Callable[..., object],
        args: Sequence[object] = (),
        named: Mapping[str, object] | None = None,
    ) -> DelayedCall:
        """Run `work` in `delay` seconds, for `owner`. Raises ValueError for the past."""
        if not delay >= 0:
            raise ValueError(f"a call cannot be {delay} seconds from now")

        def again(call: DelayedCall) -> None:
            heapq.heappush(self.calls, (call.time, next(self._serial), call, owner))

        call = DelayedCall(
            self.rightNow + delay, work, args, dict(named or {}), _ignore, again, self.seconds
        )
        again(call)
        return call

    def pending(self, owner: Owner) -> list[DelayedCall]:
        """What `owner` has still to do, in no order."""
        calls = {
            id(call): call for _, _, call, whose in self.calls if whose is owner and call.active()
        }
        return list(calls.values())

    def step(self, until: float = math.inf) -> bool:
        """Run the next call, moving the clock to it. False when none is due by `until`."""
        while self.calls:
            due, _, call, owner = self.calls[0]
            if due > max(until, self.rightNow):
                return False
            heapq.heappop(self.calls)
            if not call.active() or due != call.time or not owner.alive:
                continue  # cancelled, moved to an earlier time, or nobody's any more
            if call.delayed_time:
                call.activate_delay()
                heapq.heappush(self.calls, (call.time, next(self._serial), call, owner))
                continue
            self.rightNow = max(self.rightNow, due)
            call.called = 1
            work: Any = call.func
            work(*call.args, **call.kw)
            return True
        return False

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock, forward or back: no time passes. What was due stays due when the clock says so."""
        self.rightNow += seconds

    def advance(self, seconds: float) -> None:
        """Run what is due in the next `seconds`, each at its time; then that much time has passed."""
        end = self.rightNow + seconds
        while self.step(end):
            pass
        self.rightNow = max(self.rightNow, end)


def _ignore(call: DelayedCall) -> None:
    """A cancelled call is passed over when its time comes."""
