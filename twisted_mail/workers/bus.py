"""What a process tells its siblings, gathered into frames; and what it hears from theirs.

    bus = Bus(world.reactor, send, shared.counts)
    bus.tell("login failed", ["client 192.0.2.7", "account ada"])

`send` gets a frame, a list that JSON knows, and takes it to the main process, which gives it to its own bus and to all
workers but the one it came from; it must not raise. `receive` is called with the frames of others.

The first news of a quiet time leaves in the next turn of the reactor; after it, what comes within `SECONDS` is one
frame. A frame holds `MOST` news: beyond that the oldest are lost, and the log says how many. News are short: who tells
bounds what is in them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from ..siblings import Counts, Listeners, News

__all__ = ["Bus", "Frame"]

_log = Logger()

MOST: Final = 2000
SECONDS: Final = 0.02
WARN_SECONDS: Final = 60.0

Frame = list[list[str | int | float]]
"""News in their order, each the topic and then what is told."""


class Bus:
    """One process's `Siblings`. `clock`: IReactorTime; `counts` gives the counts of a name."""

    def __init__(
        self,
        clock: Any,
        send: Callable[[Frame], object],
        counts: Callable[[str], Counts],
        *,
        seconds: float = SECONDS,
        most: int = MOST,
    ) -> None:
        self._clock = clock
        self._send = send
        self._counts = counts
        self._seconds = seconds
        self._listeners = Listeners()
        self._news: deque[list[str | int | float]] = deque(maxlen=most)
        self._timer: Any = None
        self._sent = -seconds
        self._lost = 0
        self._warned: float | None = None
        self._over = False

    def tell(self, topic: str, news: News) -> None:
        if self._over:
            return
        waiting = self._news
        if len(waiting) == waiting.maxlen:
            self._lost += 1
        waiting.append([topic, *news])
        if self._timer is None:
            # 0 also when the clock was set back
            wait = self._sent + self._seconds - self._clock.seconds()
            later = wait if 0 < wait <= self._seconds else 0
            self._timer = self._clock.callLater(later, self._flush)

    def hear(self, topic: str, listener: Callable[[News], object]) -> None:
        self._listeners.add(topic, listener)

    def counts(self, name: str) -> Counts:
        return self._counts(name)

    def receive(self, frame: Frame) -> None:
        """What another process has sent. Topics that nobody here hears are passed over."""
        for topic, *news in frame:
            for listener in self._listeners.of(str(topic)):
                try:
                    listener(news)
                except Exception:
                    _log.failure("news of another process not understood", topic=topic)

    def stop(self) -> None:
        """Send what is gathered; what is told later is lost."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._flush()

    def _flush(self) -> None:
        self._timer = None
        now = self._sent = self._clock.seconds()
        frame = list(self._news)
        self._news.clear()
        self._send(frame)
        if self._lost and (self._warned is None or abs(now - self._warned) >= WARN_SECONDS):
            _log.warn("{lost} news for the other processes lost: too many at once", lost=self._lost)
            self._warned, self._lost = now, 0
