"""What `remote` sees of the SMTP client: one conversation with one server, as a coroutine reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ...interfaces import Content
from ...storage.queued import Options, QueuedRecipient

__all__ = ["Conversation", "PeerReply", "SessionError", "Timeouts", "Transaction"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, RFC 5321 section 4.5.3.2; each is for one reply, or one block to leave."""

    connect: float = 30
    greeting: float = 300
    command: float = 300
    data_start: float = 120
    data_block: float = 180
    data_end: float = 600
    quit: float = 5
    tls: float = 60


class PeerReply(NamedTuple):
    """A reply: `code`; `enhanced` such as ``"5.1.1"`` or ""; `text` in one line, control characters gone, bounded.

    `said`: the peer said it; else the client did in its place, and `text` is ours.
    """

    code: int
    enhanced: str
    text: str
    said: bool = True


class SessionError(Exception):
    """The conversation is over: the peer closed, was silent, sent no SMTP, or refused what nothing goes without.

    The text is for people (``"mail.example.net closed the connection"``); `reply` is what the peer said, if it did.
    """

    def __init__(self, text: str, reply: PeerReply | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Transaction:
    """One MAIL … end of data. `mail_from` is "" for ``<>``; `wire`: octets of the content with CRLF, for SIZE."""

    mail_from: str
    recipients: Sequence[QueuedRecipient]
    options: Options
    wire: int


class Conversation(Protocol):
    """One connection. Calls come one at a time. Every one raises SessionError when the conversation is over."""

    extensions: Mapping[str, str]
    """EHLO keyword (upper case) → its parameters. Forgotten at STARTTLS, empty after HELO."""

    @property
    def tls(self) -> str | None:
        """Such as ``TLSv1.3 TLS_AES_256_GCM_SHA384``, None in clear."""

    @property
    def open(self) -> bool:
        """Whether there is still a connection."""

    async def hello(self) -> None:
        """Read the greeting when it was not read yet, say EHLO (HELO if that is refused; LHLO for LMTP)."""

    async def start_tls(self, creator: Any) -> None:
        """STARTTLS and the handshake; `creator` is an IOpenSSLClientConnectionCreator. `hello` comes next.

        SessionError with a `reply` when the peer refused STARTTLS: then the connection is still good, in clear.
        """

    def peer_chain(self) -> Sequence[Any]:
        """The certificates the peer showed, its own first (`cryptography.x509.Certificate`); none in clear."""

    async def login(self, username: str, password: str) -> None:
        """AUTH (SCRAM-SHA-256, PLAIN, LOGIN: the best that is offered). SessionError with `reply` when refused."""

    async def send(self, transaction: Transaction, content: Content) -> list[PeerReply]:
        """Hand over one message: the last word on each recipient, in order. Closes `content` always.

        After it the connection is ready for the next one (RSET was said where needed), or not `open` any more. A
        connection that is lost before the last reply raises SessionError: nobody knows what became of the message.
        """

    async def quit(self) -> None:
        """QUIT, wait shortly, close. Never raises."""

    def abort(self) -> None:
        """Close now."""
