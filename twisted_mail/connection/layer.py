"""TLS between a transport and a `Wire`: OpenSSL, with buffers in memory.

Twisted has such a layer for any protocol. This one is for a wire, which writes a whole turn's answers at once, writes
nothing during a handshake, and looks after its producer itself; so it needs no timer a write, and costs a fraction of
that. It promises that

- what one read from the network brought is handed over at once, however many records it came in;
- what is written while that is worked at goes out together: the tickets of a handshake with the first answer, the last
  answer with the goodbye; but no more than `GATHER` octets wait for that;
- a peer cannot have much done by records that say nothing (key updates, tickets): more than `BARREN` octets of them are
  a failure, before the next `FEED` octets are looked at;
- nothing is sent after our goodbye, whatever the peer asks of the layer below;
- a failure is told to the peer by an alert, and to the owner by `tls_failed`, once; nothing is received after it.

Renegotiation, versions, certificates and what is asked of the peer are the business of who makes the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from OpenSSL import SSL
from twisted.python.failure import Failure

__all__ = ["BARREN", "FEED", "GATHER", "Layer", "Make", "Owner", "for_client", "for_server"]

GATHER: Final = 16 * 1024
"""Octets that wait for the end of a `receive`, at most."""
FEED: Final = 32 * 1024
"""Octets that OpenSSL gets at once. It goes through them without a word: key updates alone take it 20 ms."""
BARREN: Final = 24 * 1024
"""Octets that may come without saying anything: the most of a record that is not whole yet, and some more."""
_WORTH: Final = 32
"""Octets of records that one octet of data makes up for: as many as a record of one octet has."""
_RECORD: Final = 16 * 1024  # RFC 8446 section 5.1
_PIECE: Final = 64 * 1024

Make = Callable[["Layer"], SSL.Connection]
"""Makes the connection of a layer, its side known."""


class Owner(Protocol):
    """Who uses a `Layer`."""

    def encrypted(self, data: bytes) -> object:
        """To be sent to the peer."""

    def shaken(self) -> object:
        """The handshake is done: `write` may be called."""

    def decrypted(self, data: bytes) -> object:
        """From the peer."""

    def tls_ended(self) -> object:
        """Both sides have said goodbye, and ours is on its way: the transport may be closed."""

    def tls_failed(self, error: BaseException) -> object:
        """It cannot go on; the alert is on its way."""


def for_server(creator: Any) -> Make:
    """With the connections of an IOpenSSLServerConnectionCreator."""

    def make(layer: Layer) -> SSL.Connection:
        connection: SSL.Connection = creator.serverConnectionForTLS(layer)
        connection.set_accept_state()
        return connection

    return make


def for_client(creator: Any) -> Make:
    """With the connections of an IOpenSSLClientConnectionCreator."""

    def make(layer: Layer) -> SSL.Connection:
        connection: SSL.Connection = creator.clientConnectionForTLS(layer)
        connection.set_connect_state()
        return connection

    return make


class _NoFactory:
    """Where Twisted's own creators look for protocols to be offered by ALPN."""

    wrappedFactory = None


class Layer:
    """One connection's TLS. Raises what `make` raises. `connection` is OpenSSL's, None in the end."""

    factory = _NoFactory

    __slots__ = (
        "_barren",
        "_closed",
        "_gathered",
        "_owner",
        "_refused",
        "_shaken",
        "connection",
        "error",
        "over",
    )

    def __init__(self, owner: Owner, make: Make) -> None:
        self.error: BaseException | None = None
        """Why it failed."""
        self.over = False
        """Nothing is received any more: the peer has said goodbye, or something failed."""
        self._owner = owner
        self._shaken = False
        self._closed = False
        # Octets that came since there was data.
        self._barren = 0
        # Octets written since `receive` began; below 0 outside of it.
        self._gathered = -1
        self._refused: BaseException | None = None
        self.connection: Any = make(self)

    def start(self) -> None:
        """For a client, who speaks first."""
        self._shake()

    def receive(self, data: bytes) -> None:
        """Take what the network has brought, at least one octet."""
        if self.over:
            return
        silent = self._closed
        self._gathered = 0
        blocks: list[bytes] = []
        if len(data) <= FEED:
            ended = self._feed(data, blocks)
        else:
            ended, view = None, memoryview(data)
            for at in range(0, len(view), FEED):
                if ended is None and not self.over:
                    ended = self._feed(view[at : at + FEED], blocks)
        if blocks:
            self._owner.decrypted(blocks[0] if len(blocks) == 1 else b"".join(blocks))
        if ended is not None and not self.over:
            self._end(ended)
        self._gathered = -1
        if self.connection is not None:
            self._flush(silent)

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        if self.over or self._closed:
            return
        send, left = self.connection.send, memoryview(data)
        try:
            while left:
                # one record a call, or all
                left = left[send(left) :]
        except SSL.Error as error:
            self._fail(error)
            return
        if self._gathered >= 0:
            self._gathered += len(data)
            if self._gathered <= GATHER:
                return
            self._gathered = 0
        self._flush()

    def close(self) -> bool:
        """Say goodbye; nothing is written after it. False when there is nobody yet to say it to."""
        if not self._shaken:
            return False
        if not self._closed:
            self._goodbye()
            self._flush()
        return True

    def lost(self) -> None:
        """The transport is gone."""
        self.over = True
        self.connection = None  # no cycle is left for the collector

    def failVerification(self, reason: Failure) -> None:
        """What Twisted's own creators call when they do not like the peer's certificate."""
        self._refused = reason.value

    def _shake(self) -> bool:
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            self._flush()
            return False
        except SSL.Error as error:
            self._fail(self._refused or error)
            return False
        if self._refused is not None:
            self._fail(self._refused)
            return False
        self._shaken = True
        self._owner.shaken()
        return True

    def _feed(self, data: bytes | memoryview, blocks: list[bytes]) -> SSL.Error | None:
        """Add what `data` says to `blocks`; the error or goodbye that ends it."""
        connection = self.connection
        connection.bio_write(data)
        barren = self._barren + len(data)
        if not self._shaken:
            if not self._shake():
                return None
            barren = 0
        recv = connection.recv
        try:
            while True:
                block = recv(_RECORD)
                barren -= _WORTH * len(block)
                blocks.append(block)
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            # Its traceback knows the frames, and they know it: OpenSSL's memory would wait for the collector.
            return error.with_traceback(None)
        self._barren = barren if barren > 0 else 0
        return None if barren <= BARREN else SSL.Error([("", "", "too many records say nothing")])

    def _end(self, why: SSL.Error) -> None:
        if not isinstance(why, SSL.ZeroReturnError):
            self._fail(why)
            return
        self.over = True
        if not self._closed:
            self._goodbye()
            self._flush()
        self._owner.tls_ended()

    def _goodbye(self) -> None:
        self._closed = True
        try:
            self.connection.shutdown()
        except SSL.Error:
            pass  # what it had to say is in the buffer, or nothing is

    def _fail(self, error: BaseException) -> None:
        self.error, self.over = error.with_traceback(None), True
        self._flush(self._closed)  # the alert
        self._owner.tls_failed(error)

    def _flush(self, silent: bool = False) -> None:
        """Send what is to be sent; `silent`: throw it away."""
        try:
            while True:
                data = self.connection.bio_read(_PIECE)
                if not silent:
                    self._owner.encrypted(data)
                if len(data) < _PIECE:
                    return
        except SSL.WantReadError:
            return
