"""What is written goes out at once, in order, and the peer that does not read is noticed as before."""

from __future__ import annotations

import contextlib
import errno
import gc
import weakref
from collections import deque
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from toy import BLOCK, ToyFactory, tls_options
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mail.connection.deadlines import Bounds
from twisted_mail.connection.direct import HELD, Direct, direct
from twisted_mail.connection.output import BREATH, PIECE

RESET = ConnectionResetError(errno.ECONNRESET, "reset")
LATER = BlockingIOError(errno.EWOULDBLOCK, "later")


@implementer(IReactorFDSet)
class Loop:
    """A reactor's registers, and one round of it."""

    def __init__(self) -> None:
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.registered = 0

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def addWriter(self, writer: Any) -> None:
        self.registered += writer not in self.writers
        self.writers.add(writer)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def removeAll(self) -> list[Any]:
        raise NotImplementedError

    getReaders = getWriters = removeAll

    def round(self) -> None:
        """As `posixbase` has it: who can write does, and what comes of it is told."""
        for writer in tuple(self.writers):
            why = writer.doWrite()
            if why:
                self.removeReader(writer)
                self.removeWriter(writer)
                writer.connectionLost(Failure(why))


class Handle:
    """A socket that takes as many bytes as `takes` says, one number a call, then everything; an exception is raised."""

    def __init__(self) -> None:
        self.takes: deque[int | OSError] = deque()
        self.sent = b""
        self.closed = False

    def send(self, data: bytes) -> int:
        if self.closed:
            raise OSError(errno.EBADF, "closed")
        take = self.takes.popleft() if self.takes else len(data)
        if isinstance(take, OSError):
            raise take
        taken = bytes(data[:take])
        self.sent += taken
        return len(taken)

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def fileno(self) -> int:
        return 7

    def setsockopt(self, *options: int) -> None:
        pass

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Socket(Connection):
    """Twisted's transport on such a socket."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.handle = Handle()
        self.takes = self.handle.takes
        super().__init__(self.handle, None, self.loop)
        self.lost: list[Failure] = []
        self.aborted = False
        self.connected = 1
        self.startReading()

    @property
    def sent(self) -> bytes:
        return self.handle.sent

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 4)

    def abortConnection(self) -> None:
        self.aborted = True
        self.stopReading()
        self.stopWriting()

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)
        if self.protocol is None:
            self.protocol = Protocol()
        super().connectionLost(reason)


class Producer:
    def __init__(self) -> None:
        self.said: list[str] = []

    def pauseProducing(self) -> None:
        self.said.append("pause")

    def resumeProducing(self) -> None:
        self.said.append("resume")


def connected() -> tuple[Socket, Direct, Producer]:
    socket, producer = Socket(), Producer()
    transport = direct(socket)
    assert isinstance(transport, Direct)
    transport.registerProducer(producer, True)
    return socket, transport, producer


def served(bounds: Bounds | None = None) -> tuple[ToyFactory, Socket, Any]:
    """A connection of the toy protocol on such a socket, greeted."""
    factory = ToyFactory(bounds=bounds or Bounds())
    socket = Socket()
    socket.protocol = factory.buildProtocol(socket.getPeer())
    assert socket.protocol is not None
    socket.protocol.makeConnection(socket)
    return factory, socket, socket.protocol


# The transport


def test_what_a_socket_takes_goes_out_at_once_and_nothing_is_registered() -> None:
    socket, transport, producer = connected()
    transport.write(b"one ")
    transport.write(b"two")
    assert socket.sent == b"one two"
    assert (socket.loop.registered, producer.said) == (0, [])


def test_the_rest_goes_out_with_the_reactor_and_then_it_is_direct_again() -> None:
    socket, transport, producer = connected()
    socket.takes.extend([3])
    transport.write(b"abcdef")
    assert socket.sent == b"abc"
    transport.write(b"ghi")
    assert socket.sent == b"abc", "bytes wait before these"
    socket.loop.round()
    assert socket.sent == b"abcdefghi"
    assert not socket.loop.writers
    transport.write(b"jkl")
    assert socket.sent == b"abcdefghijkl"
    assert (socket.loop.registered, producer.said) == (1, [])


def test_a_socket_that_takes_nothing_yet() -> None:
    socket, transport, _ = connected()
    socket.takes.extend([LATER, LATER, 2])
    transport.write(b"abcd")
    socket.loop.round()
    assert socket.sent == b""
    socket.loop.round()
    assert socket.sent == b"ab"
    transport.write(b"ef")
    socket.loop.round()
    assert socket.sent == b"abcdef"


def test_a_peer_that_does_not_read_pauses_and_goes_on_when_all_is_gone() -> None:
    socket, transport, producer = connected()
    socket.takes.extend([0])
    transport.write(b"x" * HELD)
    assert producer.said == []
    transport.write(b"y")
    transport.write(b"z")
    assert producer.said == ["pause"]
    socket.takes.extend([10])
    socket.loop.round()
    assert producer.said == ["pause"]
    socket.loop.round()
    assert producer.said == ["pause", "resume"]
    assert len(socket.sent) == HELD + 2
    socket.takes.extend([0])
    transport.write(b"x" * (HELD + 1))
    assert producer.said == ["pause", "resume", "pause"]


def test_who_writes_while_he_is_told_to_go_on_is_in_order() -> None:
    socket, transport, _ = connected()

    class Eager(Producer):
        def resumeProducing(self) -> None:
            transport.write(b"!")

    transport.registerProducer(Eager(), True)
    socket.takes.extend([0])
    transport.write(b"x" * (HELD + 1))
    socket.loop.round()
    assert socket.sent == b"x" * (HELD + 1) + b"!"


def test_an_error_is_told_by_the_reactor_and_not_while_something_is_written() -> None:
    socket, transport, _ = connected()
    socket.takes.extend([RESET, RESET])
    transport.write(b"abc")
    transport.write(b"def")
    assert socket.lost == []
    socket.loop.round()
    (reason,) = socket.lost
    assert reason.check(ConnectionLost)
    transport.write(b"ghi")
    assert socket.sent == b""


def test_nothing_is_sent_after_an_abort() -> None:
    socket, transport, _ = connected()
    transport.abortConnection()
    transport.write(b"abc")
    assert (socket.sent, socket.aborted) == (b"", True)


def test_what_is_all_sent_is_closed_at_once() -> None:
    socket, transport, _ = connected()
    transport.write(b"bye")
    assert transport.close()
    assert [reason.type for reason in socket.lost] == [connectionDone.type]
    assert not socket.loop.readers
    assert not socket.loop.writers
    transport.write(b"late")
    assert not transport.close()
    assert (socket.sent, len(socket.lost)) == (b"bye", 1)


def test_what_is_not_sent_yet_is_sent_before_the_end() -> None:
    socket, transport, _ = connected()
    socket.takes.extend([1])
    transport.write(b"bye")
    transport.unregisterProducer()
    assert not transport.close()
    assert socket.lost == []
    socket.loop.round()
    socket.loop.round()
    assert socket.sent == b"bye"
    assert len(socket.lost) == 1


@given(
    st.lists(
        st.one_of(st.binary(min_size=1, max_size=9), st.none()),
        max_size=30,
    ),
    st.lists(st.one_of(st.integers(1, 9), st.just(LATER)), max_size=40),
)
def test_whatever_the_socket_takes_the_bytes_come_in_order(
    steps: list[bytes | None], takes: list[int | OSError]
) -> None:
    socket, transport, _ = connected()
    socket.takes.extend(takes)
    for step in steps:
        if step is None:
            socket.loop.round()
        else:
            transport.write(step)
    for _ in range(len(takes) + 2):
        socket.loop.round()
    assert socket.sent == b"".join(step for step in steps if step is not None)
    assert not socket.loop.writers


def test_only_plain_sockets_are_written_to_directly() -> None:
    other = StringTransport()
    assert direct(other) is other
    socket = Socket()
    socket.TLS = True
    assert direct(socket) is socket


# The driver on it


def test_a_session_costs_the_reactor_no_writer() -> None:
    factory, socket, connection = served()
    assert socket.sent == b"hello\n"
    connection.dataReceived(b"echo 1\necho 2\n")
    assert socket.sent == b"hello\n1\n2\n"
    connection.dataReceived(b"bye\n")
    assert socket.sent == b"hello\n1\n2\nbye\n"
    assert len(socket.lost) == 1
    assert not factory.connections
    assert socket.loop.registered == 0
    assert factory.world.reactor.getDelayedCalls() == []


def test_what_another_event_closes_keeps_its_descriptor_until_the_reactor_is_done_with_it() -> None:
    factory, socket, connection = served()
    connection.dataReceived(b"wait 1\n")
    assert not socket.handle.closed
    connection.close("another one's event")
    assert not socket.handle.closed
    assert connection in factory.connections
    socket.loop.round()
    assert socket.handle.closed
    assert not factory.connections


def test_an_answer_that_comes_with_another_event_and_ends_the_session() -> None:
    factory, socket, connection = served()
    connection.dataReceived(b"wait 1\nbye\n")
    (session,) = factory.sessions
    session.waits[0].callback(b"now")
    assert socket.sent == b"hello\n1 now\nbye\n"
    assert not socket.handle.closed
    socket.loop.round()
    assert socket.handle.closed
    assert not factory.connections


def test_over_tls_the_peers_goodbye_ends_it_at_once() -> None:
    secured = Secured()
    secured.peer.send(b"echo 1\nbye\n")
    secured.exchange()
    assert secured.read() == b"hello\n1\nbye\n"
    assert not secured.socket.handle.closed
    secured.peer.shutdown()
    secured.exchange()
    assert secured.socket.handle.closed
    assert not secured.factory.connections
    assert secured.socket.loop.registered == 0
    assert secured.factory.world.reactor.getDelayedCalls() == []


@pytest.mark.parametrize("said", [b"", b"bye\n"])
def test_over_tls_a_peer_that_just_goes(said: bytes) -> None:
    secured = Secured()
    if said:
        secured.peer.send(said)
        secured.exchange()
    secured.connection.readConnectionLost()
    assert secured.socket.handle.closed
    assert not secured.factory.connections
    assert secured.factory.world.reactor.getDelayedCalls() == []


def test_the_log_says_what_was_wrong_with_a_record(log: list[dict[str, Any]]) -> None:
    secured = Secured()
    secured.connection.dataReceived(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    secured.socket.loop.round()
    (reason,) = [event["reason"] for event in log if "reason" in event]
    assert "mac" in reason.lower()


@pytest.mark.parametrize("ends", [True, False])
def test_over_tls_nothing_is_left_to_the_collector(ends: bool) -> None:
    secured = Secured()
    gone = [weakref.ref(secured.connection), weakref.ref(secured.connection._layer.connection)]
    gc.disable()
    try:
        if ends:
            secured.peer.send(b"bye\n")
            secured.peer.shutdown()
            secured.exchange()
        else:
            secured.connection.dataReceived(b"this is no record")
            secured.socket.loop.round()
        assert secured.socket.handle.closed
        secured.socket.protocol = secured.connection = None
        assert [one() for one in gone] == [None, None]
    finally:
        gc.enable()


class Secured:
    """A connection of the toy protocol over TLS, greeted, and its peer."""

    def __init__(self) -> None:
        self.factory = ToyFactory(tls=tls_options(), implicit_tls=True)
        self.socket = Socket()
        self.connection: Any = self.factory.buildProtocol(self.socket.getPeer())
        self.socket.protocol = self.connection
        self.connection.makeConnection(self.socket)
        self.peer = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        self.peer.set_connect_state()
        self._seen = 0
        for _ in range(2):
            with contextlib.suppress(SSL.WantReadError):
                self.peer.do_handshake()
            self.exchange()

    def exchange(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            self.connection.dataReceived(self.peer.bio_read(100_000))
        if len(self.socket.sent) > self._seen:
            self.peer.bio_write(self.socket.sent[self._seen :])
        self._seen = len(self.socket.sent)

    def read(self) -> bytes:
        """All to the goodbye."""
        found = b""
        with contextlib.suppress(SSL.ZeroReturnError):
            while True:
                found += self.peer.recv(100)
        return found


def test_a_session_that_ends_with_more_behind_it_ends_once() -> None:
    factory, socket, connection = served()
    connection.dataReceived(b"echo 1\nbye\necho 2\n")
    assert socket.sent == b"hello\n1\nbye\n"
    assert len(socket.lost) == 1
    assert not factory.connections


def test_a_peer_that_does_not_read_is_answered_no_more_until_it_does() -> None:
    _, socket, connection = served()
    socket.takes.extend([0])
    connection.dataReceived(b"big 70000\necho 1\n")
    assert connection.blocked
    connection.dataReceived(b"echo 2\n")
    held = len(socket.dataBuffer) + sum(map(len, socket._tempDataBuffer))
    assert held <= 2 * HELD
    while socket.loop.writers:
        socket.loop.round()
    assert socket.sent == b"hello\n" + b"x" * 70000 + b"1\n2\n"
    assert not connection.blocked


def test_a_peer_that_never_reads_is_cut(log: list[dict[str, Any]]) -> None:
    factory, socket, connection = served(Bounds(idle_seconds=300))
    socket.takes.extend([0])
    connection.dataReceived(b"big 70000\n")
    factory.world.reactor.advance(299)
    assert not socket.aborted
    factory.world.reactor.advance(1)
    assert socket.aborted
    socket.connectionLost(Failure(ConnectionLost()))
    assert not factory.connections


def test_a_reset_while_it_is_answered_ends_the_connection_in_the_reactors_way() -> None:
    factory, socket, connection = served()
    socket.takes.extend([RESET, RESET])
    connection.dataReceived(b"echo 1\necho 2\n")
    assert socket.lost == []
    assert connection in factory.connections
    connection.dataReceived(b"echo 3\n")
    socket.loop.round()
    assert len(socket.lost) == 1
    assert not factory.connections
    assert socket.sent == b"hello\n"


def test_the_last_words_that_do_not_go_out_are_waited_for() -> None:
    factory, socket, connection = served()
    socket.takes.extend([2])
    connection.dataReceived(b"bye\n")
    assert socket.sent == b"hello\nby"
    assert connection in factory.connections
    while socket.loop.writers:
        socket.loop.round()
    assert socket.sent == b"hello\nbye\n"
    assert len(socket.lost) == 1


def test_a_server_that_stops_leaves_nothing() -> None:
    factory, socket, connection = served()
    over: list[None] = []
    factory.drain().addCallback(over.append)
    socket.loop.round()
    assert over == [None]
    assert not factory.connections
    assert b"hello\n" in socket.sent
    assert not connection.blocked


def test_a_connection_that_is_over_leaves_the_collector_nothing() -> None:
    factory, socket, connection = served()
    gone = weakref.ref(connection)
    gc.disable()
    try:
        connection.dataReceived(b"echo 1\nbye\n")
        socket.protocol = None
        del connection
        assert gone() is None
    finally:
        gc.enable()
    assert not factory.connections


def test_a_large_body_leaves_others_their_turns_however_fast_it_is_read() -> None:
    factory, socket, connection = served()
    blocks = 4 * BREATH // BLOCK
    whole = len(b"hello\nbody:") + blocks * BLOCK
    connection.dataReceived(b"body %d\n" % blocks)
    seen = [len(socket.sent)]

    def another() -> None:
        seen.append(len(socket.sent))
        if seen[-1] < whole:
            factory.world.reactor.callLater(0, another)

    another()
    factory.world.reactor.advance(0)
    assert seen[-1] == whole
    assert max(now - before for before, now in pairwise(seen)) <= BREATH + PIECE
    assert seen[0] <= BREATH + PIECE
    assert socket.loop.registered == 0
    connection.dataReceived(b"echo 1\n")
    assert socket.sent.endswith(b"y1\n")
