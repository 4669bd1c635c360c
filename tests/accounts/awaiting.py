"""Awaiting in tests without a running reactor."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Started(Generic[T]):
    """Something awaited: under way until it has a result or an error."""

    def __init__(self, awaitable: Awaitable[T]) -> None:
        self._outcomes: list[T | Failure] = []
        self.deferred = Deferred.fromCoroutine(_await(awaitable))
        self.deferred.addBoth(self._outcomes.append)

    @property
    def ended(self) -> bool:
        return bool(self._outcomes)

    def result(self) -> T:
        (outcome,) = self._outcomes
        if isinstance(outcome, Failure):
            outcome.raiseException()
        return outcome


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


def done(awaitable: Awaitable[T]) -> T:
    """What an awaitable gives that waits for nothing."""
    return Started(awaitable).result()
