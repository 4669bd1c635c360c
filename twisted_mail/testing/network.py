"""A network inside one process: machines with addresses, ports on them, and what can go wrong in between.

An address belongs to one machine. Loopback addresses are every machine's own, unless one was made with such
an address. As on Linux, a port that is open on ``""`` or ``0.0.0.0`` takes what comes to any IPv4 address of
its machine, one on ``::`` what comes to any address (IPv4 peers are then called ``::ffff:192.0.2.1``), and
two cannot share a port unless both name their address. Who connects to an address that nobody has, or to a
port that nobody listens on, is refused.

`Network.host` has the faults of an address, to be switched at any time. Nothing happens by chance: a test
that wants chance takes it from a seed of its own.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Iterator
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError, ConnectBindError, getConnectError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from zope.interface import implementer

from .cable import Cable
from .clock import SimulatedClock
from .wire import Wire

__all__ = ["Host", "Listener", "Machine", "Network", "Process", "address_of", "normal"]

_ANY_IPV4, _ANY_IPV6 = "0.0.0.0", "::"
_FREE_PORTS = range(49152, 65536)
_SOURCE_PORTS = range(40000, 49152)
_HOME = ("192.0.2.1", "2001:db8::1")


class Host:
    """The faults of one address, as others see it. They count for connections that are open, too, but `cut_after`."""

    def __init__(self) -> None:
        self.cables: dict[Cable, None] = {}
        self._reset()

    def _reset(self) -> None:
        self.latency = 0.0
        """Seconds that everything takes to or from here, one way."""
        self.bytes_per_second: float | None = None
        """How slow its line is, each way; None: everything goes at once."""
        self.refuses = False
        """Connections are refused, whoever listens."""
        self.mute = False
        """New connections are accepted, on every port, and then nothing is said and all is swallowed."""
        self.cut_after: int | None = None
        """A connection made from now on is lost after so many bytes, both ways counted together."""
        self._silent = False

    @property
    def silent(self) -> bool:
        """A black hole: nothing comes in or goes out, and nobody is told. What was sent arrives when it is over."""
        return self._silent

    @silent.setter
    def silent(self, silent: bool) -> None:
        self._silent = silent
        if not silent:
            for cable in list(self.cables):
                cable.light()

    def cut(self) -> None:
        """Every connection that is open to or from here is lost, at both ends."""
        for cable in list(self.cables):
            cable.cut()

    def heal(self) -> None:
        """All is well again."""
        self.silent = False
        self._reset()


class Process:
    """Who listens and connects on a machine, and ends all at once when it is killed."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.alive = True
        self.listeners: list[Listener] = []
        self.wires: dict[Wire, None] = {}

    def kill(self) -> None:
        """Nothing of it runs any more; the machine closes its ports and connections."""
        self.alive = False
        for listener in list(self.listeners):
            listener.vanish()
        for wire in list(self.wires):
            wire.kill()


