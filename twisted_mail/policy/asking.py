"""Asking the DNS several things at once, each for so long and no longer. For policies; knows nothing of what is asked.

Whoever stops waiting (cancels) stops all of it.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

from ..dns.interfaces import DnsError
from .deadline import TooLate, within

__all__ = ["all_of", "answered"]

T = TypeVar("T")


async def answered(clock: Any, seconds: float, question: Coroutine[Any, Any, T]) -> T:
    """What `question` gives; DnsError when it has not within `seconds` of `clock` (IReactorTime)."""
    try:
        return await within(clock, seconds, question)
    except TooLate:
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
