"""`workers.doors`: sockets of another process, and who takes the next connection."""

from __future__ import annotations

import os
import socket

import pytest
from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from twisted_mail.listeners import Listeners, Socket
from twisted_mail.workers.doors import PATIENCE_SECONDS, STEP_SECONDS, Fairness, take_over


class Reactor(Clock):
    """Time, and who reads."""

    def __init__(self):
        super().__init__()
        self.readers = set()

    def addReader(self, reader):
        self.readers.add(reader)

    def removeReader(self, reader):
        self.readers.discard(reader)

    def removeWriter(self, writer):
        pass


class Site:
    """One listening socket, a worker's port on it, and clients."""

    def __init__(self, listening, endpoint="tcp:1"):
        self.reactor = Reactor()
        self.mine, self.others = 0, [0]
        self.made = []
        self.listening = listening
        self.listeners = Listeners(self.reactor)
        fairness = Fairness(self.reactor, lambda: (self.mine, [self.mine, *self.others]))
        one = Socket("smtp", endpoint, int(listening.family), os.dup(listening.fileno()))
        self.listeners.adopt(one, take_over(self.reactor, fairness))
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        factory.buildProtocol = self.build
        self.listeners.open({"smtp": factory})
        (self.port,) = self.reactor.readers
        self.clients = []

    def build(self, address):
        self.made.append(address)
        # None: closed at once

    def connect(self, count=1):
        for _ in range(count):
            client = socket.socket(self.listening.family)
            client.connect(self.listening.getsockname())
            self.clients.append(client)

    def turn(self):
        """Once around, as a reactor does while somebody waits."""
        if self.port in self.reactor.readers:
            self.port.doRead()

    def close(self):
        for client in self.clients:
            client.close()
        if self.port.connected:
            self.port.connectionLost(None)
        self.listening.close()


@pytest.fixture(params=["tcp", "unix"])
def site(request, tmp_path):
    if request.param == "tcp":
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
    else:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "socket"))
    listening.listen(100)
    made = Site(listening)
    yield made
    made.close()


def test_one_connection_a_turn(site):
    site.connect(3)
    for count in (1, 2, 3):
        site.turn()
        assert len(site.made) == count


def test_nobody_is_accepted_before_the_door_is_open(site):
    again = Site(site.listening.dup())
    again.port.stopReading()
    assert again.port not in again.reactor.readers
    again.close()


def test_who_has_clearly_more_leaves_the_next_to_others(site):
    site.connect()
    site.mine, site.others = 2, [0]
    site.turn()
    assert not site.made and site.port not in site.reactor.readers
    site.others = [1]
    site.reactor.advance(STEP_SECONDS)
    site.turn()
    assert len(site.made) == 1


def test_but_not_for_long(site):
    site.connect(2)
    site.mine, site.others = 100, [0]
    began = site.reactor.seconds()
    while not site.made:
        site.turn()
        if not site.made:
            site.reactor.advance(STEP_SECONDS)
    assert site.reactor.seconds() - began == pytest.approx(PATIENCE_SECONDS)
    # the next one has to wait, too
    site.turn()
    assert len(site.made) == 1


@pytest.mark.parametrize(
    ("mine", "others", "too_many"),
    [
        (0, [5], False),
        (1, [0], False),
        (2, [0], True),
        (11, [10], False),
        (12, [10], True),
        (530, [500, 600], False),
        (540, [500, 600], True),
        (7, [], False),
    ],
)
def test_what_is_clearly_more(mine, others, too_many):
    assert Fairness(None, lambda: (mine, [mine, *others])).too_many() is too_many


def test_closing_leaves_the_socket_to_the_others(site):
    done = Deferred.fromCoroutine(site.listeners.close())
    site.reactor.advance(0)
    assert done.called
    site.connect()
    client, _ = site.listening.accept()
    client.close()


def test_a_unix_socket_keeps_its_file_and_its_mode(tmp_path):
    listening = socket.socket(socket.AF_UNIX)
    path = tmp_path / "socket"
    listening.bind(str(path))
    path.chmod(0o600)
    listening.listen()
    site = Site(listening, f"unix:{path}")
    assert site.port.getHost().name == os.fsencode(path)
    site.close()
    assert path.exists() and path.stat().st_mode & 0o777 == 0o600


def test_what_a_proxy_says_is_understood():
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    site = Site(listening, "haproxy:tcp:1")
    assert "HAProxy" in type(site.port.factory).__name__
    site.close()


class Main(Reactor):
    """Of the process that opens the sockets."""

    def listenTCP(self, port, factory, backlog=50, interface=""):
        made = tcp.Port(port, factory, backlog, interface, self)
        made.startListening()
        return made

    def listenUNIX(self, path, factory, backlog=50, mode=0o666, wantPID=0):
        made = unix.Port(path, factory, backlog, mode, reactor=self)
        made.startListening()
        return made


@pytest.mark.parametrize("endpoint", ["tcp:0:interface=127.0.0.1", "unix:{}"])
def test_what_the_main_process_closes_first_goes_on_elsewhere(tmp_path, endpoint):
    """It must not be shut down, for that would be for all: their accept(2) would fail."""
    reactor = Main()
    listeners = Listeners(reactor)
    path = str(tmp_path / "socket")
    listeners.bind("smtp", endpoint.format(path))
    (one,) = listeners.sockets(["smtp"])
    with socket.socket(fileno=os.dup(one.descriptor)) as copy:
        waiting = socket.socket(one.family)
        waiting.connect(copy.getsockname())
        closed = Deferred.fromCoroutine(listeners.close())
        reactor.advance(0)
        assert closed.called and not reactor.readers
        copy.accept()[0].close()
        waiting.close()
