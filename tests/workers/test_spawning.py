"""`workers.spawning`: the processes, with a zygote that forks nothing and a reactor that notes what it is asked."""

from __future__ import annotations

import os
import signal
import socket

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs

from twisted_mail.workers import control
from twisted_mail.workers.control import encode
from twisted_mail.workers.spawning import AGAIN_SECONDS, CONTROL, ProcessSpawner
from twisted_mail.workers.zygote import receive, send

KILLED = signal.SIGKILL.value
"""A status of wait(2), as is one of 256."""


class Transport(StringTransport):
    aborted = False

    def abortConnection(self):
        self.aborted = True


class Reactor(Clock):
    def __init__(self):
        super().__init__()
        self.readers = []

    def addReader(self, reader):
        self.readers.append(reader)

    def removeReader(self, reader):
        self.readers.remove(reader)

    def adoptStreamConnection(self, fd, family, factory):
        factory.buildProtocol(None).makeConnection(Transport())

    def look(self):
        for one in self.readers[:]:
            if one in self.readers:
                one.doRead()


class Zygote:
    """A `zygote.Started` and the process behind it, which the test speaks for."""

    pid = 0
    ended = 0

    def __init__(self):
        self.channel, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.children = []

    def end(self):
        self.ended += 1
        self.channel.close()
        return "was ended by SIGSEGV"

    def asked(self):
        (word, number, count), descriptors = receive(self.far)
        assert word == "fork" and count == len(descriptors)
        for one in descriptors:
            os.close(one)
        return number

    def fork(self):
        """Do what is asked for: the "child" is this process; it is known by the end of a pipe, which can be read when
        the other end is closed.
        """
        number = self.asked()
        near, far = os.pipe()
        send(self.far, ["forked", number, 1000 + number], [near])
        os.close(near)
        self.children.append(far)
        return number

    def died(self):
        self.far.close()

    def close(self):
        for one in self.children:
            os.close(one)
        self.far.close()
        self.channel.close()


@pytest.fixture
def zygotes():
    made = []
    yield made
    for one in made:
        one.close()


@pytest.fixture
def reactor():
    return Reactor()


@pytest.fixture
def spawner(reactor, zygotes):
    def begin(output):
        zygotes.append(Zygote())
        return zygotes[-1]

    spawner = ProcessSpawner(reactor, [], lambda: None, None, begin)
    yield spawner
    spawner.stop()


def start(spawner):
    heard, ended = [], []
    return spawner.spawn(1, ["start", {"key": "secret"}], heard.append, ended.append), heard, ended


@pytest.fixture
def forked(spawner, reactor, zygotes):
    """A process that is there: itself, what was heard of it, how it has ended, its number."""
    found = start(spawner)
    number = zygotes[0].fork()
    reactor.look()
    assert found[0].pid == 1000 + number
    return *found, number


def tell_end(zygote, reactor, number, status):
    send(zygote.far, ["ended", number, status])
    reactor.look()


def test_the_last_words_are_heard_before_the_end(forked, reactor, zygotes):
    process, heard, ended, number = forked
    tell_end(zygotes[0], reactor, number, 256)
    assert not ended
    process.channel.dataReceived(encode(["failed", "no certificate"]))
    process.channel.connectionLost()
    assert heard == [["failed", "no certificate"]] and ended == ["ended with 1"]


def test_the_end_of_the_channel_is_not_the_end_of_the_process(forked, reactor, zygotes):
    process, _, ended, number = forked
    process.channel.connectionLost()
    assert not ended and process.alive
    tell_end(zygotes[0], reactor, number, 0)
    assert ended == [""]


def test_somebody_else_who_holds_the_channel_does_not_keep_the_end_from_being_known(
    forked, reactor, zygotes
):
    process, _, ended, number = forked
    tell_end(zygotes[0], reactor, number, KILLED)
    reactor.advance(1)
    assert ended == ["was ended by SIGKILL"]
    process.channel.connectionLost()
    assert ended == ["was ended by SIGKILL"]


def test_what_cannot_be_forked_has_ended(spawner, reactor, zygotes):
    process, _, ended = start(spawner)
    assert not ended
    send(zygotes[0].far, ["refused", zygotes[0].asked(), "[Errno 11] Try again"])
    reactor.look()
    assert ended == ["cannot be started: [Errno 11] Try again"]
    assert process.channel.transport.aborted


