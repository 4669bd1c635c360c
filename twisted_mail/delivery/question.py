"""A question whose answer is wanted later, more than once, or never.

A Deferred keeps its result for one who waits only: who awaits it again gets None. A `Question` is asked once, and
answers everybody. It may be begun before anybody waits, and a failure that nobody waits for is nobody's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

__all__ = ["Question"]

T = TypeVar("T")


class Question(Generic[T]):
    """`ask` gives the coroutine that finds the answer; it is called once, or never."""

    __slots__ = ("_answer", "_ask", "_asking", "_over", "_waiters")

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._ask: Callable[[], Coroutine[Any, Any, T]] | None = ask
        self._asking: Deferred[T] | None = None
        self._over = False
        self._answer: T | Failure | None = None
        self._waiters: list[Deferred[None]] = []

    @property
    def pending(self) -> bool:
        """Whether it is being asked."""
        return self._asking is not None

    def begin(self) -> None:
        """Ask, if that was not done yet."""
        ask, self._ask = self._ask, None
        if ask is None:
            return
        asking = Deferred.fromCoroutine(ask())
        self._asking = asking
        asking.addBoth(self._answered)

    async def answer(self) -> T:
        """The answer; asks when nobody has. Raises what asking raised, CancelledError after `cancel`.

        To cancel this wait does not end the question.
        """
        self.begin()
        if not self._over:
            waiter: Deferred[None] = Deferred()
            self._waiters.append(waiter)
            await waiter
        if isinstance(self._answer, Failure):
            self._answer.raiseException()
        return cast(T, self._answer)

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        if self._ask is not None:
            self._ask = _nothing
        elif self._asking is not None:
            self._asking.cancel()

    def _answered(self, result: T | Failure) -> None:
        self._asking, self._over, self._answer = None, True, result
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)


async def _nothing() -> Any:
    raise CancelledError
