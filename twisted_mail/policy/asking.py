"""Asking the DNS several things at once, each for so long and no longer. For policies; knows nothing of what is asked.

Whoever stops waiting (cancels) stops all of it.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, FirstError, TimeoutError, gatherResults

from ..dns.interfaces import DnsError

__all__ = ["all_of", "within"]

T = TypeVar("T")


async def within(clock: Any, seconds: float, question: Coroutine[Any, Any, T]) -> T:
    """What `question` gives; DnsError when it has not within `seconds` of `clock` (IReactorTime)."""
    asking = Deferred.fromCoroutine(question)
    if not asking.called:
        asking.addTimeout(seconds, clock)
    try:
        return await asking
    except TimeoutError:
        raise DnsError(f"no answer within {seconds:g} seconds") from None


async def all_of(questions: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in the order of `questions`. The first exception ends them all, and is raised."""
    if len(questions) == 1:
        return [await questions[0]]
    try:
        return await gatherResults(
            [Deferred.fromCoroutine(one) for one in questions], consumeErrors=True
        )
    except FirstError as error:
        cause = error.subFailure.value
        assert cause is not None
        raise cause from None
