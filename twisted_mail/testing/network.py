"""A network inside one process: listeners, and connections between two protocols.

What one end writes reaches the other on the next turn of the simulated clock, in order, in blocks
of at most 64 KiB. The ends behave as TCP does where a server can tell: a reader that pauses makes
the writer's buffer fill, a full buffer pauses the writer's producer, `loseConnection` sends what
was written first, and `startTLS` speaks real TLS. There is no latency and no loss, and a writer
that ignores `pauseProducing` is not stopped.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IPushProducer,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Clock", "Listener", "Transport", "address_of", "join"]

_BLOCK = 1 << 16  # bytes: how much a turn delivers, and what a full buffer is


class Clock(Protocol):
    """What the network needs of a simulated reactor."""

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
        return address_of(self._interface or "0.0.0.0", self._number)


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

    @property
    def tls(self) -> Any:
        """The TLSMemoryBIOProtocol that is in use; None in clear."""
        return None if self._over is self._wire else self._over

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


def join(clock: Clock, server: Any, client: Any, host: Any, peer: Any) -> None:
    """Connect two protocols: `server` at the address `host`, `client` at `peer`."""
    server_end, client_end = _Wire(clock, host, peer), _Wire(clock, peer, host)
    server_end.peer, client_end.peer = client_end, server_end
    server_end.protocol, client_end.protocol = server, client
    client.makeConnection(Transport(client_end, is_client=True))
    server.makeConnection(Transport(server_end, is_client=False))


def address_of(host: str, port: int) -> IPv4Address | IPv6Address:
    """What transports call the TCP port `port` of the IP address `host`."""
    kind = IPv6Address if ":" in host else IPv4Address
    return kind("TCP", host, port)
