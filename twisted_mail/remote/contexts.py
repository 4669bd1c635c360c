"""The client's side of TLS: contexts that take any certificate. Who it is is judged afterwards, by `judge`.

So a handshake fails for TLS's own reasons only, and what is wrong with a certificate can be said in words.
TLS 1.2 and newer (RFC 8996), no compression, no renegotiation.
"""

from __future__ import annotations

from typing import Final

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

__all__ = ["ClientContexts"]

# Where clear text is the alternative, a weak key is better (RFC 7435 section 3): what OpenSSL's level 0 takes.
_RELAXED: Final = b"DEFAULT:!aNULL:!eNULL:@SECLEVEL=0"
_STRICT: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:DHE+AES:!aNULL"


class ClientContexts:
    """Makes the connection creators; the contexts are made when the first one is wanted."""

    def __init__(self) -> None:
        self._made: dict[bool, SSL.Context] = {}

    def creator(self, server_name: str, *, strict: bool) -> _Creator:
        """`server_name` for SNI (RFC 6066 section 3), "" for none; `strict`: only ciphers that are strong
        (keys are for `judge`)."""
        context = self._made.get(strict)
        if context is None:
            context = self._made[strict] = _context(strict)
        return _Creator(context, server_name)


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    def __init__(self, context: SSL.Context, server_name: str) -> None:
        self._context = context
        self._server_name = server_name

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if self._server_name:
            connection.set_tlsext_host_name(self._server_name.encode("ascii"))
        return connection


def _context(strict: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)  # RFC 8996
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_cipher_list(_STRICT if strict else _RELAXED)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    return context
