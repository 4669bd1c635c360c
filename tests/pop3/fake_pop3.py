"""A POP3 server without a network: engine and session, a mailbox in memory, accounts in a dict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_mail.connection.interfaces import Answer, Signal, Then
from twisted_mail.content import message_info
from twisted_mail.interfaces import IEndingAccount, IMailbox
from twisted_mail.pop3.engine import Engine
from twisted_mail.pop3.session import Pop3Session
from twisted_mail.status import MailError


class MemoryContent:
    """Content read in blocks of at most `block`; `fail_at`: the read that raises."""

    def __init__(self, content: bytes, block: int, fail_at: int | None) -> None:
        self.rest = content
        self.block = block
        self.reads = 0
        self.closed = 0
        self.fail_at = fail_at

    async def read(self, size: int) -> bytes:
        assert not self.closed
        self.reads += 1
        if self.reads == self.fail_at:
            raise OSError("disk on fire")
        size = min(size, self.block)
        block, self.rest = self.rest[:size], self.rest[size:]
        return block

    def close(self) -> None:
        self.closed += 1


@implementer(IMailbox)
class MemoryMailbox:
    """`contents` by index. `gone` indexes raise; `remove_error` is raised by `remove`."""

    def __init__(self, contents: Sequence[bytes], block: int = 1 << 20) -> None:
        self.contents = contents
        self.messages = [message_info(f"id-{n}", content) for n, content in enumerate(contents)]
        self.block = block
        self.fail_at: int | None = None
        self.gone: set[int] = set()
        self.remove_error: Exception | None = None
        self.removed: list[int] | None = None
        self.closed = 0
        self.opened: list[MemoryContent] = []

    async def fetch(self, index: int) -> MemoryContent:
        assert not self.closed
        if index in self.gone:
            raise MailError(450, "4.2.0", "The message is gone")
        self.opened.append(MemoryContent(self.contents[index], self.block, self.fail_at))
        return self.opened[-1]

    async def remove(self, indexes: Sequence[int]) -> None:
        assert not self.closed
        if self.remove_error is not None:
            raise self.remove_error
        self.removed = list(indexes)

    async def close(self) -> None:
        assert all(content.closed for content in self.opened)
        self.closed += 1


@implementer(IEndingAccount)
class MemoryAccount:
    """`open_inbox` gives what `inbox` gives, or raises what it raises."""

    name = "alice@example.org"

    def __init__(self, inbox: Callable[[], Awaitable[MemoryMailbox]]) -> None:
        self.inbox = inbox
        self.watched: list[Callable[[], None]] = []

    def open_inbox(self) -> Awaitable[MemoryMailbox]:
        return self.inbox()

    def watch_end(self, ended: Callable[[], None]) -> Callable[[], None]:
        self.watched.append(ended)
        return lambda: self.watched.remove(ended)

    def end(self) -> None:
        """The user is let in no more."""
        for ended in self.watched:
            ended()

    def may_send_as(self, address: object) -> bool:
        return False


class FakeLogin:
    def __init__(self, account: MemoryAccount) -> None:
        self.account = account
        self.logouts = 0

    def logout(self) -> None:
        self.logouts += 1


class FakeExchange:
    """PLAIN asks once; LOGIN asks twice; raises what `error` says."""

    def __init__(self, authenticator: FakeAuthenticator, mechanism: str) -> None:
        self.authenticator = authenticator
        self.mechanism = mechanism
        self.said: list[bytes] = []

    async def step(self, response: bytes | None) -> bytes | FakeLogin:
        if response is not None:
            self.said.append(response)
        if self.mechanism == "PLAIN":
            if not self.said:
                return b""
            parts = self.said[0].decode(errors="replace").split("\0")
            if len(parts) != 3:
                raise MailError(501, "5.5.2", "Malformed authentication response", pop3="AUTH")
            _, user, password = parts
        elif len(self.said) < 2:
            return (b"User Name\0", b"Password\0")[len(self.said)]
        else:
            user, password = (part.decode(errors="replace") for part in self.said)
        return await self.authenticator.login(user, password, "192.0.2.1")


class FakeAuthenticator:
    """One user, "alice" with the password "open sésame"."""

    def __init__(self, account: MemoryAccount) -> None:
        self.account = account
        self.logins: list[FakeLogin] = []
        self.error: Exception = MailError(535, "5.7.8", "Wrong name or password", pop3="AUTH")
        self.offered: tuple[str, ...] = ("SCRAM-SHA-256", "PLAIN", "LOGIN")

    def mechanisms(self) -> tuple[str, ...]:
        return self.offered

    async def login(self, username: str, password: str, client_ip: str) -> FakeLogin:
        if (username, password) != ("alice", "open sésame"):
            raise self.error
        self.logins.append(FakeLogin(self.account))
        return self.logins[-1]

    def exchange(self, mechanism: str, client_ip: str) -> FakeExchange:
        return FakeExchange(self, mechanism)


class Dialogue:
    """A client that talks to one session. `say` gives what the server answers, bodies included.

    It does what the driver does, and nothing more: TLS "starts" at once.
    """

    def __init__(self, *contents: bytes, tls: bool = True, **options: object) -> None:
        self.mailbox = MemoryMailbox(contents)
        self.account = MemoryAccount(self.open)
        self.authenticator = FakeAuthenticator(self.account)
        settings = {"hostname": "mail.example.org", "client_ip": "192.0.2.1", "connection": "c1"}
        self.session = Pop3Session(self.authenticator, tls=tls, **settings, **options)
        self.engine = Engine()
        self.closed = False
        self.out = b""
        self.pending: Deferred[None] | None = None

    async def open(self) -> MemoryMailbox:
        return self.mailbox

    def say(self, *lines: str | bytes) -> bytes:
        """Send the lines in one go."""
        for line in lines:
            encoded = line.encode() if isinstance(line, str) else line
            self.engine.receive(encoded + b"\r\n")
        return self.run()

    def run(self) -> bytes:
        """Answer what there is to answer; what waits is left in `pending`."""
        self.pending = Deferred.fromCoroutine(self.answer())
        out, self.out = self.out, b""
        failure = [error for error in [self.pending.result] if error] if self.pending.called else []
        if failure:
            self.pending.addErrback(lambda _: None)
            failure[0].raiseException()
        return out

    async def answer(self) -> None:
        while not self.closed:
            event = self.engine.next_event()
            if isinstance(event, Signal):
                return
            answer = await self.session.handle(event)
            assert isinstance(answer, Answer)
            if answer.then is Then.START_TLS and not self.engine.start_tls():
                self.out += self.session.starttls_refused
                self.closed = True
                return
            self.out += answer.data
            if answer.body is not None:
                async for block in answer.body:
                    self.out += block
            parting = self.session.too_many_errors()
            if parting is not None:
                self.out += parting
            if answer.then is Then.START_TLS:
                self.session.tls_started("TLSv1.3 TLS_AES_256_GCM_SHA384")
            else:
                self.engine.resume(answer.expect)
            self.closed = answer.then is Then.CLOSE or parting is not None

    def log_in(self) -> Dialogue:
        assert self.say("USER alice", "PASS open sésame").count(b"+OK") == 2
        return self