class Machine:
    """Some addresses and the ports on them. `ports` is keyed by (address, port), or by ("", path) for UNIX sockets."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.addresses: list[str] = []
        self.ports: dict[tuple[str, int | str], Listener] = {}

    def has(self, address: str) -> bool:
        """Whether `address` is one of its own."""
        return address in self.addresses or _is_loopback(address)

    def source(self, target: str) -> str | None:
        """Its address that connections to `target` come from, None when there is no way."""
        kind = ":" in target
        if _is_loopback(target) and not any(map(_is_loopback, self.addresses)):
            return "::1" if kind else "127.0.0.1"
        return next((own for own in self.addresses if (":" in own) == kind), None)

    def listener(self, address: str, port: int) -> Listener | None:
        """Who gets a connection to `address` and `port`."""
        anywhere = (_ANY_IPV6,) if ":" in address else (_ANY_IPV4, _ANY_IPV6)
        for place in (address, *anywhere):
            if (found := self.ports.get((place, port))) is not None:
                return found
        return None

    def by_port(self) -> dict[int, Listener]:
        """Who listens on each TCP port; where several do on different addresses, one of them."""
        return {port: one for (_, port), one in self.ports.items() if isinstance(port, int)}


class Network:
    """All machines. `home`, where a test is, has 192.0.2.1, 2001:db8::1, and every free address that it listens on."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._kernel = _Kernel()
        self._hosts: dict[str, Host] = {}
        self._owners: dict[str, Machine] = {}
        self._sources = self._count_sources()
        self.home = Machine(self)
        for address in _HOME:
            self._give_home(address)

    def seconds(self) -> float:
        return self._clock.seconds()

    def callLater(self, delay: float, callable: Any, *args: Any) -> Any:
        """What the network itself does later: it outlives every process."""
        return self._clock.call_later(self._kernel, delay, callable, args)

    def host(self, address: str) -> Host:
        """The faults of `address`, which nobody need have."""
        return self._hosts.setdefault(normal(address), Host())

    def machine(self, *addresses: str) -> Machine:
        """The machine that has `addresses`, made when the first is nobody's. ValueError when another has one."""
        names = [normal(address) for address in addresses]
        machine = self._owners.get(names[0]) or Machine(self)
        for name in names:
            if self._owners.setdefault(name, machine) is not machine:
                raise ValueError(f"another machine has {name} already")
            if name not in machine.addresses:
                machine.addresses.append(name)
        return machine

    def listen(
        self, process: Process, port: int, factory: IProtocolFactory, interface: str
    ) -> Listener:
        """Raises CannotListenError when the port is taken, or the address another machine's."""
        machine, place = process.machine, normal(interface or _ANY_IPV4)
        if place not in (_ANY_IPV4, _ANY_IPV6) and not machine.has(place):
            if machine is not self.home or self._owners.get(place, machine) is not machine:
                why = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
                raise CannotListenError(interface, port, why)
            self._give_home(place)
        if port == 0:
            taken = machine.by_port()
            port = next(free for free in _FREE_PORTS if free not in taken)
        return Listener(process, place, port, factory, address_of(place, port))

    def _give_home(self, address: str) -> None:
        self._owners[address] = self.home
        self.home.addresses.append(address)

    def find(self, caller: Machine, address: str) -> Machine | None:
        """Whose `address` is, seen from `caller`."""
        return self._owners.get(address) or (caller if _is_loopback(address) else None)

    def source(self, process: Process, target: str, wanted: str | None) -> str:
        """The address that a connection comes from. Raises ConnectBindError and NoRouteError."""
        if wanted:
            wanted = normal(wanted)
            if not process.machine.has(wanted):
                raise ConnectBindError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
            return wanted
        found = process.machine.source(target)
        if found is None:
            raise getConnectError((errno.ENETUNREACH, os.strerror(errno.ENETUNREACH)))
        return found

    def source_port(self) -> int:
        """For a client: one after the other."""
        return next(self._sources)

    def cable(self, *addresses: str) -> Cable:
        """A new one between hosts; "" is a UNIX socket, on which all is well."""
        return Cable(self, [self.host(one) for one in addresses if one])

    def _count_sources(self) -> Iterator[int]:
        while True:
            yield from _SOURCE_PORTS


class _Kernel:
    alive = True


@implementer(IListeningPort)
class Listener:
    """A port of the simulated network, on its machine for as long as it listens."""

    def __init__(
        self, process: Process, place: str, port: int | str, factory: IProtocolFactory, address: Any
    ) -> None:
        self.factory = factory
        self.process = process
        self._key = place, port
        self._address = address
        self.accepts = True
        self._backlog: list[Wire] = []
        self.startListening()

    def startListening(self) -> None:
        machine, (place, port) = self.process.machine, self._key
        for other, number in machine.ports:
            if number == port and (other == place or {other, place} & {_ANY_IPV4, _ANY_IPV6}):
                raise CannotListenError(place, port, OSError("in use"))
        machine.ports[self._key] = self
        self.process.listeners.append(self)
        self.factory.doStart()

    def stopListening(self) -> None:
        if self.vanish():
            self.factory.doStop()

    def vanish(self) -> bool:
        """Listen no more without telling the factory; who was not accepted is sent away. False: it did not listen."""
        if self.process.machine.ports.get(self._key) is not self:
            return False
        del self.process.machine.ports[self._key]
        self.process.listeners.remove(self)
        backlog, self._backlog = self._backlog, []
        for wire in backlog:
            wire.abortConnection()
        return True

    def stopReading(self) -> None:
        """Accept nobody for now: who connects waits, as in a kernel's queue."""
        self.accepts = False

    def startReading(self) -> None:
        """Accept those who wait, and who comes."""
        self.accepts = True
        backlog, self._backlog = self._backlog, []
        for wire in backlog:
            self.accept(wire)

    def accept(self, wire: Wire) -> None:
        """A connection is there: build its protocol, or let it wait."""
        if not self.accepts:
            self._backlog.append(wire)
        elif not wire.lost:
            wire.start(self.factory.buildProtocol(wire.peer_address))

    def peer(self, client: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
        """What it calls a client."""
        if self._key[0] == _ANY_IPV6 and ":" not in client.host:
            return address_of(f"::ffff:{client.host}", client.port)
        return client

    def reached(self, caller: str) -> str:
        """At which of its addresses a client at `caller` reaches it."""
        if self._key[0] not in (_ANY_IPV4, _ANY_IPV6):
            return self._key[0]
        return self.process.machine.source(caller) or "127.0.0.1"

    def getHost(self) -> Any:
        return self._address


def address_of(host: str, port: int) -> IPv4Address | IPv6Address:
    """What transports call the TCP port `port` of the IP address `host`."""
    kind = IPv6Address if ":" in host else IPv4Address
    return kind("TCP", host, port)


def normal(address: str) -> str:
    """An IP address as it is written here. ValueError for what is none."""
    return str(ipaddress.ip_address(address))


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
