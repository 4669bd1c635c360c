"""What is awaited in a simulated world, when nothing but turns of its reactor is needed for it: no time passes."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_mail.testing.world import SimulatedWorld


def settled(world: SimulatedWorld, awaited: Deferred[Any] | Coroutine[Any, Any, Any]) -> Any:
    """What it returns or fires with, or raises."""
    results: list[Any] = []
    deferred = awaited if isinstance(awaited, Deferred) else Deferred.fromCoroutine(awaited)
    deferred.addBoth(results.append)
    for _ in range(1000):
        if results:
            break
        world.reactor.settle()
    assert results, "nothing happens any more"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]
