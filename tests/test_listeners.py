"""`listeners`: sockets that are opened first and answered later."""

from __future__ import annotations

import contextlib
import socket

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol

from twisted_mail.listeners import UNSENT, ListenError, Listeners


class Port:
    """A listening socket that tells what it was asked."""

    def __init__(self, address, factory):
        self.address = address
        self.factory = factory
        self.asked = []

    def getHost(self):
        return self.address

    def stopReading(self):
        self.asked.append("stopReading")

    def startReading(self):
        self.asked.append("startReading")

    def stopListening(self):
        self.asked.append("stopListening")


class Reactor:
    """Listens on anything but port 25."""

    def __init__(self):
        self.ports = []

    def listenTCP(self, port, factory, backlog=50, interface=""):
        if port == 25:
            raise CannotListenError(interface, port, PermissionError(13, "Permission denied"))
        kind = IPv6Address if ":" in interface else IPv4Address
        self.ports.append(Port(kind("TCP", interface or "0.0.0.0", port), factory))
        return self.ports[-1]

    def listenUNIX(self, path, factory, backlog=50, mode=0o666, wantPID=0):
        self.ports.append(Port(UNIXAddress(path), factory))
        return self.ports[-1]


class Wrapping:
    """An endpoint of somebody's plugin: something stands between the socket and the door."""

    def __init__(self, reactor):
        self.reactor = reactor

    def listen(self, factory):
        between = Factory()
        between.inner = factory
        port = self.reactor.listenTCP(465, between)
        port.socket = Sock()
        return succeed(port)


class Sock:
    family = 2

    def fileno(self):
        return 7


def test_what_stands_between_is_not_left_out_by_others(listeners, reactor, monkeypatch):
    """TLS, say: a worker that takes the bare socket would answer in clear."""
    listeners.bind("smtp", "tcp:26")
    reactor.ports[0].socket = Sock()
    listeners.bind("smtp", "haproxy:tcp:27")
    reactor.ports[1].socket = Sock()
    assert len(listeners.sockets(["smtp"])) == 2
    monkeypatch.setattr(
        "twisted_mail.listeners.serverFromString", lambda reactor, text: Wrapping(reactor)
    )
    listeners.bind("smtps", "tls:465")
    assert len(listeners.sockets(["smtp"])) == 2
    with pytest.raises(ListenError, match="tls:465 cannot be shared with workers"):
        listeners.sockets(["smtps"])


@pytest.fixture
def reactor():
    return Reactor()


@pytest.fixture
def listeners(reactor):
    return Listeners(reactor)


def test_addresses_as_people_write_them(listeners):
    listeners.bind("smtp", "tcp:2525")
    listeners.bind("smtp", r"tcp6:2525:interface=\:\:1")
    listeners.bind("pop3", "unix:/run/pop3")
    assert listeners.addresses == [
        ("smtp", "0.0.0.0:2525"), ("smtp", "[::1]:2525"), ("pop3", "/run/pop3"),
    ]  # fmt: skip


def test_clients_wait_until_there_is_somebody_to_answer(reactor, listeners):
    listeners.bind("smtp", "tcp:2525")
    (port,) = reactor.ports
    assert port.asked == ["stopReading"]
    assert port.factory.buildProtocol(None) is None
    listeners.open({"smtp": Factory.forProtocol(Protocol)})
    assert port.asked == ["stopReading", "startReading"]
    assert isinstance(port.factory.buildProtocol(None), Protocol)


def test_each_socket_gets_the_factory_of_its_name(reactor, listeners):
    class Smtp(Protocol):
        pass

    class Pop3(Protocol):
        pass

    listeners.bind("smtp", "tcp:2525")
    listeners.bind("pop3", "tcp:2110")
    listeners.open({"smtp": Factory.forProtocol(Smtp), "pop3": Factory.forProtocol(Pop3)})
    made = [port.factory.buildProtocol(None) for port in reactor.ports]
    assert [type(one) for one in made] == [Smtp, Pop3]


def test_the_reason_names_listener_and_endpoint(listeners):
    with pytest.raises(ListenError) as refused:
        listeners.bind("smtp", "tcp:25")
    assert str(refused.value) == "smtp: cannot listen on tcp:25: Permission denied"


def test_an_endpoint_nobody_knows(listeners):
    with pytest.raises(ListenError, match="smtp: cannot listen on pigeon:25"):
        listeners.bind("smtp", "pigeon:25")


def test_closing_closes_all_once(reactor, listeners):
    listeners.bind("smtp", "tcp:2525")
    for _ in range(2):
        assert Deferred.fromCoroutine(listeners.close()).called
    assert reactor.ports[0].asked == ["stopReading", "stopListening"]
    assert listeners.addresses == []


def test_a_client_that_does_not_read_fills_no_buffer_of_the_kernel() -> None:
    """What the kernel takes of its connection is little more than what is not sent: megabytes without that."""
    from twisted.internet import reactor  # noqa: TID251  # a real socket is looked at, and nothing runs

    listeners = Listeners(reactor)
    listeners.bind("smtp", "tcp:0:interface=127.0.0.1")
    (one,) = listeners.sockets(["smtp"])
    with socket.socket(fileno=socket.dup(one.descriptor)) as listening, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listening.getsockname())
        accepted, _ = listening.accept()
        with accepted:
            accepted.setblocking(False)
            taken = 0
            with contextlib.suppress(BlockingIOError):
                while taken < 16 * UNSENT:
                    taken += accepted.send(b"x" * 4096)
            assert taken <= 4 * UNSENT
    listeners._open[0].port.socket.close()
