"""Long work of many sessions, a slice at a time: one slice in a turn of the event loop, whoever asked for how much."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred

__all__ = ["Turns"]


class Turns:
    """Sessions that wait to go on, in their order; one object for a process."""

    def __init__(self) -> None:
        self._waiting: deque[Deferred[None]] = deque()
        self._called = False

    def wait(self, reactor: Any) -> Deferred[None]:
        """Fires when it is the caller's turn, in a later turn of the event loop. It may be cancelled."""
        turn: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(turn)
        if not self._called:
            self._called = True
            reactor.callLater(0, self._next, reactor)
        return turn

    def _next(self, reactor: Any) -> None:
        self._called = len(self._waiting) > 1
        if self._called:
            reactor.callLater(0, self._next, reactor)
        if self._waiting:
            self._waiting.popleft().callback(None)
