"""Somebody sets the clock: what clients see of it. Timers of Twisted go by that clock (`SimulatedReactor.jump`)."""

from __future__ import annotations

import pytest

from twisted_mail.testing import MailServer, simulated_world

HOUR = 3600.0


@pytest.fixture
def world(tmp_path):
    return simulated_world()


@pytest.fixture
def server(world, tmp_path):
    server = world.run(MailServer.start(world, users={"ann@a.example": "x"}, directory=tmp_path))
    yield server
    world.run(server.stop())


def writer(world, server):
    """A client that has only the last line to say."""
    client = world.reactor.connect(server.ports["smtp"])
    begin = b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<ann@a.example>\r\nDATA\r\n"
    assert b"\r\n354 " in client.ask(begin)
    client.send(b"Subject: hello\r\n\r\nHello.\r\n")
    return client


def test_nobody_waits_for_the_time_that_comes_again(world, server):
    clients = [writer(world, server) for _ in range(6)]
    for client in clients[:4]:
        client.write(b".\r\n")
    world.reactor.advance(0.1)
    assert all(client.read().startswith(b"250 ") for client in clients[:4])
    # Four came together: the next one is kept a moment for others.
    clients[4].send(b".\r\n")
    assert clients[4].read() == b""
    world.reactor.jump(-HOUR)
    clients[5].send(b".\r\n")
    world.reactor.advance(1)
    assert all(client.read().startswith(b"250 ") for client in clients[4:])


@pytest.mark.parametrize("seconds", [-HOUR, HOUR, 400 * 24 * HOUR, -0.5])
def test_mail_comes_before_and_after(world, server, seconds):
    def send(subject):
        client = world.reactor.connect(server.ports["smtp"])
        client.ask(b"EHLO c.example\r\nMAIL FROM:<>\r\nRCPT TO:<ann@a.example>\r\nDATA\r\n")
        client.send(b"Subject: %s\r\n\r\nHello.\r\n.\r\n" % subject)
        world.reactor.advance(1)
        assert client.read().startswith(b"250 ")

    def subjects():
        return [
            line.removeprefix(b"Subject: ")
            for message in server.messages("ann@a.example")
            for line in message.split(b"\n")
            if line.startswith(b"Subject: ")
        ]

    send(b"before")
    world.reactor.jump(seconds)
    send(b"after")
    assert sorted(subjects()) == [b"after", b"before"]
