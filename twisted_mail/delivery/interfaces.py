"""The door that the SMTP session knocks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from twisted.internet.defer import Deferred

from ..address import Address
from ..interfaces import IAccount
from ..status import MailError
from ..storage.draft import Draft

if TYPE_CHECKING:
    from .routing import Way

__all__ = [
    "Arrived",
    "Client",
    "Disposition",
    "Envelope",
    "Guard",
    "Incoming",
    "Inspection",
    "Intake",
    "Recipient",
    "Visit",
]


class Client(NamedTuple):
    """Who is at the other end, for trace headers, logs and decisions.

    `ip` without brackets; `helo` as given ("" before it); `protocol` is the "with" keyword of RFC 3848 (SMTP, ESMTP,
    ESMTPSA …; UTF8SMTPSA … of RFC 6531 section 4.3); `tls` is such as ``TLSv1.3 TLS_AES_256_GCM_SHA384`` or None;
    `account` is who logged in, or None; `connection` is the log's id of the connection; `visit` is what the `Guard`
    knows of it, None when there is none. `mechanism`: how he logged in, such as ``PLAIN``.
    """

    ip: str
    helo: str
    protocol: str
    tls: str | None
    account: IAccount | None
    connection: str
    visit: Visit | None = None
    mechanism: str = ""


class Recipient(NamedTuple):
    """One RCPT that was taken.

    `notify`: "" when nothing was said, else ``"NEVER"`` or a comma list of SUCCESS, FAILURE, DELAY; `orcpt` such as
    ``"rfc822;alice@example.org"``, xtext decoded, or "" (RFC 3461 sections 4.1, 4.2). `added`: not by the client, but
    by the site itself (a filter), which may send anywhere.
    """

    address: Address
    notify: str = ""
    orcpt: str = ""
    added: bool = False


@dataclass(slots=True)
class Envelope:
    """RFC 5321 section 2.3.1: who sent it and to whom. `reverse_path` is None for ``<>``.

    `ret` is ``"FULL"``, ``"HDRS"`` or "", `envid` xtext decoded (RFC 3461 sections 4.3, 4.4); `requiretls`: RFC 8689.
    `any_tls`: what is to arrive even where a policy about TLS is not met (RFC 8460 section 3).
    The intake counts here at RCPT: `departing` recipients that have no mailbox here, and the addresses elsewhere that
    all of them lead to (`spread`); when it is taken, where each of the `recipients` leads (`ways`).
    """

    reverse_path: Address | None
    size: int | None = None
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    requiretls: bool = False
    any_tls: bool = False
    recipients: list[Recipient] = field(default_factory=list)
    departing: int = 0
    spread: int = 0
    ways: Sequence[Way] = ()


class Incoming(Protocol):
    """One message on its way in. After `commit` or `abort` it is done with; neither may be called twice."""

    message_id: str
    """The log's id of this message; the queue id in the 250."""

    async def write(self, block: bytes) -> None:
        """Take content as it came: CRLF line ends (bare CR and LF possible), dot-stuffing already removed.

        Waits while too much is on its way to the disk; the caller stops reading meanwhile. Never raises for a
        message that cannot be taken: `commit` says why, after the client has sent it all.
        """

    async def commit(self) -> None:
        """Return when the message is durable: readable for every recipient here, queued for all elsewhere.

        Raises MailError, and then nothing of it is left.
        """

    def abort(self) -> None:
        """Forget everything written (connection lost, RSET in the middle of BDAT)."""


class Intake(Protocol):
    """Accepts mail."""

    def visit(self, ip: str, connection: str, *, submission: bool) -> Visit | None:
        """A client has connected; None when nothing is to be found out about it."""

    async def check_sender(self, client: Client, envelope: Envelope) -> None:
        """At MAIL: raises MailError 452 4.3.1 (no space), 553 5.7.1 (may not send as)."""

    async def route(self, client: Client, envelope: Envelope, recipient: Address) -> None:
        """At RCPT: returns when `recipient` can be taken; it is added to the envelope then.

        MailError 550 5.1.1, 550 5.7.1, 451 4.3.0, 452 4.2.2 (full), 552 5.2.2 (larger than the mailbox may be) …
        """

    def begin(self, client: Client, envelope: Envelope) -> Incoming:
        """At DATA or the first BDAT, with at least one recipient."""

    def local_domains(self) -> Sequence[str]:
        """The domains this site takes mail for (A-labels)."""


