"""The client with this project's own server, in a simulated world: each way that content takes."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from scripted_peer import codes, result_of, transaction
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from twisted_mail.content import BytesContent
from twisted_mail.message.wire import wire_size
from twisted_mail.smtp.client.interfaces import SessionError
from twisted_mail.smtp.client.protocol import connect
from twisted_mail.storage.queued import Options
from twisted_mail.testing import MailServer, simulated_world
from twisted_mail.world import World

ALICE, BOB = "alice@example.org", "bob@example.org"
USERS = {ALICE: "secret, really", BOB: "hidden"}

SMALL = b"Subject: small\n\n.dot\nand\rCR\n..\nlast line without an end"
LARGE = b"Subject: large\n\n" + b".a line of some thirty octets.\r\n\n" * 20_000
EIGHT_BIT = "Subject: eight\n\nblåbærsyltetøy\n".encode()


@implementer(IOpenSSLClientConnectionCreator)
class Unverified:
    """Takes any certificate."""

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)


@pytest.fixture
def world() -> World:
    return simulated_world()


def run(world: World, work: Coroutine[Any, Any, Any]) -> Any:
    deferred = Deferred.fromCoroutine(work)
    for _ in range(100):
        world.reactor.settle()
        if deferred.called:
            break
        world.reactor.advance(0.1)
    return result_of(deferred)


@pytest.fixture
def server(world: World, tmp_path: Path) -> Iterator[MailServer]:
    server = run(world, MailServer.start(world, users=USERS, directory=tmp_path))
    yield server
    run(world, server.stop())


@pytest.mark.parametrize("lacks", [(), ("PIPELINING",), ("CHUNKING",), ("PIPELINING", "CHUNKING")])
def test_every_way_of_content(world: World, server: MailServer, lacks: tuple[str, ...]) -> None:
    contents = [SMALL, LARGE, b"", EIGHT_BIT, SMALL, LARGE]

    async def whole() -> list[list[str]]:
        conversation = await connect(
            world, "127.0.0.1", server.ports["smtp"], helo="client.example.net"
        )
        await conversation.hello()
        for keyword in lacks:
            del conversation.extensions[keyword]  # type: ignore[attr-defined]
        found = []
        for content in contents:
            envelope = transaction(
                BOB,
                "nobody@example.org",
                ALICE,
                mail_from="carol@elsewhere.example",
                options=Options(eight_bit=content is EIGHT_BIT),
                wire=wire_size(content),
            )
            found.append(codes(await conversation.send(envelope, BytesContent(content))))
        await conversation.quit()
        return found

    assert run(world, whole()) == [["250 2.0.0", "550 5.1.1", "250 2.0.0"]] * len(contents)
    for user in USERS:
        kept = server.messages(user)
        assert len(kept) == len(contents)
        for message, content in zip(kept, contents, strict=True):
            text = content.replace(b"\r\n", b"\n").replace(b"\r", b" ")
            assert message.endswith(text if text.endswith(b"\n") or not text else text + b"\n")


def test_all_refused_then_another(world: World, server: MailServer) -> None:
    async def whole() -> list[list[str]]:
        conversation = await connect(
            world, "127.0.0.1", server.ports["smtp"], helo="client.example.net"
        )
        await conversation.hello()
        found = []
        for content in (SMALL, LARGE):
            for recipient in ("nobody@example.org", ALICE):
                envelope = transaction(recipient, mail_from="carol@elsewhere.example")
                found.append(codes(await conversation.send(envelope, BytesContent(content))))
        return found

    assert run(world, whole()) == [["550 5.1.1"], ["250 2.0.0"]] * 2


@pytest.mark.parametrize("password", ["secret, really", "wrong"])
def test_submission(world: World, server: MailServer, password: str) -> None:
    async def whole() -> list[str]:
        conversation = await connect(
            world, "127.0.0.1", server.ports["submission"], helo="client.example.net"
        )
        await conversation.hello()
        await conversation.start_tls(Unverified())
        assert "AUTH" not in conversation.extensions
        await conversation.hello()
        assert conversation.peer_chain()
        await conversation.login(ALICE, password)
        replies = await conversation.send(transaction(BOB, mail_from=ALICE), BytesContent(SMALL))
        await conversation.quit()
        return codes(replies)

    if password == "wrong":
        with pytest.raises(SessionError, match="refused the login: 535"):
            run(world, whole())
    else:
        assert run(world, whole()) == ["250 2.0.0"]
        (message,) = server.messages(BOB)
        assert b"Subject: small" in message
