"""A test's own end of a simulated connection, with which it plays the client by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from typing import Protocol as Typed

from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from service_identity.pyopenssl import verify_hostname
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocolFactory,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from .network import Listener, Process, address_of
from .wire import Transport, Wire

__all__ = ["Client", "connect"]

_DATES = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


class SettlingClock(Typed):
    """What a client needs of a simulated reactor."""

    def seconds(self) -> float: ...
    def settle(self) -> None: ...


@implementer(IHandshakeListener)
class Client(Protocol):
    """A test's end of a connection: send bytes, read what came back, start TLS, go away.

    Every method lets the simulated world settle, so what the server does at once has been done when
    it returns. `closed` is why the connection ended, or None while it is open.
    """

    def __init__(self, clock: SettlingClock) -> None:
        self.closed: BaseException | None = None
        self._clock = clock
        self._received = bytearray()
        self._name = ""

    def send(self, data: bytes) -> None:
        """Write `data` to the server."""
        self._transport.write(data)
        self._clock.settle()

    def write(self, data: bytes) -> None:
        """The same, and nothing happens yet."""
        self._transport.write(data)

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
        tls = self._transport.tls
        try:
            verify_hostname(tls.getHandle(), self._name)
        except VerificationError:
            tls.failVerification(Failure())

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
    clock: SettlingClock, process: Process, to: int | IProtocolFactory, address: str
) -> Client:
    """A new `Client` at `address`, joined at once to who listens on port `to` of the machine, or to a factory."""
    network = process.machine.network
    client_name = address_of(address, network.source_port())
    listener: Listener | None = None
    factory: Any = to
    here, peer, ends = address_of("127.0.0.1", 0), client_name, process.wires
    if isinstance(to, int):
        listener = process.machine.by_port().get(to)
        if listener is None:
            raise ConnectionRefusedError(f"nobody listens on port {to}")
        factory, ends = listener.factory, listener.process.wires
        here, peer = address_of(listener.reached(address), to), listener.peer(client_name)
    waits = listener is not None and not listener.accepts
    protocol = None if waits else factory.buildProtocol(peer)
    if protocol is None and not waits:
        raise ConnectionRefusedError(f"{factory!r} wants no connection from {address}")
    cable = network.cable(address, here.host)
    server = Wire(cable, here, peer, ends, is_client=False)
    wire = Wire(cable, client_name, here, {}, is_client=True)
    client = Client(clock)
    wire.start(client)
    if listener is not None and waits:
        listener.accept(server)
    else:
        server.start(protocol)
    clock.settle()
    return client
