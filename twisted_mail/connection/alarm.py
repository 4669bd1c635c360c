"""One timer that is moved at every packet.

Moving it further away costs an assignment: the reactor's timer is set anew when it rings. On the way
it notices by itself when nothing has happened for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall

__all__ = ["QUIET", "Alarm"]

QUIET: Final = 5.0
"""Seconds without a `set` after which `quiet` is called, or twice as many."""


class Alarm:
    """Calls `ring` once, when the time of the last `set` is over.

    Before that it calls `quiet`, at most once after each `set`, when there was none for `QUIET` seconds.
    """

    __slots__ = ("_call", "_due", "_due_before", "_fires", "_quiet", "_reactor", "_ring")

    def __init__(
        self, reactor: Any, ring: Callable[[], None], quiet: Callable[[], None] | None = None
    ) -> None:
        self._reactor = reactor
        self._ring = ring
        self._quiet = quiet
        self._due = 0.0
        self._fires = 0.0  # when the timer does
        self._due_before = 0.0  # what it was when the timer was set
        self._call: IDelayedCall | None = None

    def set(self, seconds: float, now: float | None = None) -> None:
        """Ring `seconds` from now, whatever was set before. `now`: of the reactor, if it is known."""
        due = self._due = (self._reactor.seconds() if now is None else now) + seconds
        if self._call is None:
            self._wait(seconds)
        elif due < self._fires:
            self._fires = due
            self._call.reset(seconds)

    def stop(self) -> None:
        """Do not ring."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def end(self) -> None:
        """`stop`, for good: nobody is held any more."""
        self.stop()
        self._ring, self._quiet = _nobody, None

    def _wait(self, seconds: float) -> None:
        if self._quiet is not None and seconds > QUIET:
            seconds = QUIET
        self._due_before = self._due
        self._later(seconds)

    def _later(self, seconds: float) -> None:
        self._fires = self._reactor.seconds() + seconds
        self._call = self._reactor.callLater(seconds, self._fire)

    def _fire(self) -> None:
        self._call = None
        left = self._due - self._reactor.seconds()
        if left <= 0:
            self._ring()
        elif self._quiet is not None and self._due == self._due_before:
            self._later(left)
            self._quiet()
        else:
            self._wait(left)


def _nobody() -> None:
    """Who is rung for when it is over."""