def test_who_cannot_be_told_what_to_be_is_not_forked(spawner, zygotes, monkeypatch):
    monkeypatch.setattr(control, "MAX_FRAME", 5)
    with pytest.raises(ValueError, match="a frame of"):
        start(spawner)
    zygotes[0].far.setblocking(False)
    with pytest.raises(BlockingIOError):
        zygotes[0].asked()


def test_a_zygote_that_takes_no_more_is_an_error(spawner, zygotes):
    start(spawner)
    zygotes[0].died()
    with pytest.raises(OSError, match=r"reset|pipe"):
        start(spawner)


def test_nothing_secret_is_said_to_the_zygote(spawner, zygotes):
    start(spawner)
    words, descriptors = receive(zygotes[0].far)
    assert words == ["fork", 1, 4] and len(descriptors) == CONTROL + 1
    for one in descriptors:
        os.close(one)


def test_the_end_of_the_zygote_is_not_that_of_its_workers(forked, spawner, reactor, zygotes):
    process, _, ended, _ = forked
    send(zygotes[0].far, ["ready"])
    zygotes[0].died()
    with capturedLogs() as events:
        reactor.look()
    (told,) = [one for one in events if "reason" in one]
    assert told["reason"] == "was ended by SIGSEGV" and zygotes[0].ended == 1
    assert process.alive and not ended
    # Another one before it is needed
    reactor.advance(AGAIN_SECONDS)
    assert len(zygotes) == 2
    start(spawner)
    assert zygotes[1].fork() == 2
    # The first one, without a parent that would say how
    os.close(zygotes[0].children.pop())
    reactor.readers[0].doRead()
    process.channel.connectionLost()
    assert ended == ["ended, and nobody was there to be told how"]
    assert len(reactor.readers) == 1  # of the second zygote


def test_what_the_zygote_was_asked_for_ends_with_it(spawner, reactor, zygotes):
    _, _, ended = start(spawner)
    zygotes[0].died()
    reactor.look()
    assert not ended
    reactor.advance(0)
    assert ended == ["cannot be started: the zygote has ended"]


def test_one_that_cannot_import_is_tried_again_when_it_is_needed_only(spawner, reactor, zygotes):
    start(spawner)
    send(zygotes[0].far, ["failed", "ImportError: no module"])
    zygotes[0].died()
    with capturedLogs() as events:
        reactor.look()
    assert "no module" in next(one["reason"] for one in events if "reason" in one)
    reactor.advance(10 * AGAIN_SECONDS)
    assert len(zygotes) == 1
    start(spawner)
    assert len(zygotes) == 2


def test_who_needs_a_worker_does_not_wait_for_the_pause(forked, spawner, reactor, zygotes):
    send(zygotes[0].far, ["ready"])
    zygotes[0].died()
    reactor.look()
    start(spawner)
    assert len(zygotes) == 2
    reactor.advance(AGAIN_SECONDS)
    assert len(zygotes) == 2


def test_a_kill_is_of_this_process_whoever_has_its_number(forked, reactor, monkeypatch):
    process, *_ = forked
    killed = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *words: killed.append(words))
    monkeypatch.setattr(os, "kill", lambda *words: killed.append(words))
    process.kill()
    ((descriptor, what),) = killed
    assert os.fstat(descriptor) and what == signal.SIGKILL
    process.over("")
    process.kill()
    assert len(killed) == 1


def test_a_zygote_that_does_not_fork_what_is_given_up_is_killed(
    spawner, reactor, zygotes, monkeypatch
):
    killed = []
    monkeypatch.setattr(os, "kill", lambda *words: killed.append(words))
    process, _, _ = start(spawner)
    process.kill()
    assert killed == [(zygotes[0].pid, signal.SIGKILL)]
    zygotes[0].died()
    reactor.look()
    process.kill()
    assert len(killed) == 1  # the number may be another's


def test_the_end_of_the_last_worker_may_be_that_of_the_zygote(spawner, reactor, zygotes):
    spawner.spawn(1, ["start"], [].append, lambda reason: spawner.stop())
    number = zygotes[0].asked()
    send(zygotes[0].far, ["refused", number, "no"])
    with capturedLogs() as events:
        reactor.look()
    assert zygotes[0].ended == 1 and not reactor.readers and not events


def test_the_zygote_goes_when_no_more_are_wanted(forked, spawner, reactor, zygotes):
    spawner.stop()
    assert zygotes[0].ended == 1
    process, _, ended, _ = forked
    assert process.alive and not ended
    reactor.advance(10 * AGAIN_SECONDS)
    assert len(zygotes) == 1
