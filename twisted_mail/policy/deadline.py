"""A limit on the time that a policy may take: `within`. What needs no waiting costs no timer."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

__all__ = ["TooLate", "within"]

T = TypeVar("T")


class TooLate(Exception):
    """The time was over; what was under way is cancelled."""


async def within(clock: Any, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. Raises TooLate after `seconds` of `clock` (IReactorTime)."""
    waiting: Deferred[T] = Deferred.fromCoroutine(work)
    if waiting.called:
        return await waiting
    late = False

    def cancel() -> None:
        nonlocal late
        late = True
        waiting.cancel()

    call = clock.callLater(seconds, cancel)
    try:
        return await waiting
    except CancelledError:
        if late:
            raise TooLate from None
        raise
    finally:
        if call.active():
            call.cancel()
