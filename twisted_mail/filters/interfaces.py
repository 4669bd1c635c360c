"""What filters are told, and what they say: values, and the two kinds of filters.

A *stage filter* (a milter) follows the SMTP conversation with a session a connection; a *scanner* (rspamd, clamd,
spamd) sees each message once, when it is whole. Neither raises for anything that the filter does: what goes wrong is an
`Opinion` with `failed`, whose action is what the settings want then. They raise only what a `Source` or a `Spill`
raises: a disk that fails is not the filter's failure.

Text has LF line ends. A header field is its bytes as they stand in the message, folded lines and the last LF included.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from ..address import Address
from ..status import Reply

__all__ = [
    "Action",
    "Add",
    "Change",
    "Client",
    "Context",
    "Delete",
    "Edit",
    "Insert",
    "Login",
    "Message",
    "Opinion",
    "Recipient",
    "Scanner",
    "Sender",
    "Source",
    "Spill",
    "StageFilter",
    "StageSession",
    "Tls",
]


# What filters are told


class Client(NamedTuple):
    """Who is connected. `name`: of its PTR record, when that leads back to `ip`, else "". `hostname` is ours.

    `ip` is "" for a UNIX socket. `daemon` is the listener's name.
    """

    ip: str
    hostname: str
    port: int = 0
    name: str = ""
    daemon: str = "smtpd"


class Tls(NamedTuple):
    """`version` such as ``TLSv1.3``; `subject` and `issuer`: common names of the client's certificate, or ""."""

    version: str
    cipher: str
    bits: int = 0
    subject: str = ""
    issuer: str = ""


class Login(NamedTuple):
    """Who logged in, and how (``PLAIN``)."""

    name: str
    mechanism: str = ""


class Sender(NamedTuple):
    """MAIL: `address` is None for ``<>``; `parameters` as they were written, such as ``SIZE=1000``."""

    address: Address | None
    parameters: tuple[str, ...] = ()


class Recipient(NamedTuple):
    """RCPT, likewise."""

    address: Address
    parameters: tuple[str, ...] = ()


class Context(NamedTuple):
    """All that is known of a message beside its content. `queue_id` is "" while it has none."""

    client: Client
    sender: Sender
    recipients: tuple[Recipient, ...]
    helo: str = ""
    tls: Tls | None = None
    login: Login | None = None
    queue_id: str = ""


class Source(Protocol):
    """Content that can be read more than once. `storage.draft.Draft` is one."""

    @property
    def size(self) -> int:
        """In bytes."""

    async def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`; b"" at the end. Raises MailError."""


class Spill(Source, Protocol):
    """Somewhere to put a body that a filter writes; over some size, on the disk. `storage.draft.Draft` is one."""

    def write(self, block: bytes) -> Awaitable[None] | None:
        """Take a block. What is given back, if anything, is awaited before the next one."""

    def discard(self) -> None:
        """Forget it all. May be called at any time, and more than once."""


class Message(NamedTuple):
    """`fields`: of the header, without those that this server puts on top. `body`: what follows the empty line."""

    context: Context
    fields: tuple[bytes, ...]
    body: Source


# What filters say


class Action(StrEnum):
    """What shall become of it; of several, the last in this list counts.

    ACCEPT: this filter need not see the rest. JUNK: unwanted, but not refused. QUARANTINE: kept back for a person to
    see. DISCARD: taken, and then thrown away.
    """

    NONE = "none"
    ACCEPT = "accept"
    JUNK = "junk"
    QUARANTINE = "quarantine"
    DISCARD = "discard"
    TEMPFAIL = "tempfail"
    REJECT = "reject"

    @property
    def final(self) -> bool:
        """Whether nothing that comes after can matter."""
        return self in (Action.DISCARD, Action.TEMPFAIL, Action.REJECT)


class Add(NamedTuple):
    """Put `field` behind all others."""

    field: bytes


class Insert(NamedTuple):
    """Put `field` before the one at this place, counted from 0; behind the last when there are fewer."""

    at: int
    field: bytes


class Change(NamedTuple):
    """Put `field` in the place of the `n`-th called `name` (lower case), counted from 1; at the end without one."""

    name: bytes
    n: int
    field: bytes


class Delete(NamedTuple):
    """Remove the `n`-th field called `name` (lower case), counted from 1; 0: all; -1: the last."""

    name: bytes
    n: int


Edit = Add | Insert | Change | Delete


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What a filter says of a connection, a recipient or a message.

    `reply`: for REJECT and TEMPFAIL, always then. `reason`: for people, one line: why it is kept back, which malware,
    what went wrong. `edits` are made one after the other, each on what the one before left. `body`, when there is one,
    replaces the body; it is the caller's to `discard`. `sender` replaces the sender. `score` and `symbols` are for the
    story. `failed`: the filter could not be asked, or answered nonsense. `asked` False: it was not, and says nothing;
    `reason` why.
    """

    action: Action = Action.NONE
    reply: Reply | None = None
    reason: str = ""
    edits: tuple[Edit, ...] = ()
    added: tuple[Recipient, ...] = ()
    deleted: tuple[Address, ...] = ()
    sender: Sender | None = None
    body: Spill | None = None
    score: float | None = None
    symbols: tuple[str, ...] = ()
    failed: bool = False
    asked: bool = True


# Filters


class StageSession(Protocol):
    """One connection's. Calls come in the order of the conversation, one at a time; `helo` and `mail` may come again.

    REJECT and TEMPFAIL from `rcpt` are about that recipient; everything else is about the message. Every method but
    the last two may be cancelled; then the message is over for the filter.
    """

    async def helo(self, name: str, tls: Tls | None, login: Login | None) -> Opinion:
        """HELO or EHLO. `login` is None then; AUTH is told by `mail`."""

    async def mail(self, sender: Sender, login: Login | None, queue_id: str = "") -> Opinion:
        """MAIL. Ends the message before, when that is not over."""

    async def rcpt(self, recipient: Recipient, refused: Reply | None = None) -> Opinion:
        """RCPT. `refused`: we do not take it; few filters want to know, and what they say does not count."""

    async def data(self, queue_id: str = "") -> Opinion:
        """DATA, or the first BDAT."""

    async def message(self, message: Message, spill: Callable[[], Spill]) -> Opinion:
        """The whole content. `spill` makes a place for a new body."""

    def abort(self) -> None:
        """The message is over (RSET, a connection that was lost). May be called at any time."""

    def close(self) -> None:
        """The connection is over. May be called more than once."""


class StageFilter(Protocol):
    """A filter that follows the conversation."""

    @property
    def name(self) -> str:
        """What it is called in logs and stories."""

    def session(self, client: Client) -> StageSession:
        """Somebody has connected. Nothing is sent to the filter before it is needed."""


class Scanner(Protocol):
    """A filter that sees whole messages."""

    @property
    def name(self) -> str:
        """What it is called in logs and stories."""

    async def scan(self, message: Message) -> Opinion:
        """What it says of the message."""
