"""Asking the DNS several things at once, each for so long and no longer. For policies; knows nothing of what is asked.

Whoever stops waiting (cancels) stops all of it. What is known already costs no Deferred and no timer: each question is
begun as a call, and only what then waits for something goes on as a Deferred.
"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator, Sequence
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, FirstError, gatherResults

from ..dns.interfaces import DnsError
from .deadline import TooLate, within

__all__ = ["all_of", "answered"]

T = TypeVar("T")


async def answered(clock: Any, seconds: float, question: Coroutine[Any, Any, T]) -> T:
    """What `question` gives; DnsError when it has not within `seconds` of `clock` (IReactorTime)."""
    try:
        awaited = question.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    try:
        return await within(clock, seconds, _rest(question, awaited))
    except TooLate:
        raise DnsError(f"no answer within {seconds:g} seconds") from None


async def all_of(questions: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in the order of `questions`. The first exception ends them all, and is raised."""
    results: list[Any] = []
    waiting: list[tuple[int, Deferred[T]]] = []
    try:
        for number, question in enumerate(questions):
            try:
                awaited = question.send(None)
            except StopIteration as done:
                results.append(done.value)
            else:
                results.append(None)
                waiting.append((number, Deferred.fromCoroutine(_rest(question, awaited))))
    except BaseException:
        for question in questions[len(results) + 1 :]:
            question.close()
        _end(waiting)
        raise
    if waiting:
        try:
            late = await gatherResults([one for _, one in waiting], consumeErrors=True)
        except FirstError as error:
            _end(waiting)
            cause = error.subFailure.value
            assert cause is not None
            raise cause from None
        for (number, _), result in zip(waiting, late, strict=True):
            results[number] = result
    return results


async def _rest(coroutine: Coroutine[Any, Any, T], awaited: Any) -> T:
    """What is left of a coroutine that waits for `awaited`."""
    return cast(T, await _resumed(coroutine, awaited))


@types.coroutine
def _resumed(coroutine: Coroutine[Any, Any, T], awaited: Any) -> Generator[Any, Any, T]:
    while True:
        try:
            try:
                sent = yield awaited
            except GeneratorExit:
                # Thrown away; the coroutine may be so already
                coroutine.close()
                raise
            except BaseException as error:
                awaited = coroutine.throw(error)
            else:
                awaited = coroutine.send(sent)
        except StopIteration as done:
            return cast(T, done.value)


def _end(waiting: list[tuple[int, Deferred[T]]]) -> None:
    for _, one in waiting:
        one.addErrback(_unheard)
        one.cancel()


def _unheard(_: object) -> None:
    """Of one that nobody waits for any more."""
