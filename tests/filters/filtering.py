"""What the tests of filters share: a message, a world with machines that filter."""

from __future__ import annotations

from typing import Any

from twisted_mail.address import Address
from twisted_mail.filters.interfaces import (
    Client,
    Context,
    Login,
    Message,
    Recipient,
    Sender,
    Tls,
)
from twisted_mail.testing import simulated_world
from twisted_mail.testing.filters import MemorySource

HOST = "192.0.2.50"
ALICE = Address.parse("alice@example.org")
BOB = Address.parse("bob@example.net")
CLIENT = Client("198.51.100.7", "mx.example.net", 4711, "relay.example.org")
CONTEXT = Context(
    CLIENT,
    Sender(ALICE, ("SIZE=100",)),
    (Recipient(BOB),),
    helo="relay.example.org",
    tls=Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256),
    login=Login("carol", "PLAIN"),
    queue_id="q1",
)
FIELDS = (
    b"Received: from a\n\tby b; today\n",
    b"From: alice@example.org\n",
    b"Subject: hello\n",
)


def message(body: bytes = b"one\ntwo\n", fields: tuple[bytes, ...] = FIELDS) -> Message:
    return Message(CONTEXT, fields, MemorySource(body))


def world_with(port: int, factory: Any) -> Any:
    """A world in which `factory` listens at HOST."""
    world = simulated_world()
    world.at(HOST).reactor.listenTCP(port, factory)
    return world
