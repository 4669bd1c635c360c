"""A protocol of one-line commands, to see what the driver does with any protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from twisted_mail.connection.deadlines import Bounds
from twisted_mail.connection.factory import MailFactory
from twisted_mail.connection.interfaces import NEED_DATA, PAUSED, POKED, Answer, Then
from twisted_mail.connection.limits import ConnectionLimits
from twisted_mail.testing.world import simulated_world
from twisted_mail.world import World

BLOCK = 16 * 1024
SCRIPT = b"echo 1\nthread 2\nmessage\n.a\nb\n.\nbody 3\nthreads 3\nbig 70000\nerror\necho 4\nbye\n"
"""Some of everything, …"""
ANSWERS = (
    b"1\n2\ngo on\ntaken\nbody:"
    + b"y" * 3 * BLOCK
    + b"threads:0,1,2,"
    + b"x" * 70000
    + b"error\n4\nbye\n"
)
"""… and what is answered."""


class ToyEngine:
    """Lines are commands; after ``resume(True)`` they are content, to a line of one dot."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.paused = False
        self.midway = False

    @property
    def buffered(self) -> int:
        return len(self.buffer)

    def receive(self, data: bytes) -> None:
        self.buffer += data

    def next_event(self) -> Any:
        if self.paused:
            return PAUSED
        end = self.buffer.find(b"\n")
        if end < 0:
            return NEED_DATA
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        self.paused = True
        if self.midway:
            self.midway = line != b"."
            return b"content " + line
        return line

    def resume(self, expect: object = None) -> None:
        self.paused = False
        self.midway = self.midway or expect is not None

    def start_tls(self) -> bool:
        if self.buffer:
            return False
        self.paused = False
        return True

    def give_back(self) -> bytes:
        assert self.paused
        data = bytes(self.buffer)
        self.buffer.clear()
        return data


class Foreign:
    """What belongs to another event loop."""

    def __await__(self) -> Any:
        yield "a future of another loop"


class ToySession:
    """Each command is answered by the method of its name; what happened is in `log`."""

    starttls_refused = b"refused\n"

    def __init__(self, world: World) -> None:
        self.world = world
        self.log: list[str] = []
        self.waits: list[Deferred[bytes]] = []
        self.errors = 0
        self.blocks = 0
        self.seconds_per_event = 0.0

    def greeting(self) -> bytes:
        return b"hello\n"

    async def handle(self, event: bytes) -> Answer:
        self.world.reactor.rightNow += self.seconds_per_event
        errors = "replace" if event.startswith(b"content ") else "strict"
        verb, _, argument = event.decode("ascii", errors).partition(" ")
        answer: Answer = await getattr(self, f"do_{verb}")(argument)
        return answer

    async def do_echo(self, text: str) -> Answer:
        return Answer(text.encode("ascii") + b"\n")

    async def do_thread(self, text: str) -> Answer:
        result = await self.world.threads.call(text.encode, "ascii")
        return Answer(result + b"\n")

    async def do_wait(self, text: str) -> Answer:
        wait: Deferred[bytes] = Deferred()
        self.waits.append(wait)
        try:
            result = await wait
        except Exception as error:
            self.log.append(f"{text} failed: {error!r}")
            raise
        finally:
            self.log.append(f"{text} over")
        return Answer(text.encode("ascii") + b" " + result + b"\n")

    async def do_big(self, size: str) -> Answer:
        return Answer(b"x" * int(size))

    async def do_body(self, blocks: str) -> Answer:
        async def body() -> AsyncIterator[bytes]:
            try:
                for _ in range(int(blocks)):
                    self.blocks += 1
                    yield b"y" * BLOCK
            finally:
                self.log.append("body over")

        return Answer(b"body:", body=body())

    async def do_stuck(self, argument: str) -> Answer:
        async def body() -> AsyncIterator[bytes]:
            try:
                yield b"z"
                await Deferred()
            except Exception as error:
                self.log.append(repr(error))
            finally:
                await self.world.threads.call(int)
                self.log.append("body over")

        return Answer(b"stuck:", body=body())

    async def do_threads(self, blocks: str) -> Answer:
        async def body() -> AsyncIterator[bytes]:
            for number in range(int(blocks)):
                yield await self.world.threads.call(lambda n: b"%d," % n, number)

        return Answer(b"threads:", body=body())

    async def do_broken(self, argument: str) -> Answer:
        async def body() -> AsyncIterator[bytes]:
            yield b"begin"
            raise OSError("the disk is gone")

        return Answer(b"broken:", body=body())

    async def do_raise(self, argument: str) -> Answer:
        raise ValueError("a mistake of ours")

    async def do_foreign(self, argument: str) -> Answer:
        await Foreign()
        raise AssertionError("not reached")

    async def do_tolerant(self, argument: str) -> Answer:
        try:
            await Foreign()
        except TypeError:
            return Answer(b"foreign\n")
        raise AssertionError("not reached")

    async def do_message(self, argument: str) -> Answer:
        return Answer(b"go on\n", expect=True)

    async def do_content(self, line: str) -> Answer:
        return Answer(b"taken\n") if line == "." else Answer()

    async def do_error(self, argument: str) -> Answer:
        self.errors += 1
        return Answer(b"error\n")

    async def do_tls(self, argument: str) -> Answer:
        return Answer(b"ready\n", Then.START_TLS)

    async def do_compress(self, argument: str) -> Answer:
        return Answer(b"compressed\n", Then.START_COMPRESSION)

    async def do_bye(self, argument: str) -> Answer:
        return Answer(b"bye\n", Then.CLOSE)

    def tls_started(self, description: str) -> None:
        self.log.append(f"tls {description}")

    def too_many_errors(self) -> bytes | None:
        return b"enough\n" if self.errors >= 3 else None

    def timed_out(self) -> bytes:
        return b"timed out\n"

    def closing_down(self) -> bytes:
        return b"closing down\n"

    def lost(self) -> None:
        self.log.append("lost")


