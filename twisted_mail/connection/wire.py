"""One accepted connection as its driver wants it: bytes, TLS, back-pressure, and an end that comes.

`Wire` is the Twisted `Protocol`. It promises that

- what is written goes out in order, and `blocked` tells when the peer does not read: what waits for it then is at most
  64 KiB more than the last write, over TLS, where more than one may be gathered, 80 KiB;
- TLS is a layer between the transport and this protocol, the same for implicit TLS and STARTTLS,
  over any transport (a transport that is TLS already is left as it is);
- after `close` or `abort` nothing is received any more, and `lost` follows within `LINGER` seconds; in an event of this
  connection's own `close` calls it before it returns when the peer has been sent everything.

It knows nothing of engines, sessions and timeouts: that is `connection.protocol`.
"""

from __future__ import annotations

import enum
from typing import Any

from OpenSSL.SSL import Error as TlsError
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Server
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from .alarm import Alarm
from .direct import Direct, direct
from .layer import Layer, Make
from .tls import release_buffers

__all__ = ["LINGER", "WIDE", "Phase", "Wire"]

LINGER = 10.0
"""Seconds a peer has to take the last words, and over TLS to say goodbye, before it is cut off."""


WIDE = 256 * 1024
"""Bytes that are read at once from who sends much."""
_FULL = FileDescriptor.bufferSize


class Phase(enum.Enum):
    """The life of a connection, in this order; only STARTTLS goes back, from OPEN to HANDSHAKE."""

    NEW = "new"
    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSING = "closing"
    LOST = "lost"


