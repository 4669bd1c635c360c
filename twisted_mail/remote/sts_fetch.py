"""Fetching a policy of MTA-STS: HTTPS to ``mta-sts.<domain>`` with a certificate that is believed.

RFC 8461 section 3.3: no redirects, status 200, text/plain; 64 KiB and a minute are enough, and what is around them is
bounded, too: header fields, interim answers, chunk extensions. Names are looked up with our own resolver. twisted.web
is imported when the first policy is fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from ..dns.interfaces import Resolver
from ..queue.interfaces import DestinationError
from ..world import World
from .mta_sts import MAX_BYTES, FetchError
from .mx import addresses_of
from .settings import DeliverySettings
from .words import told

__all__ = ["HttpsFetch", "in_words", "too_late"]

_SECONDS = 30.0  # for one address; RFC 8461 section 3.3: "within one minute"
_MAX_ADDRESSES = 2
_MAX_ANSWER = MAX_BYTES + 16_384  # with all that HTTP puts around it, however often


class HttpsFetch:
    """Gets policies, as `mta_sts.Fetch`. Who is believed: `settings.ca_file`, or the system's."""

    def __init__(self, world: World, resolver: Resolver, settings: DeliverySettings) -> None:
        self._world = world
        self._resolver = resolver
        self._settings = settings
        self._trust: Any = None

    async def __call__(self, domain: str) -> str:
        """The text of the policy. Raises FetchError."""
        host = f"mta-sts.{domain}"
        try:
            found = await addresses_of(
                self._resolver, host, self._settings, loopback=self._settings.loopback
            )
        except DestinationError as error:
            raise FetchError(error.text) from None
        last: Exception | None = None
        for address in found.addresses[:_MAX_ADDRESSES]:
            getting = Deferred.fromCoroutine(self._get(host, address))
            getting.addTimeout(_SECONDS, self._world.reactor, onTimeoutCancel=too_late)
            try:
                return await getting
            except FetchError:
                raise
            except TimeoutError:
                last = FetchError(f"{host} did not answer within {_SECONDS:.0f} seconds")
            except Exception as error:
                last = FetchError(f"{host}: {told(in_words(error))}")
        assert last is not None
        raise last

    async def _get(self, host: str, address: str) -> str:
        from twisted.web.client import Agent

        port = self._settings.sts_port
        agent = Agent.usingEndpointFactory(self._world.reactor, self._endpoints(address))
        where = host if port == 443 else f"{host}:{port}"
        response = await agent.request(
            b"GET", f"https://{where}/.well-known/mta-sts.txt".encode("ascii")
        )
        body = _Body()
        response.deliverBody(body)
        if response.code != 200:
            body.drop()
            raise FetchError(f"{host} answers with status {response.code}")
        kinds = response.headers.getRawHeaders("content-type", [""])
        if kinds[0].partition(";")[0].strip().lower() != "text/plain":
            body.drop()
            raise FetchError(f"{host} has no text/plain", invalid=True)
        try:
            return (await body.whole).decode("utf-8")
        except UnicodeDecodeError:
            raise FetchError("the policy is not UTF-8", invalid=True) from None

    @staticmethod
    def _drop(response: Any) -> None:
        """Its body is wanted by nobody."""
        body = _Body()
        response.deliverBody(body)
        body.drop()

    def _endpoints(self, address: str) -> Any:
        from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
        from twisted.internet.interfaces import IStreamClientEndpoint
        from twisted.internet.ssl import optionsForClientTLS
        from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
        from twisted.protocols.tls import TLSMemoryBIOFactory
        from twisted.web.iweb import IAgentEndpointFactory
        from zope.interface import implementer

        reactor, trust = self._world.reactor, self._trusted()
        kind: Any = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint

        # twisted.web keeps every header field, and reads every "100 Continue", of an answer.
        class Bounded(ProtocolWrapper):
            seen = 0

            def dataReceived(self, data: bytes) -> None:
                self.seen += len(data)
                if self.seen <= _MAX_ANSWER:
                    super().dataReceived(data)  # type: ignore[no-untyped-call]
                else:
                    self.transport.abortConnection()  # type: ignore[union-attr]

        # endpoints.wrapClientTLS would write by the clock of the global reactor
        @implementer(IStreamClientEndpoint)
        class Endpoint:
            def __init__(self, uri: Any) -> None:
                self._below = kind(reactor, address, uri.port, timeout=_SECONDS)
                self._tls = optionsForClientTLS(uri.host.decode("ascii"), trustRoot=trust)

            def connect(self, factory: Any) -> Any:
                bounded = WrappingFactory(factory)
                bounded.noisy = False
                bounded.protocol = Bounded
                over = TLSMemoryBIOFactory(self._tls, True, bounded, clock=reactor)
                return self._below.connect(over).addCallback(
                    lambda made: made.wrappedProtocol.wrappedProtocol
                )

        @implementer(IAgentEndpointFactory)
        class Endpoints:
            def endpointForURI(self, uri: Any) -> Any:
                return Endpoint(uri)

        return Endpoints()

    def _trusted(self) -> Any:
        if self._trust is None:
            from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates

            path = self._settings.ca_file
            if path is None:
                self._trust = platformTrust()
            else:
                self._trust = trustRootFromCertificates(
                    [Certificate.loadPEM(one) for one in _pem_blocks(path)]
                )
        return self._trust


def _pem_blocks(path: Path) -> list[bytes]:
    end = b"-----END CERTIFICATE-----"
    return [part + end + b"\n" for part in path.read_bytes().split(end) if b"BEGIN" in part]


def too_late(_: object, seconds: float) -> Failure:
    """For `Deferred.addTimeout`."""
    # Whatever the request made of being cancelled.
    return Failure(TimeoutError(f"no answer within {seconds:.0f} seconds"))


def in_words(error: Exception) -> str:
    """What twisted.web wraps: the first reason that says something."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return in_words(reasons[0].value)
    return str(error) or type(error).__name__


class _Body(Protocol):
    """Collects at most MAX_BYTES. Cancelled, or too much: the connection is closed."""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: self._abort())
        self._blocks: list[bytes] = []
        self._size = 0

    def drop(self) -> None:
        """Wanted by nobody."""
        self.whole.addErrback(lambda _: None)
        if not self.whole.called:
            self.whole.cancel()

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MAX_BYTES:
            self._blocks.append(data)
        elif not self.whole.called:
            self.whole.errback(FetchError("the policy is over 64 KiB", invalid=True))
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        # Without a length, the end of the connection is the end of the body: PotentialDataLoss.
        from twisted.web.client import ResponseDone
        from twisted.web.http import PotentialDataLoss

        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._blocks))
        else:
            self.whole.errback(FetchError(f"the connection broke ({reason.getErrorMessage()})"))

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            abort = getattr(transport, "abortConnection", transport.loseConnection)
            abort()