class TalkativeSession(ToySession):
    """Says what is in `news`, one at a poke; None: what `wait` would."""

    poke: Callable[[], None]

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.poke = lambda: None
        self.idle_seconds: float | None = None
        self.news: list[Answer | None] = []
        self.pokes = 0

    def tell(self, *news: Answer | bytes | None) -> None:
        """Have something to say, and poke once."""
        for item in news:
            self.news.append(Answer(item) if isinstance(item, bytes) else item)
        self.poke()

    async def handle(self, event: Any) -> Answer:
        if event is not POKED:
            return await super().handle(event)
        self.pokes += 1
        answer = self.news.pop(0) if self.news else Answer()
        return await self.do_wait("news") if answer is None else answer

    async def do_tell(self, text: str) -> Answer:
        self.tell(text.encode("ascii") + b"!\n")
        return Answer(text.encode("ascii") + b"\n")

    async def do_patience(self, seconds: str) -> Answer:
        self.idle_seconds = float(seconds)
        return Answer(b"patience\n")


class ToyFactory(MailFactory):
    """`sessions` are all that were made."""

    session: type[ToySession] = ToySession

    too_many = b"too many\n"

    def __init__(
        self,
        *,
        tls: Any = None,
        implicit_tls: bool = False,
        bounds: Bounds | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self.world = simulated_world()
        self.sessions: list[Any] = []
        self.engines: list[ToyEngine] = []
        super().__init__(
            self.world,
            "toy",
            bounds=bounds or Bounds(),
            limits=limits or ConnectionLimits(100, 100),
            tls=tls,
            implicit_tls=implicit_tls,
        )

    def make(self, ip: str, connection: str) -> tuple[ToyEngine, ToySession]:
        self.sessions.append(self.session(self.world))
        self.engines.append(ToyEngine())
        return self.engines[-1], self.sessions[-1]

    def connect(self, address: str = "192.0.2.1") -> Any:
        return self.world.reactor.connect(self, address=address)


class TalkativeFactory(ToyFactory):
    """Its sessions speak unasked."""

    session = TalkativeSession


@cache
def tls_options() -> TlsOptions:
    """A server's TLS, with a certificate of its own for ``localhost``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return TlsOptions(key, made)


@implementer(IOpenSSLServerConnectionCreator)
class TlsOptions:
    """`authority` is the PEM that a client is to believe."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.authority = certificate.public_bytes(serialization.Encoding.PEM)
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.use_privatekey(key)
        self._context.use_certificate(certificate)

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)
