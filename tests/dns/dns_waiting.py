"""Awaiting without a running reactor."""

from __future__ import annotations

import queue

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


class Waiting:
    """Something awaited; `outcomes` is empty until it is over."""

    def __init__(self, coroutine):
        self.outcomes = []
        self.deferred = Deferred.fromCoroutine(coroutine)
        self.deferred.addBoth(self.outcomes.append)

    def result(self):
        (outcome,) = self.outcomes
        if isinstance(outcome, Failure):
            outcome.raiseException()
        return outcome


def now(coroutine):
    """What something gives that waits for nothing."""
    return Waiting(coroutine).result()


class Loop:
    """As much of a reactor as a resolver needs: a test's thread that runs what other threads hand back."""

    def __init__(self):
        self._work = queue.SimpleQueue()
        self.seconds = lambda: 0.0

    def callFromThread(self, work, *args):
        self._work.put((work, args))

    def turn(self):
        work, args = self._work.get(timeout=30)
        work(*args)

    def wait(self, *coroutines):
        """Their results, once all have one."""
        waiting = [Waiting(coroutine) for coroutine in coroutines]
        while not all(one.outcomes for one in waiting):
            self.turn()
        return [one.result() for one in waiting]
