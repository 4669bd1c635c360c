"""A worker's reactor does what Twisted's does, but for the logging context."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import CONNECTION_DONE
from twisted.python import log
from twisted.python.failure import Failure

from twisted_mail.workers import fleet, loop
from twisted_mail.workers.loop import LeanEpollReactor

Pairs = list[tuple[socket.socket, socket.socket]]


class Reader:
    """Reads, then does what it is told; notes how it was lost."""

    def __init__(self, end: socket.socket, does: Callable[[bytes], object] = lambda _: None):
        self.end = end
        self.does = does
        self.heard: list[bytes] = []
        self.lost: list[Failure] = []

    def fileno(self) -> int:
        return self.end.fileno()

    def doRead(self) -> object:
        data = self.end.recv(100)
        self.heard.append(data)
        return self.does(data) if data else CONNECTION_DONE

    def readConnectionLost(self, reason: Failure) -> None:
        self.connectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)

    def logPrefix(self) -> str:
        return "reader"


@pytest.fixture(params=[EPollReactor, LeanEpollReactor])
def reactor(request: pytest.FixtureRequest, pairs: Pairs) -> Iterator[Any]:
    """Both, not installed: what holds for one holds for the other. It ends before the sockets do."""
    one: Any = request.param()
    yield one
    for selectable in one.removeAll():
        if not isinstance(selectable, Reader):
            selectable.connectionLost(None)
    for internal in list(one._internalReaders):
        internal.connectionLost(None)
    one._poller.close()


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    made = [socket.socketpair() for _ in range(3)]
    yield made
    for pair in made:
        for end in pair:
            end.close()


def test_who_has_something_to_read_reads(reactor: Any, pairs: Pairs) -> None:
    readers = [Reader(ours) for ours, _ in pairs]
    for one in readers:
        reactor.addReader(one)
    pairs[0][1].send(b"a")
    pairs[2][1].send(b"c")
    reactor.doIteration(1)
    assert [one.heard for one in readers] == [[b"a"], [], [b"c"]]
    reactor.doIteration(0)
    assert [one.heard for one in readers] == [[b"a"], [], [b"c"]]


def test_no_wait_and_a_wait_without_end(reactor: Any, pairs: Pairs) -> None:
    reader = Reader(pairs[0][0])
    reactor.addReader(reader)
    reactor.doIteration(False)
    assert reader.heard == []
    pairs[0][1].send(b"a")
    reactor.doIteration(None)
    assert reader.heard == [b"a"]


def test_who_is_done_is_lost_and_not_asked_again(reactor: Any, pairs: Pairs) -> None:
    reader = Reader(pairs[0][0], lambda _: CONNECTION_DONE)
    reactor.addReader(reader)
    pairs[0][1].send(b"a")
    reactor.doIteration(1)
    assert [reason.type for reason in reader.lost] == [error.ConnectionDone]
    assert reader not in reactor.getReaders()


def test_a_peer_that_hangs_up_is_lost(reactor: Any, pairs: Pairs) -> None:
    reader = Reader(pairs[0][0])
    reactor.addReader(reader)
    pairs[0][1].close()
    for _ in range(3):
        reactor.doIteration(0)
    assert [reason.type for reason in reader.lost] == [error.ConnectionDone]


def test_a_failure_in_one_reader_is_logged_ends_it_and_no_other(reactor: Any, pairs: Pairs) -> None:
    def fails(_data: bytes) -> None:
        raise ValueError("wrong")

    first, second = Reader(pairs[0][0], fails), Reader(pairs[1][0])
    reactor.addReader(first)
    reactor.addReader(second)
    pairs[0][1].send(b"a")
    pairs[1][1].send(b"b")
    logged: list[Any] = []
    log.addObserver(logged.append)
    try:
        reactor.doIteration(1)
    finally:
        log.removeObserver(logged.append)
    failures = [event["failure"].type for event in logged if event["isError"]]
    assert failures == [ValueError]
    assert len(first.lost) == 1
    assert second.heard == [b"b"]
    assert second.lost == []


def test_who_leaves_in_the_midst_of_a_round_is_not_called(reactor: Any, pairs: Pairs) -> None:
    readers: list[Reader] = []

    def alone(_data: bytes) -> None:
        for one in readers:
            if not one.heard:
                reactor.removeReader(one)

    readers += [Reader(ours, alone) for ours, _ in pairs]
    for one in readers:
        reactor.addReader(one)
    for _, theirs in pairs:
        theirs.send(b"x")
    reactor.doIteration(1)
    assert sorted(len(one.heard) for one in readers) == [0, 0, 1]


def test_writing_goes_on_as_ever(reactor: Any, pairs: Pairs) -> None:
    class Writer(Reader):
        wrote = 0

        def doWrite(self) -> None:
            self.wrote += 1
            reactor.removeWriter(self)

    writer = Writer(pairs[0][0])
    reactor.addWriter(writer)
    reactor.doIteration(1)
    reactor.doIteration(0)
    assert writer.wrote == 1


def _installed(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


_SHOWN = "from twisted.internet import reactor; print(type(reactor).__name__)"


def test_it_is_installed() -> None:
    program = f"from twisted_mail.workers import loop; loop.install(); {_SHOWN}"
    assert _installed(program) == "LeanEpollReactor"


def test_a_reactor_of_another_making_is_left_as_it_is() -> None:
    program = (
        "from twisted_mail.workers import loop; loop._USED += ('_not_there',);"
        f" loop.install(); {_SHOWN}"
    )
    assert _installed(program) == "EPollReactor"


def test_workers_take_it_in_place_of_the_epoll_reactor() -> None:
    assert {EPollReactor.__module__: loop.__name__} == fleet._LOOPS
