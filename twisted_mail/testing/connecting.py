"""Clients of the simulated network: what ``connectTCP`` and ``connectUNIX`` of a simulated reactor give.

A connection departs at once, arrives after the latency, and is made, or refused, after as much again. One
that meets a black hole waits until it is none any more, or its time is up.
"""

from __future__ import annotations

import errno
import os
from abc import abstractmethod
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.base import BaseConnector
from twisted.internet.error import ConnectError, DNSLookupError, getConnectError
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure

from .cable import Cable
from .network import Listener, Process, address_of, normal
from .wire import Wire

__all__ = ["TcpConnector", "UnixConnector"]


class _Attempt:
    """What a connector calls its transport until there is one."""

    def __init__(self, connector: _Connector, process: Process) -> None:
        self._connector = connector
        self._process = process
        self._network = process.machine.network
        self._cable: Cable | None = None
        self._over = False
        self._network.callLater(0, self._depart)

    def failIfNotConnected(self, error: BaseException) -> None:
        """Give up, unless it is connected."""
        if self._over:
            return
        self._over = True
        if self._cable is not None and not self._cable.ends:
            self._cable.forget()
        if self._process.alive:
            self._connector.connectionFailed(Failure(error))

    def _depart(self) -> None:
        if self._over or not self._process.alive:
            return
        try:
            self._cable = self._connector.lay()
        except (ConnectError, DNSLookupError) as error:
            self.failIfNotConnected(error)
        else:
            self._cable.tell(self._arrive, self._cable)

    def _arrive(self, cable: Cable) -> None:
        if self._over or not self._process.alive:
            cable.forget()
            return
        try:
            listener = self._connector.find()
        except ConnectError as error:
            cable.tell(self.failIfNotConnected, error)
            return
        server, client = self._connector.wires(cable, listener)
        cable.tell(self._made, client)  # before the server says a word
        if listener is None:
            server.start(Protocol())
        else:
            listener.accept(server)

    def _made(self, wire: Wire) -> None:
        if self._over or not self._process.alive:
            wire.kill()
        elif wire.lost:
            self.failIfNotConnected(_error(errno.ECONNRESET))
        else:
            self._over = True
            self._connector.made(wire)


class _Connector(BaseConnector):
    """Joins Twisted's connector, with its states and its timeout, to the simulated network."""

    def __init__(
        self, reactor: Any, process: Process, factory: ClientFactory[Any], timeout: float
    ) -> None:
        super().__init__(factory, timeout, reactor)
        self.process = process
        self.network = process.machine.network

    def _makeTransport(self) -> Any:
        return _Attempt(self, self.process)

    def made(self, wire: Wire) -> None:
        """The connection is there."""
        wire.on_lost = self.connectionLost
        connected: Any = wire.transport
        self.transport = connected
        wire.start(self.buildProtocol(wire.peer_address))

    @abstractmethod
    def lay(self) -> Cable:
        """The cable to where it goes. Raises ConnectError and DNSLookupError when there is no way."""

    @abstractmethod
    def find(self) -> Listener | None:
        """Who listens there, None for one who is mute. Raises ConnectError."""

    @abstractmethod
    def wires(self, cable: Cable, listener: Listener | None) -> tuple[Wire, Wire]:
        """The two ends of `cable`, the server's first."""


class TcpConnector(_Connector):
    """To a port of an IP address, or of ``localhost``: other names are not resolved here but by endpoints."""

    def __init__(
        self,
        reactor: Any,
        process: Process,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float,
        source: str | None,
    ) -> None:
        super().__init__(reactor, process, factory, timeout)
        self._name, self._port, self._wanted = host, port, source
        self._target = self._source = ""

    def lay(self) -> Cable:
        try:
            self._target = normal("127.0.0.1" if self._name == "localhost" else self._name)
        except ValueError:
            raise DNSLookupError(f"no address literal: {self._name}") from None
        self._source = self.network.source(self.process, self._target, self._wanted)
        return self.network.cable(self._source, self._target)

    def find(self) -> Listener | None:
        host = self.network.host(self._target)
        if host.mute:
            return None
        machine = self.network.find(self.process.machine, self._target)
        listener = None if machine is None else machine.listener(self._target, self._port)
        if listener is None or host.refuses:
            raise _error(errno.ECONNREFUSED)
        return listener

    def wires(self, cable: Cable, listener: Listener | None) -> tuple[Wire, Wire]:
        target = address_of(self._target, self._port)
        source = address_of(self._source, self.network.source_port())
        peer = source if listener is None else listener.peer(source)
        there = {} if listener is None else listener.process.wires
        return (
            Wire(cable, target, peer, there, is_client=False),
            Wire(cable, source, target, self.process.wires, is_client=True),
        )

    def getDestination(self) -> IPv4Address | IPv6Address:
        return address_of(self._name, self._port)


class UnixConnector(_Connector):
    """To a UNIX socket of the same machine."""

    def __init__(
        self,
        reactor: Any,
        process: Process,
        path: str,
        factory: ClientFactory[Any],
        timeout: float,
    ) -> None:
        super().__init__(reactor, process, factory, timeout)
        self._path = path

    def lay(self) -> Cable:
        return self.network.cable()

    def find(self) -> Listener:
        listener = self.process.machine.ports.get(("", self._path))
        if listener is None:
            raise _error(errno.ENOENT)
        return listener

    def wires(self, cable: Cable, listener: Listener | None) -> tuple[Wire, Wire]:
        assert listener is not None
        there, here = UNIXAddress(self._path), UNIXAddress(None)
        return (
            Wire(cable, there, here, listener.process.wires, is_client=False),
            Wire(cable, here, there, self.process.wires, is_client=True),
        )

    def getDestination(self) -> UNIXAddress:
        return UNIXAddress(self._path)


def _error(number: int) -> ConnectError:
    error: ConnectError = getConnectError((number, os.strerror(number)))
    return error
