"""A client's side of an SMTP session without a network, and the fakes behind it."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from zope.interface import implementer

from twisted_mail.address import Address
from twisted_mail.connection.interfaces import Answer, Signal, Then
from twisted_mail.delivery.interfaces import Client, Envelope, Visit
from twisted_mail.interfaces import IAccount
from twisted_mail.smtp.engine import SmtpEngine
from twisted_mail.smtp.session import Profile, SmtpSession, SmtpSettings
from twisted_mail.status import MailError


class FakeIncoming:
    """Keeps content in memory; `commit` puts it into its intake."""

    def __init__(self, intake: FakeIntake, client: Client, envelope: Envelope) -> None:
        self.message_id = f"M{len(intake.begun) + 1}"
        self.client = client
        self.envelope = envelope
        self.blocks: list[bytes] = []
        self.aborted = 0
        self.committed = 0
        self._intake = intake

    @property
    def content(self) -> bytes:
        return b"".join(self.blocks)

    async def write(self, block: bytes) -> None:
        assert not self.aborted
        assert not self.committed
        if self._intake.write_error is not None:
            raise self._intake.write_error
        self.blocks.append(block)

    async def commit(self) -> None:
        assert not self.aborted
        self.committed += 1
        if self._intake.commit_waits is not None:
            await self._intake.commit_waits
        if self._intake.commit_error is not None:
            raise self._intake.commit_error
        self._intake.messages.append(self)

    def abort(self) -> None:
        assert not self.committed
        self.aborted += 1


class FakeIntake:
    """Takes mail for bob, carol and postmaster at hamburger.edu. Each `…_error` is raised when set."""

    def __init__(self) -> None:
        self.begun: list[FakeIncoming] = []
        self.messages: list[FakeIncoming] = []
        self.sender_error: Exception | None = None
        self.route_error: Exception | None = None
        self.begin_error: Exception | None = None
        self.write_error: Exception | None = None
        self.commit_error: Exception | None = None
        self.commit_waits: Awaitable[object] | None = None
        self.visitor: Visit | None = None
        self.visits: list[tuple[str, bool]] = []

    def visit(self, ip: str, connection: str, *, submission: bool) -> Visit | None:
        self.visits.append((ip, submission))
        return self.visitor

    async def check_sender(self, client: Client, envelope: Envelope) -> None:
        if self.sender_error is not None:
            raise self.sender_error

    async def route(self, client: Client, envelope: Envelope, recipient: Address) -> None:
        if self.route_error is not None:
            raise self.route_error
        if recipient.key == "postmaster@":
            return
        if recipient.domain not in self.local_domains():
            raise MailError(550, "5.7.1", "We do not relay")
        if recipient.local.lower() not in ("bob", "carol", "jürgen", "postmaster"):
            raise MailError(550, "5.1.1", f"No mailbox {recipient.local}")

    def begin(self, client: Client, envelope: Envelope) -> FakeIncoming:
        if self.begin_error is not None:
            raise self.begin_error
        incoming = FakeIncoming(self, client, envelope)
        self.begun.append(incoming)
        return incoming

    def local_domains(self) -> Sequence[str]:
        return ["hamburger.edu"]


@implementer(IAccount)
@dataclass
class FakeAccount:
    name: str

    def open_inbox(self) -> object:
        raise NotImplementedError

    def may_send_as(self, address: Address) -> bool:
        return True


@dataclass
class FakeLogin:
    account: FakeAccount
    logouts: int = 0

    def logout(self) -> None:
        self.logouts += 1


@dataclass
class FakeExchange:
    """PLAIN in one step, LOGIN in two; the password of everybody is ``secret``."""

    authenticator: FakeAuthenticator
    mechanism: str
    told: list[bytes] = field(default_factory=list)

    async def step(self, response: bytes | None) -> bytes | FakeLogin:
        if self.authenticator.error is not None:
            raise self.authenticator.error
        if response is not None:
            self.told.append(response)
        if self.mechanism == "PLAIN":
            if not self.told:
                return b""
            parts = self.told[0].split(b"\0")
            if len(parts) != 3:
                raise MailError(501, "5.5.2", "Malformed authentication response")
            _, user, password = parts
        else:
            if len(self.told) < 2:
                return [b"User Name\0", b"Password\0"][len(self.told)]
            user, password = self.told
        if password != b"secret":
            raise MailError(535, "5.7.8", "Authentication credentials invalid")
        login = FakeLogin(FakeAccount(user.decode(errors="replace")))
        self.authenticator.logins.append(login)
        return login


class FakeAuthenticator:
    def __init__(self) -> None:
        self.logins: list[FakeLogin] = []
        self.error: Exception | None = None
        self.offered: tuple[str, ...] = ("PLAIN", "LOGIN")

    def mechanisms(self) -> Sequence[str]:
        return self.offered

    def exchange(self, mechanism: str, client_ip: str) -> FakeExchange:
        return FakeExchange(self, mechanism)


class Conversation:
    """Drives an engine and a session as `connection.protocol` does, with nothing in between."""

    def __init__(
        self,
        profile: Profile = Profile.SMTP,
        *,
        starttls: bool = True,
        intake: Any = None,
        **settings: Any,
    ) -> None:
        self.intake = FakeIntake() if intake is None else intake
        self.authenticator = FakeAuthenticator()
        self.settings = SmtpSettings(hostname="mail.hamburger.edu", **settings)
        self.engine = SmtpEngine(strict=self.settings.strict)
        self.session = SmtpSession(
            profile,
            self.settings,
            self.intake,
            self.authenticator,
            client_ip="192.0.2.7",
            connection="C1",
            starttls=starttls,
        )
        self.closed = False
        if profile is Profile.SUBMISSIONS:
            self.session.tls_started("TLSv1.3 TLS_AES_256_GCM_SHA384")

    def send(self, data: bytes) -> bytes:
        """What comes back."""
        self.engine.receive(data)
        said = b""
        while not self.closed and not isinstance(event := self.engine.next_event(), Signal):
            answer = run(self.session.handle(event))
            if answer.then is Then.START_TLS:
                said += self._start_tls(answer)
                continue
            said += answer.data
            parting = self.session.too_many_errors()
            if answer.then is Then.CLOSE or parting is not None:
                self.closed = True
                self.session.lost()
                return said + (b"" if answer.then is Then.CLOSE else parting or b"")
            self.engine.resume(answer.expect)
        return said

    def say(self, *lines: str) -> str:
        """Send lines; what comes back, as text without the last line end."""
        text = self.send("".join(line + "\r\n" for line in lines).encode())
        return text.decode().removesuffix("\r\n").replace("\r\n", "\n")

    def play(self, script: str) -> Conversation:
        """``C line`` lines are sent, the ``S line`` lines below are all that comes back.

        ``S 250…`` stands for any text behind the code.
        """
        sent: list[str] = []
        heard: list[str] = []
        for line in [*script.strip().split("\n"), "C "]:
            who, text = line.lstrip()[:1], line.lstrip()[2:]
            if who == "C":
                assert not heard, f"not in the script: {heard}"
                sent.append(text)
                continue
            if sent:
                heard = self.say(*sent).split("\n")
                sent = []
            reply = heard.pop(0) if heard else "nothing"
            if text.endswith("…"):
                reply = reply[: len(text) - 1] + "…"
            assert reply == text
        return self

    def _start_tls(self, answer: Answer) -> bytes:
        if not self.engine.start_tls():
            self.closed = True
            self.session.lost()
            return self.session.starttls_refused
        self.session.tls_started("TLSv1.3 TLS_AES_256_GCM_SHA384")
        return answer.data


def run(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        answer: Answer = stop.value
        return answer
    raise AssertionError("it waits")


def plain(user: str, password: str) -> str:
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


def begun(
    conversation: Conversation | None = None, sender: str = "MAIL FROM:<a@b.example>"
) -> Conversation:
    """A conversation up to its first recipient."""
    conversation = conversation or Conversation()
    return conversation.play(
        f"""
        C HELO client.example
        S 250 mail.hamburger.edu
        C {sender}
        S 250 2.1.0 Ok
        C RCPT TO:<bob@hamburger.edu>
        S 250 2.1.5 Ok
        """
    )
