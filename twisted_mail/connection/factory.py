"""What listens: makes a `Connection` of each client let in, and ends them when the server stops.

A protocol's own factory says how an engine and a session are made: `smtp.protocol`,
`pop3.protocol`.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger

from ..world import World
from .deadlines import Bounds
from .interfaces import Engine, Session
from .layer import for_server
from .limits import ConnectionLimits
from .pokes import Pokes
from .protocol import Connection

__all__ = ["MailFactory"]


REFUSED_SECONDS: Final = 1.0


class MailFactory(ServerFactory[Any]):
    """The base of the protocols' factories.

    `name` is what logs call the protocol; `tls` provides IOpenSSLServerConnectionCreator, or is
    None where there is no TLS; `implicit_tls`: it starts with the first byte (RFC 8314 section 3).
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        world: World,
        name: str,
        *,
        bounds: Bounds,
        limits: ConnectionLimits,
        tls: Any,
        implicit_tls: bool,
    ) -> None:
        if implicit_tls and tls is None:
            raise ValueError(f"{name}: TLS from the first byte needs a certificate")
        self.name = name
        self.connections: set[Connection] = set()
        self._world = world
        self._bounds = bounds
        self._limits = limits
        self._pokes = Pokes(world.reactor)
        self._tls = None if tls is None else for_server(tls)
        self._implicit_tls = implicit_tls
        self._draining = False
        self._drained: list[Deferred[None]] = []
        self._refused = 0
        self._refused_at = -REFUSED_SECONDS
        self._counters = world.counters
        self._counters.serve(self)

    def make(self, ip: str, connection: str) -> tuple[Engine, Session]:
        """The two inner rooms of a new connection from `ip`, which the log calls `connection`."""
        raise NotImplementedError

    too_many: bytes
    """What a client over the limits is told."""

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        ip = _ip(addr)
        if self._draining or not self._limits.take(ip):
            self._note_refused(ip)
            # Words under TLS would cost a handshake, which is what the limit is to save.
            return _Refusal(b"" if self._implicit_tls else self.too_many)
        identifier = _identifier(self._world.entropy(5))
        try:
            engine, session = self.make(ip, identifier)
        except BaseException:
            self._limits.give_back(ip)
            raise
        connection = Connection(
            engine,
            session,
            self._world.reactor,
            id=identifier,
            protocol=self.name,
            client=ip,
            bounds=self._bounds,
            tls=self._tls,
            implicit_tls=self._implicit_tls,
            pokes=self._pokes,
            turns=self._world.turns,
            gone=self._gone,
            proved=self._limits.remove_stranger,
        )
        self.connections.add(connection)
        if connection.is_stranger:
            self._limits.add_stranger(connection)
        self._counters.accepted += 1
        return connection

    def drain(self) -> Deferred[None]:
        """Let nobody in, end idle sessions now and the others after the message they are in.

        Fires when all are gone. The caller bounds the wait, and then calls `abort_all`.
        """
        self._draining = True
        for connection in tuple(self.connections):
            connection.drain()
        if not self.connections:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._drained.append(done)
        return done

    def abort_all(self) -> None:
        """Cut every connection; nobody is told why."""
        for connection in tuple(self.connections):
            connection.abort("server stops")

    def _note_refused(self, ip: str) -> None:
        """In the log once a second: who comes a thousand times is not to fill it."""
        self._refused += 1
        now = self._world.reactor.seconds()
        if abs(now - self._refused_at) >= REFUSED_SECONDS:
            self._log.info(
                "refused: too many connections ({count} since the last line)",
                protocol=self.name,
                client=ip,
                count=self._refused,
            )
            self._refused, self._refused_at = 0, now

    def _gone(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._limits.remove_stranger(connection)
        self._limits.give_back(connection.client)
        self._counters.bytes_in += connection.bytes_read
        self._counters.bytes_out += connection.bytes_written
        if not self.connections:
            drained, self._drained = self._drained, []
            for done in drained:
                done.callback(None)


def _identifier(octets: bytes) -> str:
    """Five octets as eight letters and digits: RFC 4648 section 6, in lower case."""
    number = int.from_bytes(octets, "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in (30, 20, 10, 0)])


_WITH_HOST: Final = (IPv4Address, IPv6Address)
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = [one + two for one in _BASE32 for two in _BASE32]


def _ip(address: IAddress | None) -> str:
    """The client's IP address as text; "" when it has none, as on a UNIX socket."""
    if not isinstance(address, _WITH_HOST):
        return ""
    # RFC 4291 section 2.5.5.2: what an IPv4 client looks like on a socket for both
    mapped = address.host.removeprefix("::ffff:")
    return mapped if "." in mapped else address.host


class _Refusal(Protocol):
    """Says why, if anything, and closes."""

    def __init__(self, words: bytes) -> None:
        self._words = words

    def connectionMade(self) -> None:
        assert self.transport is not None
        if self._words:
            self.transport.write(self._words)
        self.transport.loseConnection()
