"""What is due when: how long a client may be idle, a message take, a stranger stay one.

`Timed` is a connection's output with the times of `Bounds`. It promises that there is one alarm for all of them, set
when something was done; the driver says so (`_touch`), and asks which of them it was (`_too_late`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, cast

from ..turns import Turns
from .interfaces import Session
from .layer import Make
from .output import Output
from .wire import Phase

__all__ = ["Bounds", "Timed", "has"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection may take."""

    idle_seconds: float = 600.0
    """RFC 5321 section 4.5.3.2.7 asks for 300 at least, RFC 1939 section 3 for 600."""
    handshake_seconds: float = 30.0
    message_seconds: float = 3600.0
    """For one message (or SASL exchange), from the answer that asks for it to its last byte."""
    message_grace: float = 300.0
    """It has to come with `message_rate` bytes a second at least, these seconds apart: RFC 5321 section 4.5.3.2.5 gives
    a block three minutes, section 4.5.3.2.7 a server five."""
    message_rate: float = 500.0
    """Below GPRS. 0: none is asked."""
    stranger_seconds: float = 600.0
    """For who is no stranger any more by then: `ProvingSession`. From the connection on."""
    read_ahead_bytes: int = 64 * 1024
    """What may wait in the engine while the last event is being answered; one read comes on top."""


class Timed(Output):
    """An `Output` whose client has so much time. `session`: it may have a time of its own (`TimedSession`), and tell
    that its client is no stranger any more (`ProvingSession`): then `proved` is called, once."""

    __slots__ = (
        "_bounds",
        "_idle_seconds",
        "_message_began",
        "_message_due",
        "_message_from",
        "_proved",
        "_session",
        "_since",
        "_stranger_due",
        "_timed",
        "bytes_read",
    )

    def __init__(
        self,
        session: Session,
        reactor: Any,
        bounds: Bounds,
        tls: Make | None,
        implicit_tls: bool,
        turns: Turns,
        proved: Callable[[Any], object] | None,
    ) -> None:
        super().__init__(reactor, tls, implicit_tls, turns)
        self._session = cast(Any, session)
        self._bounds = bounds
        self._idle_seconds = bounds.idle_seconds
        self._since = reactor.seconds()
        self.bytes_read = 0
        # When the client must be done with what it is in the middle of (a message), else None; when it began, and how
        # many bytes had come before.
        self._message_due: float | None = None
        self._message_began = 0.0
        self._message_from = 0
        # Until when it must have proved to be of use; None: it has.
        self._stranger_due: float | None = None
        self._proved = proved
        if has(session, "proven"):
            self._stranger_due = self._since + bounds.stranger_seconds
        self._timed = has(session, "idle_seconds")

    @property
    def is_stranger(self) -> bool:
        """Whether it has yet to prove to be of use: `ProvingSession`."""
        return self._stranger_due is not None

    def _touch(self, now: float) -> None:
        """Something has been done: from now on the client may be idle again."""
        if self.phase is not Phase.OPEN:
            return
        idle = self._idle_seconds
        if self._timed and self._session.idle_seconds is not None:
            own = self._session.idle_seconds
            idle = min(own, idle) if self.blocked else own
        if self._message_due is not None:
            idle = max(0.0, min(idle, self._message_due - now, self._slow_due() - now))
        if self._stranger_due is not None:
            if self._session.proven:
                self._stranger_due = None
                if self._proved is not None:
                    self._proved(self)
            else:
                idle = max(0.0, min(idle, self._stranger_due - now))
        self.alarm.set(idle, now)

    def _slow_due(self) -> float:
        """When a message that comes no further is too slow."""
        bounds = self._bounds
        if not bounds.message_rate:
            return inf
        earned = (self.bytes_read - self._message_from) / bounds.message_rate
        return self._message_began + bounds.message_grace + earned

    def _too_late(self, now: float) -> str:
        if self._message_due is not None:
            if self._message_due <= now:
                return "message takes too long"
            if self._slow_due() <= now:
                return "message comes too slowly"
        if self._stranger_due is not None and self._stranger_due <= now:
            return "stranger for too long"
        return "idle"


def has(session: object, attribute: str) -> bool:
    """Also when it is a slot that nothing is in yet."""
    return hasattr(type(session), attribute) or hasattr(session, attribute)
