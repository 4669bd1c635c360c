"""`starting`: what clients are told while the server starts, on a simulated world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from twisted_mail.accounts.directory import Directory
from twisted_mail.config import Config
from twisted_mail.service import MailService, StartError
from twisted_mail.starting import AT_ONCE, PATIENCE
from twisted_mail.testing.world import simulated_world
from twisted_mail.world import World

LISTEN = {"smtp": ["tcp:25"], "submission": ["tcp:587"], "pop3": ["tcp:110"], "imap": ["tcp:143"]}
WORDS = {
    25: b"421 4.3.2 mail.example.org The server is starting, try again soon\r\n",
    587: b"421 4.3.2 mail.example.org The server is starting, try again soon\r\n",
    110: b"-ERR [SYS/TEMP] The server is starting, try again soon\r\n",
    143: b"* BYE [UNAVAILABLE] The server is starting, try again soon\r\n",
}


@pytest.fixture
def world() -> World:
    return simulated_world()


def until(world: World, condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        world.reactor.settle()
    raise AssertionError("nothing happens any more")


class SlowStart:
    """A server whose start lasts until `go_on`."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.waiting: Deferred[None] = Deferred()
        self.over: list[Any] = []

        async def prepare(_: Directory) -> None:
            await self.waiting

        config = Config.model_validate(
            {"hostname": "mail.example.org", "listen": LISTEN}, context={"directory": directory}
        )
        self.service = MailService(config, world, prepare=prepare)
        self.service.startService()
        self.service.when_serving().addBoth(self.over.append)
        for _ in range(50):
            world.reactor.settle()
        assert not self.over

    def go_on(self, error: Exception | None = None) -> None:
        self.waiting.callback(None) if error is None else self.waiting.errback(error)
        until(self.world, lambda: self.over)

    def stop(self) -> None:
        stopped: list[Any] = []
        self.service.stopService().addBoth(stopped.append)
        until(self.world, lambda: stopped)
        assert stopped == [None]


@pytest.fixture
def starting(world: World, tmp_path: Path) -> SlowStart:
    return SlowStart(world, tmp_path)


def test_at_first_they_wait(world, starting):
    early = [world.reactor.connect(port) for port in WORDS]
    world.reactor.advance(PATIENCE - 0.1)
    assert [one.read() for one in early] == [b""] * len(WORDS)
    starting.go_on()
    assert starting.over == [None]
    greetings = [one.read() for one in early]
    assert [greeting.split()[0] for greeting in greetings] == [b"220", b"220", b"+OK", b"*"]
    # and nobody is told anything else later
    world.reactor.advance(2 * PATIENCE)
    assert world.reactor.connect(25).read().startswith(b"220 ")
    starting.stop()


def test_then_they_are_told_to_come_later(world, starting):
    early = {port: world.reactor.connect(port) for port in WORDS}
    world.reactor.advance(PATIENCE)
    late = {port: world.reactor.connect(port) for port in WORDS}
    for clients in (early, late):
        for port, client in clients.items():
            assert client.read() == WORDS[port]
            assert client.closed is not None
    starting.go_on()
    for port, words in WORDS.items():
        client = world.reactor.connect(port)
        assert client.read().split()[0] not in words.split()[:2] or port == 143
        assert client.closed is None
    starting.stop()


def test_who_has_spoken_already_is_told_too(world, starting):
    client = world.reactor.connect(25)
    client.send(b"EHLO client.example\r\nMAIL FROM:<a@b.example>\r\n")
    world.reactor.advance(PATIENCE)
    assert client.read() == WORDS[25]
    assert client.closed is not None
    starting.go_on()
    starting.stop()


def test_a_start_that_fails_late(world, starting):
    world.reactor.advance(PATIENCE)
    assert world.reactor.connect(25).read() == WORDS[25]
    starting.go_on(OSError("no disk"))
    with pytest.raises(StartError, match="no disk"):
        starting.over[0].raiseException()
    starting.stop()


def test_it_can_be_started_again(world, starting):
    world.reactor.advance(PATIENCE)
    starting.go_on()
    starting.stop()
    starting.waiting = Deferred()
    starting.over.clear()
    starting.service.startService()
    starting.service.when_serving().addBoth(starting.over.append)
    for _ in range(50):
        world.reactor.settle()
    early = world.reactor.connect(25)
    assert early.read() == b""
    world.reactor.advance(PATIENCE)
    assert early.read() == WORDS[25]
    starting.go_on()
    assert world.reactor.connect(25).read().startswith(b"220 ")
    starting.stop()


def test_those_who_are_told_are_bounded_and_gone_at_the_end(world, starting):
    world.reactor.advance(PATIENCE)
    for _ in range(AT_ONCE + 10):
        assert world.reactor.connect(25).read() == WORDS[25]
    starting.go_on()
    assert world.counters.connections() == {}
    starting.stop()
    assert world.reactor.getDelayedCalls() == []
