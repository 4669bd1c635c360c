"""Scripted servers and certificates for the tests of remote delivery."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from twisted_mail.content import BytesContent
from twisted_mail.interfaces import Content
from twisted_mail.queue.interfaces import Job
from twisted_mail.smtp.client.interfaces import PeerReply, SessionError, Transaction
from twisted_mail.storage.queued import Options, QueuedMessage, QueuedRecipient

T = TypeVar("T")


def start(work: Coroutine[Any, Any, T]) -> Deferred[T]:
    return Deferred.fromCoroutine(work)


def result_of(work: Coroutine[Any, Any, T] | Deferred[T]) -> T:
    """What it comes to, at once."""
    deferred = work if isinstance(work, Deferred) else start(work)
    found: list[Any] = []
    deferred.addBoth(found.append)
    assert found, "there is no result yet"
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]  # type: ignore[no-any-return]


def failure_of(work: Coroutine[Any, Any, Any] | Deferred[Any], kind: type[Any]) -> Any:
    try:
        result_of(work)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


@dataclass
class Server:
    """How the server at one address behaves.

    `refuses`: no connection; `silent`: the connection is never made; `hangs`: it is, and nothing more.
    `greeting`, `starttls`, `login`: a reply that is a refusal. `extensions`: of EHLO in clear; `secured`: behind TLS,
    None: the same without STARTTLS. `handshake`: False breaks. `chain`: its certificates. `replies`: for each
    recipient, by message. `lost`: the connection breaks in `send`.
    """

    refuses: bool = False
    silent: bool = False
    hangs: bool = False
    greeting: PeerReply | None = None
    starttls: PeerReply | None = None
    login: PeerReply | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)
    secured: Mapping[str, str] | None = None
    handshake: bool = True
    chain: Sequence[x509.Certificate] | Exception = ()
    replies: list[list[PeerReply]] = field(default_factory=list)
    lost: SessionError | None = None


STARTTLS = {"STARTTLS": "", "PIPELINING": "", "8BITMIME": "", "SMTPUTF8": "", "DSN": ""}


class FakeConversation:
    """`smtp.client.interfaces.Conversation` of a `Server`. `log`: what was said."""

    def __init__(self, server: Server, log: list[str], name: str, tls: Any) -> None:
        self.server = server
        self.log = log
        self.name = name
        self.tls: str | None = "TLSv1.3 AES" if tls is not None else None
        self.extensions: Mapping[str, str] = {}
        self.open = True
        self.sent: list[tuple[Transaction, bytes]] = []

    async def hello(self) -> None:
        self.log.append("hello")
        if self.server.hangs:
            await Deferred()
        if self.server.greeting is not None:
            self.open = False
            raise SessionError("refused", self.server.greeting)
        if self.tls is None:
            self.extensions = self.server.extensions
        elif self.server.secured is not None:
            self.extensions = self.server.secured
        else:
            self.extensions = {k: v for k, v in self.server.extensions.items() if k != "STARTTLS"}

    async def start_tls(self, creator: Any) -> None:
        self.log.append("starttls")
        if self.server.starttls is not None:
            raise SessionError("refused", self.server.starttls)
        if not self.server.handshake:
            self.open = False
            raise SessionError(f"the handshake with {self.name} failed")
        self.tls = "TLSv1.3 AES"
        self.extensions = {}

    def peer_chain(self) -> Sequence[Any]:
        if isinstance(self.server.chain, Exception):
            raise self.server.chain
        return self.server.chain

    async def login(self, username: str, password: str) -> None:
        self.log.append(f"login {username} {password}")
        if self.server.login is not None:
            raise SessionError("refused", self.server.login)

    async def send(self, transaction: Transaction, content: Content) -> list[PeerReply]:
        self.log.append("send")
        blocks = []
        while block := await content.read(7):
            blocks.append(block)
        content.close()
        if self.server.lost is not None:
            self.open = False
            raise self.server.lost
        self.sent.append((transaction, b"".join(blocks)))
        if self.server.replies:
            return self.server.replies.pop(0)
        return [PeerReply(250, "2.1.5", "fine")] * len(transaction.recipients)

    async def quit(self) -> None:
        self.log.append("quit")
        self.open = False

    def abort(self) -> None:
        self.log.append("abort")
        self.open = False


class FakeNetwork:
    """`carrier.Connect`: address → `Server`. `dialled`: addresses in order; `dials`: with all arguments."""

    def __init__(self, servers: Mapping[str, Server]) -> None:
        self.servers = dict(servers)
        self.dialled: list[str] = []
        self.dials: list[dict[str, Any]] = []
        self.log: list[str] = []
        self.conversations: list[FakeConversation] = []
        self.cancelled: list[str] = []

    def __call__(
        self, world: Any, host: str, port: int = 25, **named: Any
    ) -> Awaitable[FakeConversation]:
        self.dialled.append(host)
        self.dials.append({"host": host, "port": port, **named})
        server = self.servers.get(host, Server(refuses=True))
        if server.silent:
            return Deferred(lambda _: self.cancelled.append(host))
        if server.refuses:
            return _refuse(named["name"])
        conversation = FakeConversation(server, self.log, named["name"], named["tls"])
        self.conversations.append(conversation)
        return succeed(conversation)


async def _refuse(name: str) -> FakeConversation:
    raise SessionError(f"{name} refused the connection")


def job(
    *recipients: QueuedRecipient | str,
    content: bytes = b"Subject: x\n\nhello\n",
    options: Options | None = None,
    sender: str = "alice@example.com",
    opened: list[int] | None = None,
) -> Job:
    whole = tuple(
        one if isinstance(one, QueuedRecipient) else QueuedRecipient(one, "example.org")
        for one in recipients
    )
    wire = len(content) + content.count(b"\n")
    message = QueuedMessage(
        "m1",
        sender,
        whole,
        0.0,
        1.0,
        None,
        options if options is not None else Options(),
        0,
        len(content),
        wire,
    )

    async def open() -> Content:
        if opened is not None:
            opened.append(1)
        return BytesContent(content)

    return Job(message, tuple(enumerate(whole)), sender, open)


class Pki:
    """An authority, an intermediate one below it, and leaves."""

    def __init__(self) -> None:
        self.root = trustme.CA()
        self.middle = self.root.create_child_ca()

    @property
    def root_pem(self) -> bytes:
        return self.root.cert_pem.bytes()

    @property
    def root_certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.root_pem)

    def chain(self, *names: str, **named: Any) -> list[x509.Certificate]:
        """A leaf by the intermediate authority, and that; the root is not shown."""
        leaf = self.middle.issue_cert(*names, **named)
        return [
            certificate
            for blob in leaf.cert_chain_pems
            for certificate in x509.load_pem_x509_certificates(blob.bytes())
        ][:2]


def self_signed(
    *names: str,
    start: datetime.datetime = datetime.datetime(2026, 1, 1),
    end: datetime.datetime = datetime.datetime(2036, 1, 1),
) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "self")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .sign(key, hashes.SHA256())
    )
