"""Waiting for something to end, for so long at most."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

__all__ = ["Bell"]


class Bell:
    """Rung when something has ended. `clock`: IReactorTime."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._waiting: list[Deferred[None]] = []

    async def wait(self, seconds: float | None = None) -> None:
        """Until it is rung, or `seconds` are over."""
        rung: Deferred[None] = Deferred()
        self._waiting.append(rung)
        timer = None if seconds is None else self._clock.callLater(seconds, self.ring)
        try:
            await rung
        finally:
            if timer is not None and timer.active():
                timer.cancel()

    def ring(self) -> None:
        """It has ended."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)
