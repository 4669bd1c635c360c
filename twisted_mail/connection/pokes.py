"""Whose session wants to say something unasked: served in turns, one timer for all connections of a factory.

A delivery to a thousand clients that wait is a thousand pokes in one turn of the reactor. They cost an append
each, and are answered in slices of `TURN` seconds, in the order of the pokes.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

__all__ = ["TURN", "Pokable", "Pokes"]

TURN = 0.01
"""Seconds of answering pokes before others get their turn."""


class Pokable(Protocol):
    """What `Pokes` sees of a connection."""

    def poked(self) -> None:
        """Say what there is to say, unless it is too late or too early. Never raises."""


class Pokes:
    """Calls `Pokable.poked` of all that were added, in a later turn of the reactor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: deque[Pokable] = deque()
        self._scheduled = False

    def add(self, connection: Pokable) -> None:
        """Soon, once for each time."""
        self._waiting.append(connection)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        waiting, seconds = self._waiting, self._reactor.seconds
        end = seconds() + TURN
        # Who pokes again while he is heard is heard again in the next turn.
        for _ in range(len(waiting)):
            waiting.popleft().poked()
            if seconds() > end:
                break
        if waiting:
            self._schedule()
