"""Clients behind a proxy that says who they are: the PROXY protocol, versions 1 and 2
(https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt).

`read_header` is the grammar. `HAProxyFactory` waits for a connection's header and builds the protocol only then, for
the address that is in it: limits, penalties and checks are of the client, as without a proxy. (Twisted's own wrapper
builds it before, for the proxy's.) It promises that

- a header is there in `HEADER_SECONDS`, in any number of pieces, and has `MAX_HEADER` octets at most; who sends none,
  or no whole one, is cut off without a word (section 2: a receiver must not guess);
- at most `MAX_WAITING` are waited for: one more, and the oldest goes.

Whoever can connect is believed, so nobody but the proxy should be able to.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Any, Final, NamedTuple, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["HEADER_SECONDS", "MAX_HEADER", "MAX_WAITING", "HAProxyFactory", "Header", "read_header"]

HEADER_SECONDS: Final = 5.0
"""Section 2: it comes in the first packet, so three seconds let one be sent again."""
MAX_HEADER: Final = 2048
"""Section 2.2 asks for 216 octets of addresses; certificates' names and the like come on top."""
MAX_WAITING: Final = 128
"""Each has a descriptor that `limits.connections` does not count yet."""
_MAX_V1: Final = 107
"""Section 2.1, with CR LF."""
_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V1: Final = b"PROXY "
_ADDRESSES: Final = {0x11: 4, 0x21: 16}


class Header(NamedTuple):
    """How many octets it has, and the client; None when that is the proxy itself (a look whether the server is up)."""

    size: int
    client: tuple[str, int] | None


def read_header(data: bytes) -> Header | None:
    """The header that `data` begins with; None when more is needed. Raises ValueError: it is none."""
    if data[:12] == _V2[: len(data)]:
        return _read_binary(data)
    if data[:6] == _V1[: len(data)]:
        line, end, _ = data[:_MAX_V1].partition(b"\r\n")
        if not end:
            if len(data) >= _MAX_V1:
                raise ValueError("a PROXY line without an end")
            return None
        return Header(len(line) + 2, _read_line(line))
    raise ValueError("no PROXY header")


def _read_line(line: bytes) -> tuple[str, int] | None:
    # Section 2.1
    words = line.decode("ascii").split(" ")
    if words[1] == "UNKNOWN":
        return None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ValueError("a PROXY line of another form")
    source = ipaddress.ip_address(words[2].partition("%")[0])
    if source.version != int(words[1][3]) or not words[4].isdigit() or int(words[4]) > 65535:
        raise ValueError("a PROXY line of another form")
    return _text(source), int(words[4])


def _read_binary(data: bytes) -> Header | None:
    # Section 2.2
    if len(data) < 16:
        return None
    command, family, length = struct.unpack("!BBH", data[12:16])
    size = 16 + length
    if command not in (0x20, 0x21) or size > MAX_HEADER:
        raise ValueError("a PROXY header of another version, or too long")
    if len(data) < size:
        return None
    octets = _ADDRESSES.get(family)
    if command == 0x20 or octets is None:  # LOCAL; a UNIX socket, or unspecified
        return Header(size, None)
    if length < 2 * octets + 4:
        raise ValueError("a PROXY header without its addresses")
    source = ipaddress.ip_address(data[16 : 16 + octets])
    (port,) = struct.unpack_from("!H", data, 16 + 2 * octets)
    return Header(size, (_text(source), port))


def _text(source: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    # RFC 4291 section 2.5.5.2: one client, one name
    mapped = source.ipv4_mapped if isinstance(source, ipaddress.IPv6Address) else None
    return str(mapped or source)


class HAProxyFactory(ServerFactory[Any]):
    """Stands before `inner`, whose protocols are built when it is known for whom."""

    noisy = False

    def __init__(self, inner: IProtocolFactory, clock: Any) -> None:
        self.inner = inner
        self.clock = clock
        # In the order in which they came.
        self.waiting: dict[_Proxied, None] = {}

    def logPrefix(self) -> str:
        """What the port calls itself in the log."""
        return f"{cast(Any, self.inner).logPrefix()} (PROXY)"

    def buildProtocol(self, addr: IAddress | None) -> IProtocol:
        if len(self.waiting) >= MAX_WAITING:
            next(iter(self.waiting)).cut("too many are waited for")
        return _Proxied(self, addr)

    def stopFactory(self) -> None:
        """The port is closed: nobody is waited for."""
        for one in tuple(self.waiting):
            one.cut("server stops")


@implementer(IHalfCloseableProtocol)
class _Proxied(Protocol):
    """One connection: its header, then all else is the inner protocol's."""

    _log = Logger()

    def __init__(self, factory: HAProxyFactory, proxy: IAddress | None) -> None:
        self._of = factory
        self._proxy = proxy
        self._data = b""
        self._inner: Any = None
        self._late: Any = None

    def connectionMade(self) -> None:
        self._of.waiting[self] = None
        self._late = self._of.clock.callLater(HEADER_SECONDS, self.cut, "no header in time")

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self not in self._of.waiting:
            return  # cut off
        self._data += data
        try:
            header = read_header(self._data)
        except ValueError:
            self.cut("no PROXY header")
            return
        if header is None:
            return
        data, self._data = self._data[header.size :], b""
        self._settle()
        address = self._proxy if header.client is None else _address(*header.client)
        self._inner = self._of.inner.buildProtocol(cast(IAddress, address))
        if self._inner is None:
            cast(Any, self.transport).abortConnection()
            return
        self._inner.makeConnection(self.transport)
        if data:
            self._inner.dataReceived(data)

    def readConnectionLost(self) -> None:
        """The client sends no more."""
        if IHalfCloseableProtocol.providedBy(self._inner):
            self._inner.readConnectionLost()
        else:
            assert self.transport is not None
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """We send no more."""
        if IHalfCloseableProtocol.providedBy(self._inner):
            self._inner.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._settle()
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.connectionLost(reason)

    def cut(self, why: str) -> None:
        """End it: there is no client."""
        self._settle()
        self._data = b""
        self._log.info(
            "proxy cut off: {reason}", client=getattr(self._proxy, "host", ""), reason=why
        )
        cast(Any, self.transport).abortConnection()

    def _settle(self) -> None:
        """It is not waited for any more."""
        self._of.waiting.pop(self, None)
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()


def _address(host: str, port: int) -> IAddress:
    kind: Any = IPv6Address if ":" in host else IPv4Address
    return cast(IAddress, kind("TCP", host, port))
