"""HTTP/1.1 by twisted.web, as little of it as there can be: GET and HEAD of `pages`, one request a connection.

It promises bounds: a request is 8 KiB and 50 header fields at most, has no body, and is there in 10 seconds, also when
an octet comes now and then; so many connections in all, and from one network. It says nothing of what it is, and keeps
no log of what is asked for.

Importing it costs what twisted.web costs: only for sites that have a web port.
"""

from __future__ import annotations

from typing import Any, Final, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web import http

from ..connection.limits import ConnectionLimits
from ..world import World
from .pages import Page, Pages

__all__ = ["WebFactory"]

CONNECTIONS: Final = 100
CONNECTIONS_PER_NETWORK: Final = 20
REQUEST_SECONDS: Final = 10.0
_MAX_LINE: Final = 2048
_MAX_HEADER: Final = 8192
_MAX_FIELDS: Final = 50


class WebFactory(ServerFactory[Any]):
    """Web connections, with TLS from the first octet when there is `tls`. It ends as the mail factories do."""

    noisy = False
    _log = Logger()

    def __init__(self, world: World, name: str, pages: Pages, *, tls: Any = None) -> None:
        self.name = name
        self.pages = pages
        self.now = world.now
        self._reactor = world.reactor
        self._limits = ConnectionLimits(CONNECTIONS, CONNECTIONS_PER_NETWORK)
        self._open: set[_Channel] = set()
        self._drained: list[Deferred[None]] = []
        self._draining = False
        self._tls = (
            None if tls is None else TLSMemoryBIOFactory(tls, False, _Inner(self), world.reactor)
        )

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        ip = getattr(addr, "host", "").removeprefix("::ffff:")
        if self._draining or not self._limits.take(ip):
            return None
        if self._tls is None:
            return self.make(ip)
        return self._tls.buildProtocol(cast(IAddress, addr))

    def make(self, ip: str) -> _Channel:
        """The connection of a client that was let in."""
        channel = _Channel(self, ip, self._reactor)
        self._open.add(channel)
        return channel

    def gone(self, channel: _Channel) -> None:
        """Called by each connection once."""
        self._open.discard(channel)
        self._limits.give_back(channel.ip)
        if not self._open:
            drained, self._drained = self._drained, []
            for done in drained:
                done.callback(None)

    def drain(self) -> Deferred[None]:
        """Let nobody in, and cut who has not asked yet. Fires when all are gone, in `REQUEST_SECONDS` at most."""
        self._draining = True
        for channel in tuple(self._open):
            if not channel.answered:
                channel.cut()
        if not self._open:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._drained.append(done)
        return done

    def abort_all(self) -> None:
        """Cut every connection."""
        for channel in tuple(self._open):
            channel.cut()


class _Inner(ServerFactory[Any]):
    """What TLS wraps."""

    noisy = False

    def __init__(self, outer: WebFactory) -> None:
        self._outer = outer

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        return cast(IProtocol, self._outer.make(getattr(addr, "host", "").removeprefix("::ffff:")))


class _Request(http.Request):  # whose methods have no annotations
    """One question; what a client sends as a body ends it."""

    channel: Any

    def gotLength(self, length: int | None) -> None:
        # RFC 9110 section 9.3.1: GET has no use for a body. Nothing of it is kept, so nothing is made for it.
        super().gotLength(0)  # type: ignore[no-untyped-call]

    def handleContentChunk(self, data: bytes) -> None:
        self.channel.cut()

    def process(self) -> None:
        if self.method not in (b"GET", b"HEAD"):
            self._answer(Page(405, b"text/plain; charset=utf-8", b"GET or HEAD\n"))
            return
        host = (self.getHeader(b"host") or b"").decode("ascii", "replace")
        self._answer(self.channel.owner.pages.find(host, self.path))

    def _answer(self, page: Page) -> None:
        answer: Any = self
        self.channel.answered = True
        answer.setResponseCode(page.status)
        answer.setHeader(b"Date", http.datetimeToString(self.channel.owner.now()))
        answer.setHeader(b"Content-Type", page.kind)
        answer.setHeader(b"Content-Length", b"%d" % len(page.body))
        answer.setHeader(b"Connection", b"close")
        answer.setHeader(b"X-Content-Type-Options", b"nosniff")
        if page.status == 405:
            answer.setHeader(b"Allow", b"GET, HEAD")
        # Its header alone for HEAD.
        answer.write(page.body)
        answer.finish()


class _Channel(http.HTTPChannel):
    """One connection."""

    MAX_LENGTH = _MAX_LINE
    totalHeadersSize = _MAX_HEADER
    maxHeaders = _MAX_FIELDS
    requestFactory = _Request
    # The one timer below bounds it all.
    timeOut = None

    def __init__(self, owner: WebFactory, ip: str, reactor: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.owner = owner
        self.ip = ip
        self.answered = False
        self._reactor = reactor
        self._timer: Any = None

    def connectionMade(self) -> None:
        self._timer = self._reactor.callLater(REQUEST_SECONDS, self.cut)
        super().connectionMade()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._timer.active():
            self._timer.cancel()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.owner.gone(self)

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        return False  # one request a connection: nobody who comes here has more

    def cut(self) -> None:
        """End it without a word."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()
