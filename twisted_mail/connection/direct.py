"""A socket's transport that sends at once.

A transport of Twisted's keeps what is written until the next round of the loop, where the socket says that it takes
bytes: one more event, two more `epoll_ctl`, for each reply. Nearly always the socket would have taken them at once.

`Direct` promises that

- bytes go out in order: at once when nothing waits before them, the rest by the transport as ever;
- it is a transport to who writes, a push producer included: `pauseProducing` when more than `HELD` bytes wait for the
  peer, `resumeProducing` when they are gone;
- a connection that is lost meanwhile is told by the reactor, later, as ever: `write` calls nobody but the producer;
- `close` ends it at once, in an event of its own, when there is nothing to wait for.

It uses what `FileDescriptor`, `ISystemHandle` and `IReadWriteDescriptor` say in public, and no transport but a
socket's has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection

__all__ = ["HELD", "Direct", "direct"]

HELD: Final = FileDescriptor.bufferSize
"""Bytes that may wait for the peer before the producer is paused, as in any transport."""


def direct(transport: Any) -> Any:
    """`transport`, so that it sends at once if it can."""
    # What has become TLS by `startTLS` must go through that.
    if isinstance(transport, Connection) and not transport.TLS:
        return Direct(transport)
    return transport


class Direct:
    """Stands before `transport`, which nobody else writes to or registers a producer with."""

    __slots__ = ("_held", "_open", "_paused", "_producer", "_send", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._send: Callable[[bytes], int] = transport.getHandle().send
        self._open = True
        # Bytes that the transport got, since it had none: more than wait there, and no fewer.
        self._held = 0
        self._producer: Any = None
        self._paused = False

    def write(self, data: bytes) -> None:
        transport = self._transport
        if not self._held and self._open:
            try:
                sent = self._send(data)
            except OSError:
                # It would have to wait; or it is an error, which is the same when the reactor tries.
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            transport.registerProducer(_Drained(self), False)
        self._held += len(data)
        transport.write(data)
        if self._held > HELD and self._producer is not None and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def drained(self) -> None:
        """The transport has sent all it had."""
        if self._held:
            self._held = 0
            self._transport.unregisterProducer()
            if self._paused:
                self._paused = False
                if self._producer is not None:
                    self._producer.resumeProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming, "who writes here pushes"
        self._producer = producer
        self._paused = False

    def unregisterProducer(self) -> None:
        self._producer = None

    def loseConnection(self) -> None:
        self._transport.loseConnection()

    def close(self) -> bool:
        """`loseConnection`; but when all is sent `connectionLost` has been called before this returns, True.

        Only for an event of this transport's own: the descriptor's number is free at once, for a client that the
        reactor would take for this one until the end of its round.
        """
        transport = self._transport
        if not self._open or self._held or not transport.connected:
            transport.loseConnection()
            return False
        self._open = False
        # What the reactor does a round later, after an event and an empty write.
        transport.connectionLost(connectionDone)
        return True

    def abortConnection(self) -> None:
        self._open = False
        self._transport.abortConnection()

    def pauseProducing(self) -> None:
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._transport.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()


class _Drained:
    """A pull producer: is asked for more when the transport has sent all it had, and when it is registered."""

    __slots__ = ("_direct",)

    def __init__(self, direct: Direct) -> None:
        self._direct = direct

    def resumeProducing(self) -> None:
        self._direct.drained()

    def stopProducing(self) -> None:
        """The transport is gone; the protocol hears that, too."""
