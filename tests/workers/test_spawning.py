"""`workers.spawning`: the processes, on a reactor that only notes what it was asked for."""

from __future__ import annotations

import os

import pytest
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from twisted_mail.workers import control
from twisted_mail.workers.control import encode
from twisted_mail.workers.orders import python_environment
from twisted_mail.workers.spawning import AHEAD_SECONDS, ProcessSpawner


class Transport(StringTransport):
    def abortConnection(self):
        self.aborted = True


class Reactor(Clock):
    """Starts nothing."""

    def __init__(self):
        super().__init__()
        self.processes = []
        self.pid = 100

    def spawnProcess(self, process, executable, args, env, childFDs):
        self.pid += 1
        self.args, self.env = args, env
        self.killed = []
        process.transport = self
        process.connectionMade()
        self.processes.append(process)

    def signalProcess(self, number):
        self.killed.append(number)

    def adoptStreamConnection(self, fd, family, factory):
        factory.buildProtocol(None).makeConnection(Transport())


@pytest.fixture
def reactor():
    return Reactor()


@pytest.fixture
def spawner(reactor):
    return ProcessSpawner(reactor, [], lambda: None)


def start(spawner):
    heard, ended = [], []
    return spawner.spawn(1, ["start", {"key": "secret"}], heard.append, ended.append), heard, ended


def failed(status):
    return Failure(ProcessTerminated(status))


def test_the_last_words_are_heard_before_the_end(spawner):
    process, heard, ended = start(spawner)
    process.processEnded(failed(1))
    assert not ended
    process.channel.dataReceived(encode(["failed", "no certificate"]))
    process.channel.connectionLost()
    assert heard == [["failed", "no certificate"]] and ended == ["ended with 1"]


def test_the_end_of_the_channel_is_not_the_end_of_the_process(spawner):
    process, _, ended = start(spawner)
    process.channel.connectionLost()
    assert not ended and process.alive
    process.processEnded(Failure(ProcessDone(0)))
    assert ended == [""]


def test_somebody_else_who_holds_the_channel_does_not_keep_the_end_from_being_known(
    spawner, reactor
):
    process, _, ended = start(spawner)
    process.processEnded(failed(1))
    reactor.advance(1)
    assert ended == ["ended with 1"]
    process.channel.connectionLost()
    assert ended == ["ended with 1"]


def test_the_next_is_started_ahead_when_this_one_is_ready(spawner, reactor):
    process, _, _ = start(spawner)
    assert len(reactor.processes) == 1
    process.channel.dataReceived(encode(["ready"]))
    reactor.advance(0)
    assert len(reactor.processes) == 2
    second, _, _ = start(spawner)
    assert second is reactor.processes[1]
    # This one never is
    reactor.advance(AHEAD_SECONDS)
    assert len(reactor.processes) == 3


def test_who_cannot_be_told_what_to_be_is_not_left_behind(spawner, reactor, monkeypatch):
    monkeypatch.setattr(control, "MAX_FRAME", 5)
    with pytest.raises(ValueError, match="a frame of"):
        start(spawner)
    assert reactor.killed


def test_nothing_secret_is_on_the_command_line_or_in_the_environment(spawner, reactor):
    start(spawner)
    assert not any("secret" in one for one in reactor.args)
    assert reactor.env == python_environment(os.environ)
