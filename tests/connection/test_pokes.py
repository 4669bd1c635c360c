"""Sessions that speak unasked: when they are heard, and what that leaves as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from toy import BLOCK, TalkativeFactory, TalkativeSession, tls_options

from twisted_mail.connection.deadlines import Bounds
from twisted_mail.connection.interfaces import Answer, Then
from twisted_mail.connection.pokes import TURN, Pokes
from twisted_mail.testing import simulated_world

KIB = 1024
BOUNDS = Bounds(idle_seconds=300, handshake_seconds=30, message_seconds=1000)


def greeted(factory: TalkativeFactory) -> tuple[Any, TalkativeSession]:
    client = factory.connect()
    assert client.read() == b"hello\n"
    return client, factory.sessions[-1]


def reasons(log: list[dict[str, Any]]) -> list[str]:
    return [event["reason"] for event in log if "reason" in event]


def read_all(client: Any) -> bytes:
    received = b""
    while more := client.read():
        received += more
    return received


def test_what_is_said_unasked() -> None:
    client, session = greeted(TalkativeFactory())
    session.tell(b"news\n")
    assert client.read() == b"news\n"
    assert client.ask(b"echo 1\n") == b"1\n"
    session.tell(b"more\n")
    assert client.read() == b"more\n"
    assert session.pokes == 2


def test_it_is_never_said_within_the_call() -> None:
    client, session = greeted(TalkativeFactory())
    session.tell(b"news\n")
    assert session.pokes == 0
    client.read()
    assert session.pokes == 1


def test_many_pokes_are_one() -> None:
    client, session = greeted(TalkativeFactory())
    for _ in range(1000):
        session.poke()
    assert client.read() == b""
    assert session.pokes == 1


def test_a_poke_while_the_session_is_heard_is_another_one() -> None:
    client, session = greeted(TalkativeFactory())
    session.news = [None, Answer(b"more\n")]
    session.poke()
    client.read()
    session.poke()
    session.poke()
    assert client.read() == b""
    session.waits[0].callback(b"first")
    assert client.read() == b"news first\nmore\n"
    assert session.pokes == 2


def test_before_the_greeting() -> None:
    factory = TalkativeFactory(tls=tls_options(), implicit_tls=True)
    client = factory.connect()
    factory.sessions[0].tell(b"news\n")
    factory.world.reactor.settle()
    assert factory.sessions[0].pokes == 0
    client.start_tls(tls_options().authority, "localhost")
    assert client.read() == b"hello\nnews\n"


def test_between_answers_not_within_one() -> None:
    client, session = greeted(TalkativeFactory())
    client.send(b"wait 1\n")
    session.tell(b"news\n")
    assert client.read() == b""
    session.waits[0].callback(b"done")
    assert client.read() == b"1 done\nnews\n"


def test_a_command_that_comes_before_the_word_is_given() -> None:
    factory = TalkativeFactory()
    client, session = greeted(factory)
    (connection,) = factory.connections
    session.tell(b"news\n")
    connection.dataReceived(b"wait 1\n")
    factory.world.reactor.settle()
    assert session.pokes == 0
    session.waits[0].callback(b"done")
    assert client.read() == b"1 done\nnews\n"
    session.tell(b"news\n")
    connection.pauseProducing()
    factory.world.reactor.settle()
    assert session.pokes == 1
    connection.resumeProducing()
    assert client.read() == b"news\n"


def test_from_within_an_answer() -> None:
    client, session = greeted(TalkativeFactory())
    assert client.ask(b"tell a\necho 1\ntell b\n") == b"a\n1\nb\na!\n"
    assert session.news != []  # two pokes in one turn were one


def test_a_client_that_never_stops_asking_hears_it_too() -> None:
    client, session = greeted(TalkativeFactory())
    client.send(b"tell a\n" + b"thread x\n" * 10)
    answers = read_all(client)
    assert answers.startswith(b"a\n") and answers.count(b"x\n") == 10
    assert answers.index(b"a!\n") < len(answers)
    assert session.pokes == 1


def test_the_engine_stays_where_it_is() -> None:
    factory = TalkativeFactory()
    client, session = greeted(factory)
    assert client.ask(b"message\nhalf a li") == b"go on\n"
    session.tell(b"news\n")
    assert client.read() == b"news\n"
    assert factory.engines[0].midway
    assert client.ask(b"ne\n.\necho 1\n") == b"taken\n1\n"


def test_expect_means_nothing() -> None:
    factory = TalkativeFactory()
    client, session = greeted(factory)
    session.tell(Answer(b"news\n", expect=True))
    assert client.read() == b"news\n"
    assert not factory.engines[0].midway


def test_commands_that_come_while_it_is_made_ready_are_answered_after_it() -> None:
    client, session = greeted(TalkativeFactory())
    session.tell(None)
    assert client.ask(b"echo 1\n") == b""
    session.waits[0].callback(b"late")
    assert client.read() == b"news late\n1\n"


def test_a_body() -> None:
    factory = TalkativeFactory()
    client, session = greeted(factory)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"y" * BLOCK

    client.stop_reading()
    session.tell(Answer(b"news:", body=body()))
    factory.world.reactor.settle()
    (connection,) = factory.connections
    assert connection.bytes_written <= 128 * KIB
    client.send(b"echo 1\n")
    client.go_on_reading()
    assert read_all(client) == b"news:" + b"y" * 40 * BLOCK + b"1\n"


@pytest.mark.parametrize("under_tls", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_nothing_is_asked_of_a_session_whose_client_does_not_read(
    under_tls: bool, compressed: bool
) -> None:
    factory = TalkativeFactory(tls=tls_options(), implicit_tls=under_tls)
    client = factory.connect()
    if under_tls:
        client.start_tls(tls_options().authority, "localhost")
    client.read()
    session = factory.sessions[0]
    if compressed:
        client.ask(b"compress\n")
    client.stop_reading()
    (connection,) = factory.connections
    before = connection.bytes_written
    noise = factory.world.entropy(30 * KIB)
    for _ in range(100):
        session.tell(noise)
        factory.world.reactor.settle()
    assert 32 * KIB < connection.bytes_written - before <= 192 * KIB
    assert session.pokes < 7
    client.go_on_reading()
    while session.news:
        session.poke()
        client.read()
    assert session.pokes >= 100


def test_a_last_word() -> None:
    factory = TalkativeFactory()
    client, session = greeted(factory)
    session.tell(Answer(b"bye\n", Then.CLOSE))
    assert client.read() == b"bye\n"
    assert client.closed is not None
    assert not factory.connections


@pytest.mark.parametrize("then", [Then.START_TLS, Then.START_COMPRESSION])
def test_no_layer_is_started_unasked(then: Then, log: list[dict[str, Any]]) -> None:
    client, session = greeted(TalkativeFactory(tls=tls_options()))
    session.tell(Answer(b"", then))
    client.read()
    assert client.closed is not None
    assert [event["log_format"] for event in log if "log_failure" in event] == ["session failed"]
    log.clear()


def test_a_failure_is_logged_and_ends_the_connection(log: list[dict[str, Any]]) -> None:
    client, session = greeted(TalkativeFactory())
    session.tell(None)
    client.read()
    session.waits[0].errback(OSError("the disk is gone"))
    client.read()
    assert client.closed is not None
    assert reasons(log) == ["failure in the server"]
    log.clear()


def test_a_poke_after_the_end_does_nothing() -> None:
    factory = TalkativeFactory()
    client, session = greeted(factory)
    early = session.poke
    (connection,) = factory.connections
    session.tell(b"news\n")
    connection.abort("a test")
    session.poke()
    factory.world.reactor.settle()
    assert client.closed is not None
    session.poke()
    early()
    factory.world.reactor.settle()
    assert session.pokes == 0
    assert factory.world.reactor.getDelayedCalls() == []
    assert not hasattr(session.poke, "__self__")  # it keeps no connection alive


def test_a_client_that_goes_while_the_session_speaks() -> None:
    client, session = greeted(TalkativeFactory())
    session.tell(None)
    client.read()
    client.close()
    assert session.log == ["news over", "lost"]


def test_a_server_that_stops_while_the_session_speaks() -> None:
    factory = TalkativeFactory()
    client, session = greeted(factory)
    session.tell(None)
    client.read()
    drained = factory.drain()
    session.waits[0].callback(b"done")
    assert client.read() == b"news done\nclosing down\n"
    assert drained.called


def test_a_server_that_stops_lets_a_message_in_between_be_finished() -> None:
    factory = TalkativeFactory()
    client, session = greeted(factory)
    client.ask(b"message\n")
    session.tell(None)
    client.read()
    factory.drain()
    session.waits[0].callback(b"done")
    assert client.read() == b"news done\n"
    assert client.ask(b"line\n.\n") == b"taken\nclosing down\n"


def test_a_client_that_has_closed_its_side_hears_what_was_begun() -> None:
    factory = TalkativeFactory()
    _, session = greeted(factory)
    (connection,) = factory.connections
    session.tell(None)
    factory.world.reactor.settle()
    connection.readConnectionLost()
    assert connection in factory.connections
    session.waits[0].callback(b"done")
    factory.world.reactor.settle()
    assert not factory.connections


# Time


def test_what_is_said_unasked_does_not_prove_that_the_client_is_there(
    log: list[dict[str, Any]],
) -> None:
    factory = TalkativeFactory(bounds=BOUNDS)
    client, session = greeted(factory)
    for _ in range(2):
        factory.world.reactor.advance(100)
        session.tell(b"news\n")
        assert client.read() == b"news\n"
    factory.world.reactor.advance(50)
    session.tell(None)  # and neither does what takes a while
    client.read()
    factory.world.reactor.advance(25)
    session.waits[0].callback(b"done")
    assert client.read() == b"news done\n"
    factory.world.reactor.advance(24)
    assert client.read() == b""
    factory.world.reactor.advance(1)
    assert client.read() == b"timed out\n"
    assert reasons(log) == ["idle"]


def test_a_command_in_the_same_turn_does() -> None:
    factory = TalkativeFactory(bounds=BOUNDS)
    client, session = greeted(factory)
    session.tell(None)
    client.read()
    factory.world.reactor.advance(200)
    client.send(b"wait 1\n")
    session.waits[0].callback(b"done")
    factory.world.reactor.advance(290)
    session.waits[1].callback(b"done")
    assert client.read() == b"news done\n1 done\n"
    factory.world.reactor.advance(299)
    assert client.closed is None
    factory.world.reactor.advance(1)
    assert client.read() == b"timed out\n"


def test_a_client_that_does_not_read_the_news_is_cut_off(log: list[dict[str, Any]]) -> None:
    factory = TalkativeFactory(bounds=BOUNDS)
    client, session = greeted(factory)
    client.ask(b"patience 1800\n")
    client.stop_reading()
    session.tell(b"x" * 300_000)
    factory.world.reactor.advance(299)
    assert factory.connections
    factory.world.reactor.advance(1)
    assert not factory.connections
    assert reasons(log) == ["does not read"]


def test_how_long_a_client_may_be_idle_is_the_session_s_to_say() -> None:
    factory = TalkativeFactory(bounds=BOUNDS)
    client, _ = greeted(factory)
    client.ask(b"patience 1800\n")
    factory.world.reactor.advance(1799)
    assert client.ask(b"patience 60\n") == b"patience\n"
    factory.world.reactor.advance(59)
    assert client.ask(b"echo 1\n") == b"1\n"
    factory.world.reactor.advance(59)
    assert client.read() == b""
    factory.world.reactor.advance(1)
    assert client.read() == b"timed out\n"


def test_and_from_the_greeting_on() -> None:
    factory = TalkativeFactory(bounds=BOUNDS)

    class Strict(TalkativeSession):
        def __init__(self, world: Any) -> None:
            super().__init__(world)
            self.idle_seconds = 60.0

    factory.session = Strict
    client, _ = greeted(factory)
    factory.world.reactor.advance(60)
    assert client.read() == b"timed out\n"


def test_a_session_that_says_nothing_of_it_has_the_bounds_time() -> None:
    factory = TalkativeFactory(bounds=BOUNDS)
    client, _ = greeted(factory)
    factory.world.reactor.advance(299)
    assert client.read() == b""
    factory.world.reactor.advance(1)
    assert client.read() == b"timed out\n"


def test_a_patient_session_s_message_is_bounded_as_any() -> None:
    factory = TalkativeFactory(bounds=BOUNDS)
    client, _ = greeted(factory)
    client.ask(b"patience 1800\n")
    client.ask(b"message\n")
    factory.world.reactor.advance(1000)
    assert client.read() == b"timed out\n"


# Many


def test_a_thousand_pokes_are_one_timer_and_take_turns() -> None:
    world = simulated_world()
    reactor = world.reactor
    pokes = Pokes(reactor)
    heard: list[int] = []

    class Slow:
        def __init__(self, number: int) -> None:
            self.number = number

        def poked(self) -> None:
            reactor.rightNow += TURN / 10
            heard.append(self.number)
            if self.number < 3:
                self.number += 1000
                pokes.add(self)

    for number in range(100):
        pokes.add(Slow(number))
        assert len(reactor.getDelayedCalls()) == 1
    assert heard == []
    reactor.step()
    assert 9 <= len(heard) <= 11
    reactor.settle()
    assert heard == [*range(100), 1000, 1001, 1002]
    assert reactor.getDelayedCalls() == []


def test_a_session_may_have_a_slot_for_it() -> None:
    class Slotted:
        __slots__ = ("poke", "session")

        def __init__(self, world: Any) -> None:
            self.session = TalkativeSession(world)

        def __getattr__(self, name: str) -> Any:
            if name == "poke":
                raise AttributeError(name)
            return getattr(self.session, name)

    factory = TalkativeFactory()
    factory.session = Slotted  # type: ignore[assignment]
    client = factory.connect()
    client.read()
    factory.sessions[0].session.news.append(Answer(b"news\n"))
    factory.sessions[0].poke()
    assert client.read() == b"news\n"
