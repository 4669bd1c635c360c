"""A whole server in a test's own process: in a simulated world, in milliseconds."""

from __future__ import annotations

import pytest
from settling import settled
from twisted.internet.error import ConnectionDone

from twisted_mail.testing import MailServer, simulated_world

USERS = {"alice@example.org": "secret", "bob@example.org": "hidden"}


@pytest.fixture
def world():
    return simulated_world()


@pytest.fixture
def server(world, tmp_path):
    server = settled(world, MailServer.start(world, users=USERS, directory=tmp_path))
    yield server
    settled(world, server.stop())


def test_a_mail_from_one_to_the_other_end(world, server):
    client = world.reactor.connect(server.ports["smtp"])
    assert client.read().startswith(b"220 localhost ")
    assert client.ask(b"EHLO client.example.net\r\n").startswith(b"250-localhost")
    replies = client.ask(
        b"MAIL FROM:<carol@elsewhere.example>\r\nRCPT TO:<alice@example.org>\r\n"
        b"RCPT TO:<bob@example.org>\r\nDATA\r\n"
    )
    assert [line[:3] for line in replies.splitlines()] == [b"250", b"250", b"250", b"354"]
    assert client.ask(b"Subject: simulated\r\n\r\n..dot\r\n.\r\n").startswith(b"250 2.0.0")
    assert client.ask(b"QUIT\r\n").startswith(b"221 ")
    assert isinstance(client.closed, ConnectionDone)
    for user in USERS:
        (message,) = server.messages(user)
        assert message.endswith(b"Subject: simulated\n\n.dot\n")


def test_login_over_tls_and_read(world, server):
    client = world.reactor.connect(server.ports["smtp"])
    client.ask(
        b"EHLO client.example.net\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"
    )
    client.ask(b"Subject: one\r\n\r\n\r\n.\r\n")
    reader = world.reactor.connect(server.ports["pop3"])
    reader.read()
    assert reader.ask(b"USER alice@example.org\r\n").startswith(b"-ERR")
    assert reader.ask(b"STLS\r\n").startswith(b"+OK")
    reader.start_tls(server.ca.read_bytes(), "localhost")
    assert reader.cipher
    assert reader.ask(b"USER alice@example.org\r\nPASS secret\r\nSTAT\r\n").count(b"+OK") == 3
    assert b"Subject: one" in reader.ask(b"RETR 1\r\n")
    reader.close()


def test_the_same_world_gives_the_same_run(tmp_path):
    def run(directory):
        world = simulated_world(seed=7)
        server = settled(world, MailServer.start(world, users=USERS, directory=directory))
        client = world.reactor.connect(server.ports["smtp"])
        heard = client.read()
        heard += client.ask(
            b"EHLO client.example.net\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"
        )
        heard += client.ask(b"Subject: one\r\n\r\n\r\n.\r\n")
        message = server.messages("alice@example.org")
        settled(world, server.stop())
        return heard, message

    assert run(tmp_path / "first") == run(tmp_path / "second")


def test_an_idle_client_is_told_so_after_five_minutes(world, server):
    client = world.reactor.connect(server.ports["smtp"])
    client.read()
    world.reactor.advance(299)
    assert client.closed is None
    world.reactor.advance(2)
    assert client.read().startswith(b"421 4.4.2 ")
    assert client.closed is not None


def test_a_stopped_server_listens_no_more(world, tmp_path):
    server = settled(world, MailServer.start(world, users=USERS, directory=tmp_path))
    idle = world.reactor.connect(server.ports["pop3"])
    settled(world, server.stop())
    assert idle.closed is not None
    assert world.reactor.listeners == {}
    with pytest.raises(RuntimeError, match="not running"):
        server.messages("alice@example.org")


def test_it_comes_back_with_what_it_had(world, server, tmp_path):
    client = world.reactor.connect(server.ports["smtp"])
    client.ask(
        b"EHLO client.example.net\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"
    )
    client.ask(b"Subject: one\r\n\r\n\r\n.\r\n")
    other = simulated_world(seed=1)
    again = settled(other, MailServer.start(other, directory=tmp_path))
    assert len(again.messages("alice@example.org")) == 1
    settled(other, again.stop())


def test_a_server_without_users_knows_nobody(world, tmp_path):
    server = settled(world, MailServer.start(world, directory=tmp_path))
    with pytest.raises(KeyError):
        server.messages("alice@example.org")
    settled(world, server.add_user("alice@example.org", "secret"))
    assert server.messages("alice@example.org") == []
    settled(world, server.stop())
