"""A server that follows a script, and the conversation that is held with it, on the simulated network.

A script is a dialogue, one step a line:

    S: 220 hi          the server says this line            S! 25\\r    it says these octets, escapes read
    C: EHLO me         it reads exactly this line           C* 3000    it reads so many octets, whatever they are
    TLS                the handshake of a server            CLOSE, ABORT, SHUT   it closes, cuts, says no more (FIN)
    STOP               it reads nothing more                WAIT 60    seconds pass

A server that speaks has read all that the client has sent so far, so "C: MAIL … S: 250" says that nothing else was sent
before that 250, and "C: MAIL … C: RCPT … S: 250" that both came without waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_mail.content import BytesContent
from twisted_mail.smtp.client.conversation import SmtpConversation
from twisted_mail.smtp.client.interfaces import PeerReply, Timeouts, Transaction
from twisted_mail.smtp.client.protocol import connect
from twisted_mail.storage.queued import Options, QueuedRecipient
from twisted_mail.testing import simulated_world
from twisted_mail.world import World

T = TypeVar("T")

ALICE, BOB, CAROL, DAVE = (
    f"{name}@example.{tld}"
    for name, tld in (("alice", "org"), ("bob", "net"), ("carol", "net"), ("dave", "net"))
)


class Peer(Protocol):
    """The server. `heard`: every octet it has read; `wrong`: where the client left the script, if it did."""

    def __init__(self, world: World, steps: list[str], tls: Any) -> None:
        self.heard = b""
        self.wrong = ""
        self.closed = False
        self.reads = 0
        self._world = world
        self._steps = steps
        self._tls = tls
        self._unread = b""
        self._running = False
        self._stopped = False

    @property
    def left(self) -> list[str]:
        """What was not done of the script."""
        return self._steps

    def connectionMade(self) -> None:
        self.go_on()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self.reads += 1
        self._unread += data
        self.go_on()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = True

    def go_on(self) -> None:
        if self._running or self._stopped:
            return
        self._running = True
        while self._steps and self._step(self._steps[0]):
            if self._steps:
                self._steps.pop(0)
        self._running = False

    def _step(self, step: str) -> bool:
        """Do it; False when more has to be read first."""
        what, _, text = step.partition(" ")
        transport: Any = self.transport
        if what == "C:":
            line, end, rest = self._unread.partition(b"\n")
            if not end:
                return False
            self._unread = rest
            self._check(line + end, text.encode() + b"\r\n", step)
        elif what == "C*":
            if len(self._unread) < int(text):
                return False
            self._unread = self._unread[int(text) :]
        elif what == "WAIT":
            self._steps.pop(0)
            self._stopped = True
            self._world.reactor.callLater(float(text), self._wake)
            return False
        elif what == "STOP":
            transport.pauseProducing()
        else:
            self._check(self._unread, b"", step)
            if what == "S:":
                transport.write(text.encode() + b"\r\n")
            elif what == "S!":
                transport.write(text.encode().decode("unicode_escape").encode("latin-1"))
            elif what == "TLS":
                transport.startTLS(self._tls)
            elif what == "CLOSE":
                transport.loseConnection()
            elif what == "SHUT":
                transport.loseWriteConnection()
            elif what == "ABORT":
                transport.abortConnection()
            else:
                raise AssertionError(step)
        return True

    def _wake(self) -> None:
        self._stopped = False
        self.go_on()

    def _check(self, said: bytes, expected: bytes, step: str) -> None:
        if said != expected and not self.wrong:
            self.wrong = f"at {step!r} the client said {said!r}"


class Talk:
    """A conversation with a scripted peer."""

    def __init__(
        self,
        script: str,
        *,
        lmtp: bool = False,
        tls: Any = None,
        timeouts: Timeouts | None = None,
        clear_login: bool = False,
        client_tls: Any = None,
    ) -> None:
        self.world = simulated_world()
        steps = [line.strip() for line in script.strip().splitlines()]
        self.peer = Peer(self.world, [step for step in steps if step], tls)
        factory = Factory()
        factory.buildProtocol = lambda addr: self.peer  # type: ignore[method-assign,assignment]
        self.world.reactor.listenTCP(2525, factory, interface="127.0.0.1")
        self.conversation: SmtpConversation = self.do(
            connect(
                self.world,
                "127.0.0.1",
                2525,
                helo="me.example.org",
                name="mx.example.net",
                lmtp=lmtp,
                tls=client_tls,
                clear_login=clear_login,
                timeouts=timeouts,
            )
        )

    def start(self, work: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Let it run as far as it goes without time passing."""
        deferred = Deferred.fromCoroutine(work)
        self.world.reactor.settle()
        return deferred

    def do(self, work: Coroutine[Any, Any, T], *, within: float = 0) -> T:
        """Let it run to its end, which comes after `within` seconds at most."""
        deferred = self.start(work)
        if within:
            self.world.reactor.advance(within)
            self.world.reactor.settle()
        return result_of(deferred)

    def hello(self) -> None:
        self.do(self.conversation.hello())

    def send(
        self,
        *recipients: str | QueuedRecipient,
        content: bytes = b"Subject: hi\n\nhello\n",
        mail_from: str = ALICE,
        options: Options | None = None,
        wire: int = 0,
        within: float = 0,
    ) -> list[PeerReply]:
        return self.do(
            self.sending(
                *recipients, content=content, mail_from=mail_from, options=options, wire=wire
            ),
            within=within,
        )

    def sending(
        self,
        *recipients: str | QueuedRecipient,
        content: bytes = b"Subject: hi\n\nhello\n",
        mail_from: str = ALICE,
        options: Options | None = None,
        wire: int = 0,
    ) -> Coroutine[Any, Any, list[PeerReply]]:
        self.content = WatchedContent(content)
        return self.conversation.send(
            transaction(*recipients, mail_from=mail_from, options=options, wire=wire), self.content
        )

    def finished(self) -> None:
        """The script was followed to its end."""
        assert self.peer.wrong == ""
        assert self.peer.left == []


class WatchedContent(BytesContent):
    """Content that says whether it was closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1
        super().close()


def transaction(
    *recipients: str | QueuedRecipient,
    mail_from: str = ALICE,
    options: Options | None = None,
    wire: int = 0,
) -> Transaction:
    return Transaction(
        mail_from,
        [QueuedRecipient(one, "mx") if isinstance(one, str) else one for one in recipients],
        options or Options(),
        wire,
    )


def result_of(deferred: Deferred[T]) -> T:
    """Its result, or its exception; AssertionError while there is none."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "not finished"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    result: T = results[0]
    return result


def greeted(*extensions: str) -> str:
    """The beginning of a script: greeting and EHLO."""
    lines = ["mx.example.net", *extensions]
    said = "\n".join(
        f"S: 250{' ' if at == len(lines) - 1 else '-'}{line}" for at, line in enumerate(lines)
    )
    return f"S: 220 mx.example.net\nC: EHLO me.example.org\n{said}\n"


def talk(script: str, *extensions: str, **options: Any) -> Talk:
    """A conversation past EHLO."""
    made = Talk(greeted(*extensions) + script, **options)
    made.hello()
    return made


def codes(replies: Sequence[PeerReply]) -> list[str]:
    """Short: ``["250", "550 5.1.1", "552 5.3.4 (ours)"]``."""
    return [
        f"{one.code} {one.enhanced}".strip() + ("" if one.said else " (ours)") for one in replies
    ]


Script = Callable[[], str]
