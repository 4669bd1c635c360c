"""Connecting: to a port, to a path, from an address, and what fails."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_peer import Peer, result_of
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory

from twisted_mail.smtp.client.interfaces import SessionError, Timeouts
from twisted_mail.smtp.client.protocol import connect
from twisted_mail.testing import simulated_world
from twisted_mail.world import World


@pytest.fixture
def world() -> World:
    return simulated_world()


def started(world: World, *where: Any, **options: Any) -> Deferred[Any]:
    options.setdefault("timeouts", Timeouts(connect=7))
    deferred = Deferred.fromCoroutine(connect(world, *where, helo="me.example.org", **options))
    world.reactor.settle()
    return deferred


def server(world: World, script: str = "S: 220 hi") -> tuple[Factory, Peer]:
    peer = Peer(world, script.splitlines(), None)
    factory = Factory()
    factory.buildProtocol = lambda addr: peer  # type: ignore[method-assign,assignment]
    return factory, peer


def test_a_unix_socket(world: World) -> None:
    factory, peer = server(world, "S: 220 hi\nC: LHLO me.example.org\nS: 250 x")
    world.reactor.listenUNIX("/run/lmtp", factory)
    conversation = result_of(started(world, "/run/lmtp", lmtp=True))
    waiting = Deferred.fromCoroutine(conversation.hello())
    world.reactor.settle()
    result_of(waiting)
    assert (peer.left, peer.wrong) == ([], "")
    assert conversation.name == "/run/lmtp"


def test_from_an_address(world: World) -> None:
    factory, peer = server(world)
    world.reactor.listenTCP(25, factory, interface="127.0.0.1")
    result_of(started(world, "127.0.0.1", source="127.0.0.1"))
    transport: Any = peer.transport
    assert transport.getPeer().host == "127.0.0.1"


def test_from_an_address_that_is_not_ours(world: World) -> None:
    world.reactor.listenTCP(25, server(world)[0], interface="127.0.0.1")
    with pytest.raises(SessionError, match=r"^127\.0\.0\.1 cannot be|^the address to connect"):
        result_of(started(world, "127.0.0.1", source="198.51.100.7"))


def test_nobody_listens(world: World) -> None:
    with pytest.raises(SessionError) as caught:
        result_of(started(world, "127.0.0.1", 26, name="mx.example.net"))
    assert caught.value.text == "mx.example.net refused the connection"
    assert caught.value.reply is None


def test_no_such_path(world: World) -> None:
    with pytest.raises(SessionError, match=r"^/run/lmtp cannot be connected to: No such file"):
        result_of(started(world, "/run/lmtp"))


def test_a_host_that_does_not_answer(world: World) -> None:
    world.reactor.network.host("192.0.2.99").silent = True
    waiting = started(world, "192.0.2.99", name="mx.example.net")
    world.reactor.advance(6.5)
    assert not waiting.called
    world.reactor.advance(1)
    with pytest.raises(SessionError) as caught:
        result_of(waiting)
    assert caught.value.text == "mx.example.net did not answer within 7 seconds"


def test_cancelled_while_connecting(world: World) -> None:
    world.reactor.network.host("192.0.2.99").silent = True
    waiting = started(world, "192.0.2.99")
    waiting.cancel()
    with pytest.raises(CancelledError):
        result_of(waiting)
    world.reactor.settle()
    assert world.reactor.getDelayedCalls() == []


def test_cancelled_in_the_handshake(world: World) -> None:
    from test_client_tls import Trust

    factory, peer = server(world, "C* 1000000")
    world.reactor.listenTCP(25, factory, interface="127.0.0.1")
    waiting = started(world, "127.0.0.1", tls=Trust().client())
    assert not waiting.called
    waiting.cancel()
    with pytest.raises(CancelledError):
        result_of(waiting)
    world.reactor.advance(20)
    assert peer.closed
    assert world.reactor.getDelayedCalls() == []


def test_no_alarm_is_left(world: World) -> None:
    factory, peer = server(world, "S: 220 hi\nC: EHLO me.example.org\nS: 250 x\nC: QUIT\nS: 221 x")
    world.reactor.listenTCP(25, factory, interface="127.0.0.1")
    conversation = result_of(started(world, "127.0.0.1"))
    for step in (conversation.hello, conversation.quit):
        waiting = Deferred.fromCoroutine(step())
        world.reactor.settle()
        result_of(waiting)
    assert peer.closed
    assert world.reactor.getDelayedCalls() == []


def test_words_for_what_the_real_reactor_says() -> None:
    from twisted.internet.error import (
        ConnectError,
        ConnectionRefusedError,
        NoRouteError,
        TimeoutError,
    )

    from twisted_mail.smtp.client.protocol import _Connecting

    factory = _Connecting(None, "mx", 30)
    assert factory._words(ConnectionRefusedError()) == "mx refused the connection"
    assert factory._words(NoRouteError()) == "there is no route to mx"
    assert factory._words(TimeoutError()) == "mx did not answer within 30 seconds"
    assert factory._words(ConnectError(101)) == (
        "mx cannot be connected to: Network is unreachable"
    )
    assert factory._words(OSError("odd")) == "mx cannot be connected to: odd"
