"""The contract between the three rooms of a protocol.

*Engine*: bytes ↔ events, no I/O. *Session*: an event in, an `Answer` out, `async def`, no
transport. `connection.protocol` drives both: reads, writes, timers, TLS, back-pressure.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = ["NEED_DATA", "PAUSED", "Answer", "Engine", "Session", "Then"]


class Signal(enum.Enum):
    NEED_DATA = "NEED_DATA"
    PAUSED = "PAUSED"


NEED_DATA: Final = Signal.NEED_DATA
"""The engine needs more bytes from the peer."""
PAUSED: Final = Signal.PAUSED
"""The engine waits for `Engine.resume`: the last event has not been answered."""


class Then(enum.Enum):
    """What the driver does once an answer is written."""

    GO_ON = "go on"
    START_TLS = "start TLS"
    CLOSE = "close"


@dataclass(slots=True)
class Answer:
    """What a session says to one event.

    `data` is written as it stands; then `body`, if any, block by block, as fast as the peer reads:
    blocks of at most 64 KiB keep to the bound on what is held for a slow one. `expect` goes to
    `Engine.resume`: what the engine shall read next (each engine names its own values; None is a
    command).
    """

    data: bytes = b""
    then: Then = Then.GO_ON
    expect: object = None
    body: AsyncIterator[bytes] | None = None


class Engine(Protocol):
    """Bytes in, events out; no bytes make it raise; any cut of the stream gives the same events."""

    @property
    def buffered(self) -> int:
        """Bytes received and not yet given out."""

    @property
    def midway(self) -> bool:
        """Whether the peer is in the middle of something (content, a SASL exchange), not between
        two commands."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer, at any time, also while PAUSED."""

    def next_event(self) -> Any:
        """One event, or NEED_DATA, or PAUSED. After every event it is PAUSED until `resume`."""

    def resume(self, expect: object = None) -> None:
        """The last event was answered; go on reading what the answer says is expected."""

    def start_tls(self) -> bool:
        """Forget all protocol state for a TLS handshake. False, and nothing is forgotten, when bytes
        are buffered: they came in clear and must never be run (RFC 3207 section 4.2)."""


class Session(Protocol):
    """Decides. One a connection; while `handle` is under way no method is called but `lost`."""

    starttls_refused: bytes
    """Parting words for a client that sent more behind STARTTLS, in clear (SMTP: 554)."""

    def greeting(self) -> bytes:
        """What the server says first."""

    async def handle(self, event: Any) -> Answer:
        """Answer one event. Never raises; unknown failures become temporary replies and are logged.

        When the connection is lost meanwhile, `drive.Cancelled` (no Exception) is raised where it
        waits, and `lost` is called; what must not stop half-way is awaited by `drive.to_the_end`.
        """

    def tls_started(self, description: str) -> None:
        """The handshake is done: all state is forgotten. `description` is such as
        ``TLSv1.3 TLS_AES_256_GCM_SHA384``."""

    def too_many_errors(self) -> bytes | None:
        """The parting words when the peer has made more errors than allowed, else None. Asked after
        each answer."""

    def timed_out(self) -> bytes:
        """Parting words for a peer that was idle too long."""

    def closing_down(self) -> bytes:
        """Parting words when the server stops (SMTP: 421)."""

    def lost(self) -> None:
        """The connection is gone: cancel nothing yourself, let go of everything held (message,
        mailbox, login)."""
