"""The sockets of a server: opened early, while it may use low ports; answered when there is somebody to answer.

Until `Listeners.open` gives the factories, clients that come wait in the kernel's queue. That queue is long (`BACKLOG`)
unless the endpoint says otherwise.

A socket may be answered by other processes, too (`Listeners.sockets`): each takes over a copy of its descriptor with
`Listeners.adopt`.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol, IProtocolFactory
from twisted.internet.protocol import ServerFactory
from twisted.python.failure import Failure

from .connection.proxied import HAProxyFactory

__all__ = ["BACKLOG", "ListenError", "Listeners", "Socket"]

BACKLOG: Final = 1024
"""Connections that wait to be accepted. The system may have a lower bound (net.core.somaxconn)."""
_WITH_BACKLOG: Final = re.compile(r"(?:haproxy:)?(?:tcp6?|unix):(?!.*(?<!\\):backlog=)")
UNSENT: Final = 128 * 1024
"""Bytes that a socket takes beyond those on their way to the peer, which are as many as a fast line wants."""
_WRAPPER: Final = "haproxy:"


class ListenError(Exception):
    """A socket cannot be had; the text names the listener, its endpoint and the reason."""


class Socket(NamedTuple):
    """A socket that listens: the listener's name, its endpoint as configured, what `socket` calls its family."""

    name: str
    endpoint: str
    family: int
    descriptor: int


class _Door(ServerFactory[Any]):
    """What a port knows of a factory that comes later."""

    noisy = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.inner: IProtocolFactory | None = None

    def logPrefix(self) -> str:
        return self.name

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        # A port that could not be made to wait, as an endpoint of somebody's plugin may be: closed at once.
        # (The interface says that there is an address; TLS layers and tests have none.)
        return None if self.inner is None else self.inner.buildProtocol(cast(IAddress, addr))


@dataclass(slots=True)
class _Listener:
    door: _Door
    port: IListeningPort
    endpoint: str


class Listeners:
    """All sockets of one server."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._open: list[_Listener] = []

    @property
    def addresses(self) -> list[tuple[str, str]]:
        """Name and address of each, such as ``("smtp", "127.0.0.1:2525")``."""
        return [(one.door.name, _address(one.port.getHost())) for one in self._open]

    def bind(self, name: str, endpoint: str) -> None:
        """Listen, without answering yet. Raises ListenError; what was opened before stays open."""
        door = _Door(name)
        found: list[IListeningPort | Failure] = []
        try:
            served = with_backlog(endpoint).removeprefix(_WRAPPER)
            factory = self._served_by(door, endpoint)
            serverFromString(self._reactor, served).listen(factory).addBoth(found.append)
        except Exception as error:  # parsers are plugins and raise what they like
            raise ListenError(f"{name}: cannot listen on {endpoint}: {error}") from error
        if not found:
            raise ListenError(f"{name}: cannot listen on {endpoint}: it does not open at once")
        port = found[0]
        if isinstance(port, Failure):
            raise ListenError(f"{name}: cannot listen on {endpoint}: {_reason(port.value)}")
        _ask(port, "stopReading")
        _hold_back(port)
        self._open.append(_Listener(door, port, endpoint))

    def adopt(self, one: Socket, take: Callable[[Socket, IProtocolFactory], Any]) -> None:
        """Listen on a socket that another process has opened, without answering yet. `take` makes the port."""
        door = _Door(one.name)
        port = take(one, self._served_by(door, one.endpoint))
        _ask(port, "stopReading")
        self._open.append(_Listener(door, port, one.endpoint))

    def _served_by(self, door: _Door, endpoint: str) -> IProtocolFactory:
        """What the socket itself has: the only kind of endpoint that is ours to put something between is a proxy's."""
        return HAProxyFactory(door, self._reactor) if endpoint.startswith(_WRAPPER) else door

    def sockets(self, names: Collection[str]) -> list[Socket]:
        """What is open of these names, for other processes. Raises ListenError for a port that is no socket."""
        found = []
        for one in self._open:
            if one.door.name not in names:
                continue
            own = getattr(one.port, "socket", None)
            # What an endpoint puts between (TLS, say) would not be there where the bare socket is taken over.
            factory = getattr(one.port, "factory", None)
            if one.endpoint.startswith(_WRAPPER):
                factory = getattr(factory, "inner", None)
            if own is None or factory is not one.door:
                raise ListenError(
                    f"{one.door.name}: {one.endpoint} cannot be shared with workers: set workers = 0"
                )
            # shutdown(2) is for all who have a copy: their accept(2) would fail before they hear of the end.
            cast(Any, one.port)._shouldShutdown = False
            found.append(Socket(one.door.name, one.endpoint, int(own.family), own.fileno()))
        return found

    def open(self, factories: Mapping[str, IProtocolFactory]) -> None:
        """Answer from now on, each socket with the factory of its name; one without stays as it is."""
        for one in self._open:
            factory = factories.get(one.door.name)
            if factory is not None:
                one.door.inner = factory
                _ask(one.port, "startReading")

    def hold(self) -> None:
        """Have clients that come wait again, until the next `open`."""
        for one in self._open:
            if one.door.inner is not None:
                one.door.inner = None
                _ask(one.port, "stopReading")

    async def close(self) -> None:
        """Listen no more; connections stay. Returns when the sockets are gone."""
        ports, self._open = [one.port for one in self._open], []
        closing = [maybeDeferred(port.stopListening) for port in ports]
        await DeferredList(closing, consumeErrors=True)


def with_backlog(endpoint: str) -> str:
    """`endpoint` with a queue of `BACKLOG` when it says none."""
    return f"{endpoint}:backlog={BACKLOG}" if _WITH_BACKLOG.match(endpoint) else endpoint


def _ask(port: Any, name: str) -> None:
    """Stop or start a port's reading, if it is of a kind that can: IListeningPort does not say."""
    method = getattr(port, name, None)
    if method is not None:
        method()


def _hold_back(port: Any) -> None:
    """Who asks for much and reads nothing: what waits for him is in our hands, not megabytes of it in the kernel's. The
    sockets of his connections have it of this one."""
    own = getattr(port, "socket", None)
    if isinstance(own, socket.socket) and own.family in (socket.AF_INET, socket.AF_INET6):
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)


def _reason(error: BaseException | None) -> str:
    if isinstance(error, CannotListenError):
        cause = error.socketError
        return getattr(cause, "strerror", None) or str(cause)
    return str(error)


def _address(address: Any) -> str:
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    name = getattr(address, "name", None)
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name or address)
