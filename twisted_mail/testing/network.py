"""A network inside one process: listeners, a client for tests, and the two ends of a connection.

What one end writes reaches the other on the next turn of the simulated clock, in order, in blocks
of at most 64 KiB. The ends behave as TCP does where a server can tell: a reader that pauses makes
the writer's buffer fill, a full buffer pauses the writer's producer, `loseConnection` sends what
was written first, and `startTLS` speaks real TLS. There is no latency and no loss, and a writer
that ignores `pauseProducing` is not stopped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol

from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from service_identity.pyopenssl import verify_hostname
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import (
    IHandshakeListener,
    IListeningPort,
    IOpenSSLClientConnectionCreator,
    IProtocolFactory,
    IPushProducer,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Client", "Listener", "Transport", "connect"]

_BLOCK = 1 << 16  # bytes: how much a turn delivers, and what a full buffer is
_DATES = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


class Clock(Protocol):
    """What this module needs of a simulated reactor."""

    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Any, *args: Any) -> Any: ...
    def settle(self) -> None: ...


@implementer(IListeningPort)
class Listener:
    """A port of the simulated network, in `ports` for as long as it listens."""

    def __init__(
        self, ports: dict[int, Listener], port: int, factory: IProtocolFactory, interface: str
    ) -> None:
        if port == 0:
            port = next(free for free in range(49152, 65536) if free not in ports)
        self._ports = ports
        self._number = port
        self._interface = interface
        self.factory = factory
        self.startListening()

    def startListening(self) -> None:
        if self._number in self._ports:
            raise CannotListenError(self._interface, self._number, OSError("in use"))
        self._ports[self._number] = self
        self.factory.doStart()

    def stopListening(self) -> None:
        if self._ports.pop(self._number, None) is not None:
            self.factory.doStop()

    def getHost(self) -> IPv4Address | IPv6Address:
        return _address(self._interface or "0.0.0.0", self._number)


class _Wire:
    """One end of a connection, in clear. `protocol` gets what the other end, `peer`, sends."""

    peer: _Wire

    def __init__(self, clock: Clock, host: Any, peer_address: Any) -> None:
        self.protocol: Any = None
        self.host = host
        self.peer_address = peer_address
        self.clock = clock
        self._out = bytearray()
        self._scheduled = False
        self._reading = True
        self._closing = False
        self._lost = False
        self._hung_up = False
        self._producer: Any = None
        self._streaming = True
        self._producer_paused = False

    # What the writing side calls

    def write(self, data: bytes) -> None:
        if self._lost or (self._closing and self._producer is None):
            return
        self._out += data
        self._schedule()
        if len(self._out) >= _BLOCK and self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            if self._streaming:
                self._producer.pauseProducing()

    def loseConnection(self) -> None:
        self._closing = True
        self._schedule()

    def abortConnection(self) -> None:
        if not self._lost:
            self._lost = True
            self._out.clear()
            self.clock.callLater(0, self._tell_lost, ConnectionAborted())
            self.clock.callLater(0, self.peer.hang_up, ConnectionLost())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self._lost:
            producer.stopProducing()
            return
        self._producer, self._streaming, self._producer_paused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._schedule()

    # What the reading side calls

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        self._reading = True
        self.peer._schedule()
        if self._hung_up:
            self.clock.callLater(0, self.hang_up, ConnectionDone())

    def stopProducing(self) -> None:
        self.loseConnection()

    # The wire itself

    def hang_up(self, reason: Exception) -> None:
        """The other end is gone. A reader that pauses learns it when it reads again."""
        if self._lost:
            return
        if not self._reading and not isinstance(reason, ConnectionLost):
            self._hung_up = True
            return
        self._lost = True
        self._out.clear()
        self._tell_lost(reason)

    def getHost(self) -> Any:
        return self.host

    def getPeer(self) -> Any:
        return self.peer_address

    def _schedule(self) -> None:
        if not self._scheduled and not self._lost:
            self._scheduled = True
            self.clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._lost:
            return
        if self._out and self.peer._reading:
            block = bytes(self._out[:_BLOCK])
            del self._out[:_BLOCK]
            self.peer.protocol.dataReceived(block)
            self._schedule()
        elif not self._out and self._producer is not None:
            if self._producer_paused or not self._streaming:
                self._producer_paused = False
                self._producer.resumeProducing()
        elif not self._out and self._closing:
            self._lost = True
            self._tell_lost(ConnectionDone())
            self.clock.callLater(0, self.peer.hang_up, ConnectionDone())

    def _tell_lost(self, reason: Exception) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(reason))


@implementer(ITCPTransport, ITLSTransport, IPushProducer)
class Transport:
    """What a protocol sees of its end: the wire, and TLS over it once started."""

    def __init__(self, wire: _Wire, *, is_client: bool) -> None:
        self._wire = wire
        self._over: Any = wire
        self._is_client = is_client

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        factory = TLSMemoryBIOFactory(
            contextFactory,
            self._is_client is normal,
            Factory(),  # only wanted for its name in the log: the protocol exists already
            clock=self._wire.clock,  # type: ignore[arg-type]  # of IReactorTime it uses callLater only
        )
        producer, streaming = self._wire._producer, self._wire._streaming
        if producer is not None:
            self._wire.unregisterProducer()
        tls = factory.protocol(factory, self._wire.protocol, False)
        self._wire.protocol = self._over = tls
        tls.makeConnection(self._wire)
        if producer is not None:
            tls.registerProducer(producer, streaming)

    def getHandle(self) -> Any:
        """The OpenSSL connection; AttributeError before TLS."""
        return self._over.getHandle()

    def getPeerCertificate(self) -> Any:
        return self._over.getPeerCertificate()

    def write(self, data: bytes) -> None:
        self._over.write(data)

    def writeSequence(self, iovec: Any) -> None:
        self._over.write(b"".join(iovec))

    def loseConnection(self) -> None:
        self._over.loseConnection()

    def abortConnection(self) -> None:
        self._over.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._over.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._over.unregisterProducer()

    def pauseProducing(self) -> None:
        self._wire.pauseProducing()

    def resumeProducing(self) -> None:
        self._wire.resumeProducing()

    def stopProducing(self) -> None:
        self._wire.stopProducing()

    def getHost(self) -> Any:
        return self._wire.host

    def getPeer(self) -> Any:
        return self._wire.peer_address

    def loseWriteConnection(self) -> None:
        """The simulated network knows no half-closed connection: it closes."""
        self.loseConnection()

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nothing dies unnoticed in the simulated network."""

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing is delayed in the simulated network."""


@implementer(IHandshakeListener)
class Client(TwistedProtocol):
    """A test's end of a connection: send bytes, read what came back, start TLS, go away.

    Every method lets the simulated world settle, so what the server does at once has been done when
    it returns. `closed` is why the connection ended, or None while it is open.
    """

    def __init__(self, clock: Clock) -> None:
        self.closed: BaseException | None = None
        self._clock = clock
        self._received = bytearray()
        self._name = ""

    def send(self, data: bytes) -> None:
        """Write `data` to the server."""
        self._transport.write(data)
        self._clock.settle()

    def read(self) -> bytes:
        """All that has come since the last `read`; b"" when nothing has."""
        self._clock.settle()
        data = bytes(self._received)
        self._received.clear()
        return data

    def ask(self, data: bytes) -> bytes:
        """Send `data` and read what the server says to it without the clock moving."""
        self.send(data)
        return self.read()

    def start_tls(self, authorities: bytes, name: str) -> None:
        """Handshake, believing the PEM `authorities` and expecting a certificate for `name`.

        Validity is judged by the simulated clock. A failed handshake closes the connection: see
        `closed`.
        """
        self._name = name
        self._transport.startTLS(_ClientTLS(authorities, name, self._clock.seconds()))
        self._clock.settle()

    @property
    def cipher(self) -> str | None:
        """Such as ``TLS_AES_256_GCM_SHA384``, or None in clear."""
        over = self._transport._over
        return (
            over.getHandle().get_cipher_name() if isinstance(over, TLSMemoryBIOProtocol) else None
        )

    def stop_reading(self) -> None:
        """Leave what the server sends on the wire, as a slow client does."""
        self._transport.pauseProducing()

    def go_on_reading(self) -> None:
        self._transport.resumeProducing()
        self._clock.settle()

    def close(self) -> None:
        """End the connection in good order."""
        self._transport.loseConnection()
        self._clock.settle()

    def abort(self) -> None:
        """Be gone, as a client whose cable is cut."""
        self._transport.abortConnection()
        self._clock.settle()

    @property
    def _transport(self) -> Transport:
        assert isinstance(self.transport, Transport)
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        self._received += data

    def handshakeCompleted(self) -> None:
        over = self._transport._over
        try:
            verify_hostname(over.getHandle(), self._name)
        except VerificationError:
            over.failVerification(Failure())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed = reason.value


@implementer(IOpenSSLClientConnectionCreator)
class _ClientTLS:
    def __init__(self, authorities: bytes, name: str, now: float) -> None:
        self._name = name
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self._now = datetime.fromtimestamp(now, UTC)
        self._context.set_verify(SSL.VERIFY_PEER, self._judge)
        store = self._context.get_cert_store()
        assert store is not None
        for certificate in load_pem_x509_certificates(authorities):
            store.add_cert(crypto.X509.from_cryptography(certificate))

    def _judge(
        self, connection: object, certificate: crypto.X509, error: int, depth: int, good: int
    ) -> bool:
        shown = certificate.to_cryptography()
        if not shown.not_valid_before_utc <= self._now <= shown.not_valid_after_utc:
            return False
        # OpenSSL asks the real clock, and a time given to its store does not reach a TLS handshake.
        return bool(good) or error in _DATES

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_tlsext_host_name(self._name.encode("ascii"))
        return connection


def connect(
    clock: Clock, ports: dict[int, Listener], to: int | IProtocolFactory, address: str
) -> Client:
    """Join a new `Client` at `address` to the factory on port `to`, or that `to` is."""
    if isinstance(to, int):
        if to not in ports:
            raise ConnectionRefusedError(f"nobody listens on port {to}")
        factory, port = ports[to].factory, to
    else:
        factory, port = to, 0
    here, there = _address("127.0.0.1", port), _address(address, 40000)
    protocol = factory.buildProtocol(there)
    if protocol is None:
        raise ConnectionRefusedError(f"{factory!r} wants no connection from {address}")
    client = Client(clock)
    server_end, client_end = _Wire(clock, here, there), _Wire(clock, there, here)
    server_end.peer, client_end.peer = client_end, server_end
    server_end.protocol, client_end.protocol = protocol, client
    client_end.protocol.makeConnection(Transport(client_end, is_client=True))
    server_end.protocol.makeConnection(Transport(server_end, is_client=False))
    clock.settle()
    return client


def _address(host: str, port: int) -> IPv4Address | IPv6Address:
    kind = IPv6Address if ":" in host else IPv4Address
    return kind("TCP", host, port)
