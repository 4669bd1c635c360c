"""POP3 on a port: what the factory gives its sessions, and a client that does not wait for QUIT."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from twisted_mail.connection.limits import ConnectionLimits
from twisted_mail.interfaces import MessageInfo
from twisted_mail.pop3.protocol import Pop3Factory, Pop3Settings
from twisted_mail.testing import simulated_world


class Mailbox:
    """One message; what is done to it is in `log`, and `removal` says when it is gone."""

    messages = (MessageInfo(uidl="a", size=10),)

    def __init__(self) -> None:
        self.log: list[str] = []
        self.removal: Deferred[None] = Deferred()

    async def remove(self, indexes: Any) -> None:
        self.log.append("removing")
        await self.removal
        self.log.append("removed")

    async def close(self) -> None:
        self.log.append("closed")


class Authenticator:
    """Everybody is in."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox

    def mechanisms(self) -> tuple[str, ...]:
        return ("PLAIN",)

    async def login(self, username: str, password: str, client_ip: str) -> Any:
        async def open_inbox() -> Mailbox:
            return self.mailbox

        account = SimpleNamespace(name=username, open_inbox=open_inbox)
        return SimpleNamespace(account=account, logout=lambda: self.mailbox.log.append("logout"))


def factory(mailbox: Mailbox | None = None, **options: Any) -> tuple[Any, Pop3Factory]:
    world = simulated_world()
    settings = Pop3Settings("mail.example.org", allow_plaintext_loopback=True)
    limits = options.pop("limits", ConnectionLimits(9, 9))
    authenticator: Any = Authenticator(mailbox or Mailbox())
    return world, Pop3Factory(world, settings, authenticator, limits=limits, **options)


def test_what_is_marked_is_removed_though_the_client_does_not_wait() -> None:
    mailbox = Mailbox()
    world, server = factory(mailbox)
    client = world.reactor.connect(server, address="127.0.0.1")
    client.ask(b"USER a\r\nPASS b\r\nDELE 1\r\nQUIT\r\n")
    client.abort()
    assert not server.connections
    assert mailbox.log == ["removing"]  # and the mailbox is not given up meanwhile
    mailbox.removal.callback(None)
    assert mailbox.log == ["removing", "removed", "closed", "logout"]


def test_what_is_marked_stays_without_quit() -> None:
    mailbox = Mailbox()
    world, server = factory(mailbox)
    client = world.reactor.connect(server, address="127.0.0.1")
    client.ask(b"USER a\r\nPASS b\r\nDELE 1\r\n")
    client.abort()
    assert mailbox.log == ["closed", "logout"]


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("192.0.2.1", False)],
)
def test_a_password_in_clear_only_from_this_machine(address: str, allowed: bool) -> None:
    world, server = factory()
    client = world.reactor.connect(server, address=address)
    assert (b"\r\nUSER\r\n" in client.ask(b"CAPA\r\n")) is allowed


def test_ten_minutes_of_silence_without_a_word() -> None:
    world, server = factory()
    client = world.reactor.connect(server)
    client.read()
    world.reactor.advance(599)
    assert client.closed is None
    world.reactor.advance(1)
    assert client.read() == b""
    assert client.closed is not None


def test_too_many_connections() -> None:
    world, server = factory(limits=ConnectionLimits(0, 9))
    client = world.reactor.connect(server)
    assert client.read() == b"-ERR [SYS/TEMP] Too many connections\r\n"
    assert client.closed is not None
