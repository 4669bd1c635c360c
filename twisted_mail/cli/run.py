"""Running something asynchronous to its end in a command: the one place where mailctl has a reactor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet import reactor  # noqa: TID251  # this is where the World is made
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.python.failure import Failure

from ..status import MailError
from ..world import World, real_world
from .site import Refusal

__all__ = ["run"]

T = TypeVar("T")


def run(work: Callable[[World], Awaitable[T]]) -> T:
    """What `work` returns. Once in a process. Raises Refusal when it was refused or interrupted."""
    loop: Any = reactor  # a module, for mypy
    results: list[T] = []
    failures: list[Failure] = []

    async def whole() -> None:
        results.append(await work(real_world(loop)))

    def stop(_: object) -> None:
        # At Ctrl-C it is stopping already.
        with suppress(ReactorNotRunning):
            loop.stop()

    def start() -> None:
        done = Deferred.fromCoroutine(whole())
        done.addErrback(failures.append)
        done.addCallback(stop)

    loop.callWhenRunning(start)
    loop.run()
    for failure in failures:
        if failure.check(MailError, OSError, ValueError):
            raise Refusal(failure.getErrorMessage())
        failure.raiseException()
    if not results:
        raise Refusal("interrupted")
    return results[0]
