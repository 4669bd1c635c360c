"""A connection between two protocols of one process, as TCP carries it.

What one end writes reaches the other on the next turn of the simulated clock, or when the `Cable`
between them lets it, in order, in blocks of at most 64 KiB. The ends behave as TCP does where a server
can tell: a reader that pauses makes the writer's buffer fill, a full buffer pauses the writer's
producer, `loseConnection` sends what was written first, and `startTLS` speaks real TLS. A writer that
ignores `pauseProducing` is not stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer, ITCPTransport, ITLSTransport
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as Nobody
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from .cable import Cable

__all__ = ["Transport", "Wire"]

_BLOCK = 1 << 16  # bytes: how much a turn delivers, and what a full buffer is
_TICKS = 10  # a slow line delivers this many blocks a second


class Wire:
    """One end of a connection, in clear. `protocol` gets what the other end, `peer`, sends.

    A cable has two, made one after the other. While `protocol` is None, nobody has accepted the connection.
    `on_lost` is called after the protocol's connectionLost. `ends` has it while it is open.
    """

    peer: Wire

    def __init__(
        self,
        cable: Cable,
        host: Any,
        peer_address: Any,
        ends: dict[Wire, None],
        *,
        is_client: bool,
    ) -> None:
        self.protocol: Any = None
        self.transport = Transport(self, is_client=is_client)
        self.host = host
        self.peer_address = peer_address
        self.clock = cable.clock
        self.on_lost: Callable[[Failure], object] | None = None
        self.lost = False
        self._cable = cable
        self._ends = ends
        self._out = bytearray()
        self._marks: deque[list[float]] = deque()  # when bytes of `_out` have arrived, and how many
        self._portion = _BLOCK
        self._closed_at = 0.0
        self._scheduled = False
        self._reading = False  # until it is accepted
        self._closing = False
        self._hung_up = False
        self._producer: Any = None
        self._streaming = True
        self._producer_paused = False
        ends[self] = None
        cable.ends.append(self)
        if len(cable.ends) == 2:
            self.peer, self.peer.peer = cable.ends[0], self

    def start(self, protocol: Any) -> None:
        """Make the connection known to `protocol`; None: who built it wants no connection, so it ends."""
        self.protocol = Nobody() if protocol is None else protocol
        self.resumeProducing()
        self.protocol.makeConnection(self.transport)
        if protocol is None:
            self.loseConnection()

    # What the writing side calls

    def write(self, data: bytes) -> None:
        if self.lost or not data or (self._closing and self._producer is None):
            return
        self._out += data
        due = self.clock.seconds() + self._cable.latency
        if self._marks and self._marks[-1][0] >= due:
            self._marks[-1][1] += len(data)
        else:
            self._marks.append([due, len(data)])
        self.schedule()
        if len(self._out) >= _BLOCK and self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            if self._streaming:
                self._producer.pauseProducing()

    def loseConnection(self) -> None:
        if not self._closing:
            self._closing = True
            self._closed_at = self.clock.seconds()
        self.schedule()

    def abortConnection(self) -> None:
        if not self.lost:
            self._end()
            self.clock.callLater(0, self._tell_lost, ConnectionAborted())
            self._cable.tell(self.peer.hang_up, ConnectionLost())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self.lost:
            producer.stopProducing()
            return
        self._producer, self._streaming, self._producer_paused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        self.schedule()

    # What the reading side calls

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        self._reading = True
        self.peer.schedule()
        if self._hung_up:
            self.clock.callLater(0, self.hang_up, ConnectionDone())

    def stopProducing(self) -> None:
        self.loseConnection()

    # The wire itself

    def hang_up(self, reason: Exception) -> None:
        """The other end is gone. A reader that pauses learns it when it reads again."""
        if self.lost:
            return
        if not self._reading and not isinstance(reason, ConnectionLost):
            self._hung_up = True
            return
        self._end()
        self._tell_lost(reason)

    @property
    def disconnecting(self) -> bool:
        """The end has been asked for (ITCPTransport does not have it, line receivers look at it)."""
        return self._closing and not self.lost

    def kill(self) -> None:
        """The process at this end is dead: what it has written is sent, and then the connection ends."""
        self.protocol, self._producer, self.on_lost = Nobody(), None, None
        self._reading = True
        self.loseConnection()
        self.peer.schedule()

    def getHost(self) -> Any:
        return self.host

    def getPeer(self) -> Any:
        return self.peer_address

    def schedule(self) -> None:
        """Look soon whether there is something to do."""
        if self._scheduled or self.lost:
            return
        self._scheduled = True
        wait = 0.0
        if self._marks:
            wait = max(0.0, self._marks[0][0] - self.clock.seconds())
            speed = self._cable.speed
            self._portion = _BLOCK
            if speed is not None:
                self._portion = max(1, min(_BLOCK, len(self._out), int(speed / _TICKS)))
                wait += self._portion / speed
        self.clock.callLater(wait, self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self.lost:
            return
        if self._out:
            if self.peer._reading and not self._cable.dark:
                self._deliver()
        elif self._producer is not None:
            if self._producer_paused or not self._streaming:
                self._producer_paused = False
                self._producer.resumeProducing()
        elif self._closing:
            self._end()
            self._tell_lost(ConnectionDone())
            self._cable.tell(self.peer.hang_up, ConnectionDone(), since=self._closed_at)

    def _deliver(self) -> None:
        now, size = self.clock.seconds(), 0
        while self._marks and size < self._portion and self._marks[0][0] <= now:
            taken = min(int(self._marks[0][1]), self._portion - size)
            size += taken
            self._marks[0][1] -= taken
            if not self._marks[0][1]:
                self._marks.popleft()
        granted = self._cable.grant(size)
        block = bytes(self._out[:granted])
        del self._out[:size]
        if block and not self.peer.lost:
            self.peer.protocol.dataReceived(block)
        if self._cable.spent:
            self._cable.cut()
        self.schedule()

    def _end(self) -> None:
        self.lost = True
        self._out.clear()
        self._marks.clear()
        self._ends.pop(self, None)
        if self.peer.lost:
            self._cable.forget()

    def _tell_lost(self, reason: Exception) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        failure = Failure(reason)
        if self.protocol is not None:
            self.protocol.connectionLost(failure)
        if self.on_lost is not None:
            self.on_lost(failure)


@implementer(ITCPTransport, ITLSTransport, IPushProducer)
class Transport:
    """What a protocol sees of its end: the wire, and TLS over it once started."""

    def __init__(self, wire: Wire, *, is_client: bool) -> None:
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

    @property
    def disconnecting(self) -> bool:
        """`loseConnection` was called, and what was written is being sent."""
        return bool(self._over.disconnecting)

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
        """Who is silent for long is found by timers only."""

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Small blocks are never held back in the simulated network."""
