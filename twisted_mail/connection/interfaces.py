"""The contract between the three rooms of a protocol.

*Engine*: bytes ↔ events, no I/O. *Session*: an event in, an `Answer` out, `async def`, no
transport. `connection.protocol` drives both: reads, writes, timers, TLS, back-pressure.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

__all__ = [
    "NEED_DATA",
    "PAUSED",
    "POKED",
    "STRANGERS_TALK",
    "Answer",
    "CompressibleEngine",
    "Engine",
    "PokableSession",
    "ProvingSession",
    "Session",
    "Signal",
    "Then",
    "TimedSession",
]


class Signal(enum.Enum):
    NEED_DATA = "NEED_DATA"
    PAUSED = "PAUSED"
    POKED = "POKED"


NEED_DATA: Final = Signal.NEED_DATA
"""The engine needs more bytes from the peer."""
PAUSED: Final = Signal.PAUSED
"""The engine waits for `Engine.resume`: the last event has not been answered."""
POKED: Final = Signal.POKED
"""No engine's event: the session has asked, by `PokableSession.poke`, to be given the word."""


class Then(enum.Enum):
    """What the driver does once an answer is written."""

    GO_ON = "go on"
    START_TLS = "start TLS"
    START_COMPRESSION = "start compression"
    """``data`` goes in clear; from the next byte on both sides speak raw DEFLATE (RFC 4978).

    Once a connection, with no `body`, by a session whose engine is a `CompressibleEngine`. TLS stays
    below (RFC 4978 section 3): START_TLS is not possible any more, so offer this only to those who
    have logged in."""
    CLOSE = "close"


@dataclass(slots=True)
class Answer:
    """What a session says to one event.

    `data` is written as it stands; then `body`, if any, block by block, as fast as the peer reads:
    blocks of at most 64 KiB keep to the bound on what is held for a slow one, and an empty one sends at
    once what has been said so far (else it waits for more, or for the end). `expect` goes to
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


class CompressibleEngine(Engine, Protocol):
    """An engine of a protocol that can be compressed half-way."""

    def give_back(self) -> bytes:
        """All bytes that are buffered, which the engine forgets: they were compressed, and come back
        by `receive` as what they mean. Called while PAUSED."""


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


class PokableSession(Session, Protocol):
    """A session that may have something to say when nobody asked (IMAP's IDLE, NOTIFY).

    The driver looks for an attribute `poke`: a default in the class, a slot, or set by ``__init__``.
    """

    poke: Callable[[], None]
    """Set by the driver before `greeting`. Calling it (on the reactor thread, at any time, any number
    of times; also from within `handle`) makes the driver call ``handle(POKED)`` once, in a later turn
    of the reactor, as soon as nothing is being answered and the peer reads what it is sent. Until
    ``handle(POKED)`` begins, further pokes are the same one; after that they are a new one.

    The `Answer` is written as any other (a body too, and CLOSE), but it answers no command: the
    engine stays where it is, `Engine.resume` is not called, and `Answer.expect` means nothing. So the
    session has to know whether this is a moment at which it may speak; if not, it answers with
    nothing and pokes again, or speaks unasked, when it may. The engine may be in the middle of a
    command, a literal or a SASL exchange.

    What the session says unasked proves nothing about the client: its idle time goes on. After the
    connection is lost a poke does nothing."""


class TimedSession(Session, Protocol):
    """A session that says itself how long its client may be idle. The driver looks for an attribute
    `idle_seconds`, as for `poke`."""

    idle_seconds: float | None
    """Seconds until `timed_out` asks for the parting words; None: `Bounds.idle_seconds`. Looked at
    after each answer (IMAP: 60 before login; RFC 9051 section 5.4: 1800 at least afterwards). It is the whole time
    without an event from the client, whatever bytes of one come meanwhile, except that a client which does not read
    what it is sent gets no more than `Bounds.idle_seconds`. While `Engine.midway`, `Bounds.message_seconds` and
    `message_rate` end it too: an engine that waits for the end of an IDLE is not midway."""


STRANGERS_TALK: Final = 100
"""Commands of a client of POP3 or IMAP before its login; each further one is a mistake. Ten would be many."""


class ProvingSession(Session, Protocol):
    """A session that tells whether its client has proved to be of use: it has logged in, or sends mail to somebody who
    is here. Who has not within `Bounds.stranger_seconds` is sent away, or before, when there is no room. The driver
    looks for an attribute `proven`, as for `poke`; the first True counts for good."""

    @property
    def proven(self) -> bool: ...


class GreetingSession(Session, Protocol):
    """A session that has to find out something before it greets, or waits to see who speaks first. The driver looks for
    an attribute `greet`, as for `poke`; then `greeting` is not asked."""

    greet: Callable[[Callable[[], bool]], Awaitable[Answer]]
    """The greeting, once a connection; CLOSE sends the client away. The argument tells whether the client has sent
    something already (SMTP: RFC 5321 section 4.3.1 forbids it); that is answered behind the greeting."""
