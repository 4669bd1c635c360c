"""Running coroutines without a Deferred of their own.

A driver calls ``coroutine.send(None)`` itself. Most coroutines of a mail session end there
(`StopIteration` carries the result) and cost no more than a call. One that yields has come to a
Deferred without a result; `Waiting` then brings it to its end. Nothing here recurses: each step
starts where that Deferred fires.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..status import MailError
from ..turns import Turns

__all__ = ["Cancelled", "Waiting", "close_pieces", "to_the_end"]

T = TypeVar("T")

_log = Logger()


class Cancelled(BaseException):
    """Raised in a coroutine where it waits when nobody wants its result any more.

    Not an `Exception`, so that code which turns every failure into a reply lets it pass.
    """


class Waiting:
    """A coroutine on its way to its end, from `begin` on, or once `wait_for` was given what it has yielded.

    `done` is called with its result, or `failed` with its exception; neither after `cancel`. What it does is counted
    in `turns`; where they are used up it goes on in the next.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        done: Callable[[Any], object],
        failed: Callable[[Exception], object],
        turns: Turns | None = None,
    ) -> None:
        self._coroutine = coroutine
        self._turns = turns
        self._done: Callable[[Any], object] | None = done
        self._failed: Callable[[Exception], object] | None = failed
        self._awaited: Deferred[Any] | None = None

    def cancel(self) -> None:
        """Raise `Cancelled` in the coroutine, and cancel what it waits for. Not from within it.

        When it goes on waiting, for something in a ``finally``, it is brought to its end unheard.
        """
        self._done = self._failed = None
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            self._step(self._coroutine.throw, Cancelled())
            awaited.cancel()

    def begin(self) -> None:
        """The first step, of a coroutine that has not begun."""
        self._step(self._coroutine.send, None)

    def wait_for(self, awaited: object) -> None:
        """Go on when `awaited` has a result; at once, with a TypeError, when it is no Deferred."""
        if isinstance(awaited, Deferred):
            self._awaited = awaited
            awaited.addBoth(self._fired, awaited)
        else:
            error = TypeError(f"only Deferreds can be awaited here, not {awaited!r}")
            self._step(self._coroutine.throw, error)

    def _fired(self, result: object, awaited: Deferred[Any]) -> object:
        if awaited is not self._awaited:
            return None  # the coroutine was cancelled; this is what it waited for
        turns = self._turns
        if turns is None:
            self._go_on(result, awaited)
        elif turns.full:
            turns.later(lambda: self._go_on_later(result, awaited))
            return result  # whoever awaits reads it there
        else:
            began = turns.seconds()
            self._go_on(result, awaited)
            turns.count(turns.seconds() - began)
        return None

    def _go_on_later(self, result: object, awaited: Deferred[Any]) -> None:
        awaited.addErrback(lambda failure: None)  # it is thrown into the coroutine
        self._go_on(result, awaited)

    def _go_on(self, result: object, awaited: Deferred[Any]) -> None:
        if awaited is not self._awaited:
            return  # cancelled while it waited for its turn
        self._awaited = None
        if isinstance(result, Failure):
            self._step(result.throwExceptionIntoGenerator, self._coroutine)
        else:
            self._step(self._coroutine.send, result)

    def _step(self, go_on: Callable[[Any], object], value: object) -> None:
        try:
            awaited = go_on(value)
        except StopIteration as stop:
            result = stop.value
        except Cancelled:
            return
        except Exception as error:
            if self._failed is not None:
                self._failed(error)
            else:
                _log.failure("failure while a cancelled session cleaned up")
            return
        else:
            self.wait_for(awaited)
            return
        if self._done is not None:
            self._done(result)


async def close_pieces(pieces: object) -> None:
    """Close an asynchronous generator that may not have come to its end; other iterators have nothing to close."""
    # One that is thrown away where it waits unwinds by itself: to close it then would raise.
    if isinstance(pieces, AsyncGenerator) and not getattr(pieces, "ag_running", False):
        await pieces.aclose()


async def to_the_end(work: Awaitable[T]) -> T:
    """Await `work`, which is not stopped half-way when who waits for it is cancelled.

    For what must not be left undone, such as a commit: `Cancelled` is raised when it is over.
    """
    bell: Deferred[None] = Deferred()
    over: list[T | Failure] = []

    def ring(result: T | Failure) -> None:
        over.append(result)
        bell.callback(None)

    Deferred.fromCoroutine(_awaited(work)).addBoth(ring)
    cancelled: BaseException | None = None
    while not over:
        try:
            await bell
        except (Cancelled, CancelledError) as error:
            cancelled = error
            bell = Deferred()
    (result,) = over
    if cancelled is not None:
        if isinstance(result, Failure) and not _refused(result.value):
            _log.failure("failure in what nobody waits for any more", result)
        raise cancelled
    if isinstance(result, Failure):
        result.raiseException()
    return result


def _refused(error: BaseException | None) -> bool:
    """Whether it is an answer, for who does not wait for it any more, and no failure."""
    return isinstance(error, MailError) and not error.temporary


async def _awaited(work: Awaitable[T]) -> T:
    return await work
