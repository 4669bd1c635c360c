"""A greeting that the session waits with: who speaks first is told, nothing is answered before it."""

from __future__ import annotations

from collections.abc import Callable

from toy import ToyFactory, ToySession
from twisted.internet.defer import Deferred

from twisted_mail.connection.interfaces import Answer, Then


class Slow(ToySession):
    """Greets when `gate` is fired; sends away who has spoken by then and is not to."""

    gate: Deferred[None]

    async def greet(self, early: Callable[[], bool]) -> Answer:
        self.gate = Deferred()
        try:
            await self.gate
        finally:
            self.log.append("greeted")
        if early():
            return Answer(b"wait for the greeting\n", Then.CLOSE)
        return Answer(b"slow hello\n")


class SlowFactory(ToyFactory):
    session = Slow


class Lenient(Slow):
    async def greet(self, early: Callable[[], bool]) -> Answer:
        await super().greet(early)
        return Answer(b"early hello\n" if early() else b"slow hello\n")


class LenientFactory(ToyFactory):
    session = Lenient


def test_the_greeting_comes_when_the_session_has_it() -> None:
    factory = SlowFactory()
    client = factory.connect()
    assert client.read() == b""
    factory.sessions[0].gate.callback(None)
    assert client.read() == b"slow hello\n"
    assert client.ask(b"echo 1\n") == b"1\n"


def test_who_speaks_first_can_be_sent_away() -> None:
    factory = SlowFactory()
    client = factory.connect()
    assert client.ask(b"echo 1\necho 2\n") == b""
    factory.sessions[0].gate.callback(None)
    assert client.read() == b"wait for the greeting\n"
    assert client.closed


def test_what_came_before_the_greeting_is_answered_behind_it() -> None:
    factory = LenientFactory()
    client = factory.connect()
    assert client.ask(b"echo 1\necho 2\n") == b""
    factory.sessions[0].gate.callback(None)
    assert client.read() == b"early hello\n1\n2\n"


def test_a_client_that_leaves_ends_the_wait() -> None:
    factory = SlowFactory()
    client = factory.connect()
    client.close()
    assert factory.sessions[0].log == ["greeted", "lost"]


def test_a_server_that_stops_sends_away_who_waits_for_it() -> None:
    factory = SlowFactory()
    client = factory.connect()
    factory.drain()
    factory.sessions[0].gate.callback(None)
    assert client.read() == b"slow hello\nclosing down\n"
    assert client.closed
