"""STARTTLS in the midst of a message in chunks forgets the message, its time included."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from twisted_mail.testing import MailServer, simulated_world


def test_a_message_forgotten_by_starttls_holds_up_no_stop() -> None:
    world = simulated_world()
    started: list[MailServer] = []
    work = MailServer.start(world, users={"alice@example.org": "secret"})
    Deferred.fromCoroutine(work).addCallback(started.append)
    world.reactor.settle()
    (server,) = started
    client: Any = world.reactor.connect(server.ports["smtp"])
    client.ask(b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\n")
    assert client.ask(b"BDAT 3\r\nabcSTARTTLS\r\n").splitlines()[1].startswith(b"220 ")
    client.start_tls(server.ca.read_bytes(), "localhost")

    stopped: list[object] = []
    Deferred.fromCoroutine(server.stop()).addCallback(stopped.append)
    world.reactor.settle()
    assert client.read().startswith(b"421 4.3.2 ")
    client.close()
    world.reactor.settle()
    assert stopped
