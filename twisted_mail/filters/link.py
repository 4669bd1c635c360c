"""A connection to a filter: opened, written and read by a coroutine, with a time limit on every wait.

At most some `_AHEAD` bytes are kept unread. While the filter does not read, `write` makes the writer wait. `LinkError`
is all that goes wrong; its text is fit for a log. Who is cancelled in a wait leaves the connection as it is: close it
then.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from .places import check_place

__all__ = ["Link", "LinkError", "Where", "in_time"]

_AHEAD = 256 * 1024


class LinkError(Exception):
    """The filter could not be reached, was too slow, or is gone."""


class Where:
    """Where a filter listens: a Twisted client endpoint, ``tcp:host:port`` or ``unix:/path``.

    ValueError for any other. (TLS would need the global reactor; a filter that is far away has a tunnel.)
    """

    def __init__(self, reactor: Any, endpoint: str) -> None:
        self.text = check_place(endpoint)
        from twisted.internet.endpoints import clientFromString

        self._reactor = reactor
        self._endpoint: Any = clientFromString(reactor, endpoint)

    async def open(self, until: float) -> Link:
        """A connection, made before the time `until`. Raises LinkError."""
        factory = Factory.forProtocol(lambda: Link(self._reactor))
        factory.noisy = False
        try:
            link: Link = await in_time(self._reactor, self._endpoint.connect(factory), until)
        except LinkError:
            raise LinkError(f"no connection to {self.text} in time") from None
        except (CancelledError, ConnectingCancelledError):
            raise CancelledError from None
        except Exception as error:
            raise LinkError(f"no connection to {self.text}: {_told(error)}") from None
        return link


async def in_time(reactor: Any, deferred: Deferred[Any], until: float) -> Any:
    """What `deferred` gives. It is cancelled at the time `until`: LinkError."""
    if not deferred.called:
        late = Failure(LinkError("it took too long"))
        left = max(0.0, until - reactor.seconds())
        deferred.addTimeout(left, reactor, onTimeoutCancel=lambda _result, _seconds: late)
    return await deferred


@implementer(IPushProducer)
class Link(Protocol):
    """One connection."""

    def __init__(self, reactor: Any) -> None:
        self.lost = False
        """The other end is gone, or `close` was called."""
        self._reactor = reactor
        self._broken = False
        self._unread = bytearray()
        self._paused_reading = False
        self._full = False
        self._waiter: Deferred[None] | None = None

    # For the coroutine

    @property
    def unread(self) -> bool:
        """Whether something has come that was not read yet."""
        return bool(self._unread)

    async def write(self, data: bytes, until: float) -> None:
        """Write, and wait while the filter does not read. Raises LinkError, not when it is gone but has said something.

        A filter may answer and hang up before it has heard everything: its answer is what counts.
        """
        if not self.lost:
            assert self.transport is not None
            self.transport.write(data)
        while self._full and not self.lost:
            await self._wait(until)
        if self.lost and not self._unread:
            raise LinkError("the connection broke")

    async def read(self, until: float) -> bytes:
        """What has come since the last time, at least one byte. Raises LinkError, also at the end."""
        data = await self.read_or_end(until)
        if not data:
            raise LinkError("it closed the connection")
        return data

    async def read_or_end(self, until: float) -> bytes:
        """What has come since the last time; b"" at the end. Raises LinkError when nothing comes in time."""
        while not self._unread and not self.lost:
            await self._wait(until)
        if not self._unread and self._broken:
            raise LinkError("the connection broke")
        return self.take()

    def take(self) -> bytes:
        """What has come since the last time, perhaps nothing."""
        data = bytes(self._unread)
        self._unread.clear()
        if self._paused_reading and not self.lost:
            self._paused_reading = False
            assert self.transport is not None
            self.transport.resumeProducing()  # type: ignore[attr-defined]
        return data

    def close(self, goodbye: bytes = b"") -> None:
        """Write `goodbye`, and close."""
        if self.lost:
            return
        transport: Any = self.transport
        if goodbye and not self._full:
            transport.unregisterProducer()
            transport.write(goodbye)
            transport.loseConnection()
        else:
            transport.abortConnection()
        self.lost = True
        self._go_on()

    async def _wait(self, until: float) -> None:
        waiter: Deferred[None] = Deferred()
        self._waiter = waiter
        try:
            await in_time(self._reactor, waiter, until)
        except LinkError:
            raise LinkError("no answer in time" if not self._full else "it does not read") from None
        finally:
            self._waiter = None

    def _go_on(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.callback(None)

    # For Twisted

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) > _AHEAD and not self._paused_reading:
            self._paused_reading = True
            assert self.transport is not None
            self.transport.pauseProducing()  # type: ignore[attr-defined]
        self._go_on()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        self._broken = not reason.check(ConnectionDone)
        self._go_on()

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False
        self._go_on()

    def stopProducing(self) -> None:
        self._full = False


def _told(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, ConnectError) and isinstance(error.osError, int):
        # Twisted's text says it twice.
        return os.strerror(error.osError)
    return str(error).replace("\n", " ")[:200].removesuffix(".") or type(error).__name__
