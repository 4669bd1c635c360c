"""What a conversation needs of its connection; `protocol` makes it of a Twisted transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .engine import Reply
from .interfaces import PeerReply, SessionError

__all__ = ["Channel", "peer_reply", "quoted"]


class Channel(Protocol):
    """Bytes out, replies in. It counts the replies that are owed: a peer that speaks unasked has ended it.

    Over means: the peer closed, was silent too long, sent no SMTP, spoke unasked, or `end` was called. Replies that
    came before that can still be taken.
    """

    over: SessionError | None
    """Why it is over."""

    @property
    def tls(self) -> str | None:
        """Version and cipher."""

    @property
    def blocked(self) -> bool:
        """The peer does not read: `drained` before the next `write`."""

    def write(self, data: bytes, replies: int) -> None:
        """Send; the peer owes `replies` more for it. Raises SessionError when it is over."""

    def take(self) -> Reply | None:
        """The next reply, if it is here. Raises SessionError when the peer sends no SMTP."""

    async def reply(self, seconds: float, what: str) -> Reply:
        """The next reply, which answers `what` and has to be whole in `seconds`. Raises SessionError."""

    async def drained(self, seconds: float) -> None:
        """Wait while `blocked`. Raises SessionError."""

    async def start_tls(self, creator: Any, seconds: float) -> None:
        """The handshake. Raises SessionError, also when the peer sent more than it was asked for."""

    def peer_chain(self) -> Sequence[Any]:
        """Certificates of the peer, its own first."""

    def now(self) -> float:
        """Seconds, on the clock of `reply`."""

    def end(self, why: SessionError) -> None:
        """It is over; what was written is still sent."""

    def abort(self, why: SessionError) -> None:
        """It is over, at once."""


def peer_reply(reply: Reply) -> PeerReply:
    """The reply as others see it."""
    return PeerReply(reply.code, reply.enhanced, reply.text)


def quoted(reply: Reply | PeerReply) -> str:
    """The reply in one line: ``550 5.1.1 no such user``."""
    return " ".join(part for part in (str(reply.code), reply.enhanced, reply.text) if part)