@dataclass(slots=True)
class Arrived:
    """A message that is there as a whole, and not yet taken. Header blocks have LF line ends.

    `header`: as it is to be kept, without the fields of `trace` (our Received); `draft` has what follows it, from the
    empty line on.
    """

    message_id: str
    client: Client
    envelope: Envelope
    trace: bytes
    header: bytes
    draft: Draft


@dataclass(slots=True)
class Disposition:
    """What becomes of a message that is not refused.

    `header` takes the place of the one that arrived, `top` are fields for the top, above our Received; `body`, when it
    is not None, takes the place of the draft. `junk`: mailboxes here get it into their folder for junk; `discard`:
    nobody gets it; `hold`: why the queue keeps it until somebody lets it go, "" for not.
    """

    header: bytes
    top: bytes = b""
    body: Draft | None = None
    junk: bool = False
    discard: bool = False
    hold: str = ""


class Inspection(Protocol):
    """Looks at one message while it comes."""

    decides: bool
    """Whether `decide` is to be asked, looked at after `header`. False: the message is kept as it comes, and `passes`
    is told in its place."""

    def header(self, header: bytes) -> None:
        """The header block as it came (LF line ends). Once, before anything else."""

    def body(self, text: bytes) -> Deferred[None] | None:
        """What follows the empty line. A Deferred, when there is one, fires when there is room for more."""

    def foretell(self, header: bytes) -> int | None:
        """The octets of the `header` and `top` that `decide` will most likely give, None when that is unknown; `header`
        is what becomes of the one that came. Asked for large messages, while their bodies come. Must not raise."""

    async def decide(self, arrived: Arrived) -> Disposition:
        """What becomes of it. The envelope's recipients may be changed. Raises MailError to refuse it."""

    def passes(self) -> None:
        """It is whole, and being taken."""

    def over(self, error: MailError | None) -> None:
        """The end, once: it was taken, or refused, here or elsewhere."""

    def abort(self) -> None:
        """The client is gone, or has thought better of it."""


class Visit(Protocol):
    """One connection of a client, and what is found out about it."""

    waits: bool
    """Whether `greet` has something to wait for."""

    async def greet(self, early: Callable[[], bool]) -> None:
        """Before the greeting; `early` tells whether the client speaks first. Raises MailError to send it away."""

    def helo(self, name: str) -> None:
        """HELO or EHLO was said."""

    async def sender(self, client: Client, envelope: Envelope) -> None:
        """At MAIL, when nothing else speaks against it. Raises MailError."""

    async def recipient(
        self, client: Client, envelope: Envelope, recipient: Address, here: bool
    ) -> None:
        """At RCPT, when it could be taken; `here`: it has a mailbox here. Raises MailError."""

    def refused(
        self, client: Client, envelope: Envelope, recipient: Address, error: MailError
    ) -> None:
        """At RCPT, when it could not. May raise another MailError in place of `error`."""

    def begin_story(self, client: Client, envelope: Envelope) -> None:
        """At MAIL, when something else speaks against it; else `sender` does it."""

    def answered(self, error: MailError) -> None:
        """That is what spoke against it."""

    def begin(self, client: Client, envelope: Envelope, message_id: str) -> Inspection | None:
        """At DATA. None when nobody wants to look at it."""

    def end(self) -> None:
        """The connection is gone."""


class Guard(Protocol):
    """What a site asks of those who bring mail, on all its ports."""

    def visit(self, ip: str, connection: str, *, submission: bool) -> Visit | None:
        """A client has connected."""
