"""One timer that is moved at every packet.

Moving it further away costs an assignment: the reactor's timer is set anew when it rings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

__all__ = ["Alarm"]


class Alarm:
    """Calls `ring` once, when the time of the last `set` is over."""

    def __init__(self, reactor: Any, ring: Callable[[], None]) -> None:
        self._reactor = reactor
        self._ring = ring
        self._due = 0.0
        self._call: IDelayedCall | None = None

    def set(self, seconds: float) -> None:
        """Ring `seconds` from now, whatever was set before."""
        self._due = self._reactor.seconds() + seconds
        if self._call is None:
            self._call = self._reactor.callLater(seconds, self._fire)
        elif self._due < self._call.getTime():
            self._call.reset(seconds)

    def stop(self) -> None:
        """Do not ring."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _fire(self) -> None:
        self._call = None
        left = self._due - self._reactor.seconds()
        if left > 0:
            self._call = self._reactor.callLater(left, self._fire)
        else:
            self._ring()
