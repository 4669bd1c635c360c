"""A report about TLS handed in over HTTPS (RFC 8460 section 5.4): POST, once, to whom the domain's record names.

The server's certificate has to be believed, though the RFC would let it pass: who cannot have one is told by mail.
Port 443 only, no redirects, of the answer the status alone counts: nobody's record makes us talk to what is around us.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, TimeoutError, succeed

from ..address import normalize_domain
from ..queue.interfaces import DestinationError
from .mx import addresses_of
from .sts_fetch import HttpsFetch, in_words, too_late
from .words import told

__all__ = ["HttpsPost"]

_SECONDS = 60.0


class HttpsPost(HttpsFetch):
    """Give it a URI and the compressed report. Who is believed: as for policies."""

    async def post(self, uri: str, content: bytes) -> None:
        """Raises OSError when it is not taken; the text is for people."""
        host, path = _parts(uri, self._settings.sts_port)
        try:
            found = await addresses_of(
                self._resolver, host, self._settings, loopback=self._settings.loopback
            )
        except DestinationError as error:
            raise OSError(error.text) from None
        posting = Deferred.fromCoroutine(self._post(host, path, found.addresses[0], content))
        posting.addTimeout(_SECONDS, self._world.reactor, onTimeoutCancel=too_late)
        try:
            status = await posting
        except TimeoutError:
            raise OSError(f"{host} did not answer within {_SECONDS:.0f} seconds") from None
        except Exception as error:
            raise OSError(f"{host}: {told(in_words(error))}") from None
        # RFC 8460 section 5.4: 200 or 201
        if not 200 <= status < 300:
            raise OSError(f"{host} answers with status {status}")

    async def _post(self, host: str, path: str, address: str, content: bytes) -> int:
        from twisted.web.client import Agent
        from twisted.web.http_headers import Headers

        port = self._settings.sts_port
        where = host if port == 443 else f"{host}:{port}"
        agent = Agent.usingEndpointFactory(self._world.reactor, self._endpoints(address))
        response: Any = await agent.request(
            b"POST",
            f"https://{where}{path}".encode("ascii"),
            Headers({"Content-Type": ["application/tlsrpt+gzip"]}),
            _producer(content),
        )
        self._drop(response)
        return int(response.code)


def _producer(content: bytes) -> Any:
    """What is written at once: reports are small."""
    from twisted.web.iweb import IBodyProducer
    from zope.interface import implementer

    @implementer(IBodyProducer)
    class Producer:
        length = len(content)

        def startProducing(self, consumer: Any) -> Deferred[None]:
            consumer.write(content)
            return succeed(None)

        def stopProducing(self) -> None:
            """It is over already."""

        pauseProducing = resumeProducing = stopProducing

    return Producer()


def _parts(uri: str, port: int) -> tuple[str, str]:
    """Host and path with query. Raises OSError."""
    try:
        parts = urlsplit(uri)
        host = normalize_domain(parts.hostname or "")
        if parts.scheme.lower() != "https" or parts.port not in (None, 443, port) or host[0] == "[":
            raise ValueError
    except ValueError:
        raise OSError(f"{told(uri)} is no place for reports") from None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return host, path