@implementer(IPushProducer, IHandshakeListener, IHalfCloseableProtocol)
class Wire(Protocol):
    """The base of a driver, which fills in `opened`, `received`, `ended`, `writable`, `rang`, `lost`.

    `tls` makes the connections of its TLS, None where there is none; `implicit_tls` puts one on at once.
    """

    # With a dictionary of so many names the interpreter finds each of them the slow way.
    __slots__ = (
        "_implicit_tls",
        "_layer",
        "_own",
        "_producing",
        "_reading",
        "_tls",
        "_transport",
        "_wide",
        "alarm",
        "at_end",
        "blocked",
        "bytes_written",
        "phase",
        "reason",
        "tls_description",
    )

    _log = Logger()

    def __init__(self, reactor: Any, tls: Make | None, implicit_tls: bool) -> None:
        self.phase = Phase.NEW
        self.blocked = False
        """The peer does not read: nothing more should be written before `writable`."""
        self.at_end = False
        """The peer has said that it sends no more."""
        self.bytes_written = 0
        self.tls_description: str | None = None
        """Such as ``TLSv1.3 TLS_AES_256_GCM_SHA384``, or None in clear."""
        self.reason = ""
        """Why this side ended the connection, for the log."""
        self.alarm = Alarm(reactor, self._alarm_rang, self.quiet)
        self._tls = tls
        self._implicit_tls = implicit_tls
        self._layer: Layer | None = None
        self._transport: Any = None
        self._reading = True
        self._wide = False
        self._producing = False
        # In an event of this very connection. What another one's closes is left to the reactor: in the same round it
        # may know of something that has happened to this descriptor, and by then tell it to a new client's.
        self._own = False

    # What a driver fills in

    def opened(self) -> None:
        """Bytes can be exchanged: at the start, and again after each TLS handshake."""
        raise NotImplementedError

    def received(self, data: bytes) -> None:
        """Bytes from the peer, in clear."""
        raise NotImplementedError

    def ended(self) -> None:
        """The peer sends no more, but may still read: a script in a pipe, say. In clear only."""
        raise NotImplementedError

    def writable(self) -> None:
        """No longer `blocked`."""
        raise NotImplementedError

    def rang(self) -> None:
        """The driver's `alarm` rang (not called while closing)."""
        raise NotImplementedError

    def lost(self) -> None:
        """It is over. Called once."""
        raise NotImplementedError

    def quiet(self) -> None:
        """Nothing has been done for some seconds: keep no more than an idle connection needs."""
        if self._layer is not None and self.phase is Phase.OPEN:
            release_buffers(self._layer.connection)

    # What a driver calls

    def write(self, data: bytes) -> None:
        """Send `data`. May make the wire `blocked` before it returns."""
        self.bytes_written += len(data)
        if self._layer is None:
            self._transport.write(data)
        else:
            self._layer.write(data)

    def read(self, wanted: bool) -> None:
        """Whether more is welcome from the peer. What has been decrypted already still comes."""
        if wanted is not self._reading and not self.at_end:
            self._reading = wanted
            if wanted:
                self._transport.resumeProducing()
            else:
                self._transport.pauseProducing()

    @property
    def can_start_tls(self) -> bool:
        """Whether `start_tls` may be called."""
        return self._tls is not None and self.tls_description is None

    def start_tls(self) -> None:
        """What is received from now on is TLS; what was written goes in clear. `opened` follows."""
        assert self._tls is not None and self._layer is None
        self.phase = Phase.HANDSHAKE
        self._produce(False)
        try:
            self._layer = Layer(self, self._tls)
        except Exception:
            # The certificates cannot be used: the operator must know, the peer only sees the end.
            self._log.failure("cannot start TLS")
            self.abort("cannot start TLS")
        else:
            self.read(True)

    def close(self, reason: str) -> None:
        """End the connection when the peer has taken what was written; cut it when it does not."""
        if self.phase in (Phase.CLOSING, Phase.LOST):
            return
        self.phase = Phase.CLOSING
        self.reason = reason
        self.read(True)  # over TLS the peer's close_notify must be seen
        # A transport does not close while it has a producer.
        self._produce(False)
        if self._layer is not None:
            if not self._layer.close():
                self._transport.abortConnection()
        elif self._transport_closes():
            return
        self.alarm.set(LINGER)

    def abort(self, reason: str) -> None:
        """Cut the connection; what has not been sent is dropped."""
        if self.phase is not Phase.LOST:
            self.phase = Phase.CLOSING
            self.reason = self.reason or reason
            self._transport.abortConnection()

    # What Twisted calls

    def connectionMade(self) -> None:
        self._transport = direct(self.transport)
        # Asked by its class, which is what it mostly is: asking for an interface costs as much as a reply.
        if type(self.transport) is Server or ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self.phase = Phase.HANDSHAKE
        if isinstance(self._transport, TLSMemoryBIOProtocol):
            return  # somebody else's layer: handshakeCompleted follows
        if self._implicit_tls:
            self.start_tls()
        else:
            self._open()

    def dataReceived(self, data: bytes) -> None:
        if len(data) >= _FULL or self._wide:
            self._widen(len(data) >= _FULL // 4)
        self._own = True
        if self._layer is not None:
            self._layer.receive(data)
        elif self.phase is Phase.OPEN:
            self.received(data)
        self._own = False

    def readConnectionLost(self) -> None:
        self.at_end = True
        self._own = True
        if self.phase is Phase.OPEN and self._layer is None:
            self.ended()
        elif self.phase is not Phase.CLOSING:
            # TLS cannot be closed by halves, and its layer is not asked to say goodbye to nobody.
            self.reason = _words(ConnectionDone(), self.phase)
            self._close_transport()
        elif self._layer is not None:
            # Many clients answer our goodbye with the end of the connection, not with theirs.
            self._close_transport()
        self._own = False

    def writeConnectionLost(self) -> None:
        """Never asked for."""

    def handshakeCompleted(self) -> None:
        """Of somebody else's layer."""
        self._secured(self._transport.getHandle())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        layer = self._layer
        if layer is not None:
            if layer.error is not None:
                reason = Failure(layer.error)
            elif not layer.over and isinstance(reason.value, ConnectionDone):
                # RFC 8446 section 6.1: without a goodbye something may be missing
                reason = Failure(ConnectionLost())
            layer.lost()
        self.finished(reason)

    def finished(self, reason: Failure) -> None:
        """The transport, or the TLS layer on it, is gone."""
        if not self.reason:
            self.reason = _words(reason.value, self.phase)
        self.phase = Phase.LOST
        self.alarm.end()
        self._layer = None
        self.lost()

    # What the TLS layer calls

    def encrypted(self, data: bytes) -> None:
        self._transport.write(data)

    def shaken(self) -> None:
        assert self._layer is not None
        self._secured(self._layer.connection)

    def decrypted(self, data: bytes) -> None:
        if self.phase is Phase.OPEN:
            self.received(data)

    def tls_ended(self) -> None:
        self._close_transport()

    def tls_failed(self, error: BaseException) -> None:
        self.reason = self.reason or _words(error, self.phase)
        # Perhaps while something is written, so `lost` comes later.
        self._own = False
        self._close_transport()

    def _close_transport(self) -> None:
        """When what waits there is sent; nothing more can be said."""
        waits = self.phase is Phase.CLOSING
        self.phase = Phase.CLOSING
        self._produce(False)
        if not self._transport_closes() and not waits:
            self.alarm.set(LINGER)

    def _transport_closes(self) -> bool:
        """When what waits there is sent. True: that was now, and `lost` has been called."""
        if self._own and isinstance(self._transport, Direct):
            return self._transport.close()
        self._transport.loseConnection()
        return False

    def pauseProducing(self) -> None:
        self.blocked = True

    def resumeProducing(self) -> None:
        if self.blocked:
            self.blocked = False
            if self.phase is Phase.OPEN:
                self.writable()

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` says so next."""

    def _widen(self, wide: bool) -> None:
        """Read more at once while much comes: four times as much in one turn."""
        if wide is not self._wide and isinstance(self.transport, FileDescriptor):
            self._wide = wide
            self.transport.bufferSize = WIDE if wide else _FULL

    def _secured(self, connection: Any) -> None:
        if self.phase is Phase.HANDSHAKE:
            version, cipher = connection.get_protocol_version_name(), connection.get_cipher_name()
            self.tls_description = f"{version} {cipher}"
            self._open()

    def _open(self) -> None:
        self.phase = Phase.OPEN
        self._produce(True)
        self.opened()

    def _produce(self, on: bool) -> None:
        """Be told, or not, that the peer does not read. During a handshake nothing is written, and
        a layer that fails could not close a transport that has a producer."""
        if on is not self._producing:
            self._producing = on
            self.blocked = False
            if on:
                self._transport.registerProducer(self, True)
            else:
                self._transport.unregisterProducer()

    def _alarm_rang(self) -> None:
        if self.phase is Phase.CLOSING:
            self.abort(self.reason)
        else:
            self.rang()


def _words(error: BaseException | None, phase: Phase) -> str:
    """Why a connection ended that this side did not end."""
    if isinstance(error, TlsError):
        # OpenSSL's queue of (library, function, reason), or nothing at all
        queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
        what = "TLS handshake failed" if phase is Phase.HANDSHAKE else "TLS failed"
        # What it was; behind that stands where OpenSSL noticed.
        return f"{what}: {queue[0][2]}" if queue else what
    if phase is Phase.HANDSHAKE:
        return "lost during the TLS handshake"
    if isinstance(error, ConnectionDone):
        return "closed by the client"
    if isinstance(error, ConnectionAborted | ConnectionLost):
        return "connection lost"
    return type(error).__name__
