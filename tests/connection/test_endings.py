"""How connections end: by time, errors, failures, a client that goes, a server that stops."""

from __future__ import annotations

from typing import Any

import pytest
from toy import ToyFactory, tls_options
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from twisted_mail.connection.deadlines import Bounds
from twisted_mail.connection.limits import ConnectionLimits
from twisted_mail.connection.wire import LINGER

BOUNDS = Bounds(idle_seconds=300, handshake_seconds=30, message_seconds=1000, message_rate=0)


def greeted(factory: ToyFactory) -> Any:
    client = factory.connect()
    assert client.read() == b"hello\n"
    return client


def reasons(log: list[dict[str, Any]]) -> list[str]:
    return [event["reason"] for event in log if "reason" in event]


# Time


def test_an_idle_client_is_told_and_left(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory(bounds=BOUNDS)
    client = greeted(factory)
    factory.world.reactor.advance(299)
    assert client.ask(b"echo 1\n") == b"1\n"
    factory.world.reactor.advance(299)
    # Bytes that are no command yet change nothing
    for byte in (b"e", b"c", b"h"):
        assert client.ask(byte) == b""
    factory.world.reactor.advance(1)
    assert client.read() == b"timed out\n"
    assert client.closed is not None
    assert reasons(log) == ["idle"]


def test_a_server_that_takes_its_time_is_not_an_idle_client() -> None:
    factory = ToyFactory(bounds=BOUNDS)
    client = greeted(factory)
    client.send(b"wait 1\n")
    for _ in range(10):
        factory.world.reactor.advance(299)
    factory.sessions[0].waits[0].callback(b"done")
    assert client.read() == b"1 done\n"
    factory.world.reactor.advance(299)
    assert client.closed is None
    factory.world.reactor.advance(1)
    assert client.read() == b"timed out\n"


def test_a_message_that_never_ends(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory(bounds=BOUNDS)
    client = greeted(factory)
    assert client.ask(b"message\n") == b"go on\n"
    for _ in range(9):
        factory.world.reactor.advance(100)
        assert client.ask(b"a line\n") == b""
    factory.world.reactor.advance(100)
    assert client.read() == b"timed out\n"
    assert reasons(log) == ["message takes too long"]


def test_the_time_of_a_message_ends_with_it() -> None:
    factory = ToyFactory(bounds=BOUNDS)
    client = greeted(factory)
    for _ in range(3):
        assert client.ask(b"message\n") == b"go on\n"
        for _ in range(4):
            factory.world.reactor.advance(200)
            assert client.ask(b"a line\n") == b""
        assert client.ask(b".\n") == b"taken\n"
    factory.world.reactor.advance(200)
    assert client.ask(b"echo 1\n") == b"1\n"


def test_a_message_that_is_too_late_while_the_server_is_busy_with_it() -> None:
    factory = ToyFactory(bounds=BOUNDS)
    client = greeted(factory)
    client.send(b"message\n")
    factory.world.reactor.advance(200)
    session = factory.sessions[0]
    session.do_content = session.do_wait  # type: ignore[method-assign]
    client.send(b"block\n")
    for _ in range(10):
        factory.world.reactor.advance(200)
    assert client.closed is None
    session.waits[0].callback(b"done")
    assert client.read() == b"go on\nblock done\ntimed out\n"


def test_a_client_that_does_not_read_is_cut_off(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory(bounds=BOUNDS)
    client = greeted(factory)
    client.stop_reading()
    client.send(b"big 300000\n")
    factory.world.reactor.advance(300)
    assert not factory.connections
    assert reasons(log) == ["does not read"]


def test_a_client_that_reads_slowly_is_not(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory(bounds=BOUNDS)
    client = greeted(factory)
    receive = client.dataReceived

    def one_block(data: bytes) -> None:
        receive(data)
        client.stop_reading()

    client.dataReceived = one_block
    client.send(b"big 1000000\n")
    received = 0
    while received < 1_000_000:
        more = client.read()
        assert 0 < len(more) <= 65536
        received += len(more)
        factory.world.reactor.advance(100)
        client.go_on_reading()
    assert reasons(log) == []


def test_last_words_that_nobody_takes_are_not_kept_for_ever(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory(bounds=BOUNDS)
    client = greeted(factory)
    client.stop_reading()
    client.send(b"bye\n")
    factory.world.reactor.advance(LINGER - 1)
    assert len(factory.connections) == 1
    factory.world.reactor.advance(1)
    assert not factory.connections
    assert reasons(log) == ["session ended"]


def test_a_client_that_never_begins_tls(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory(bounds=BOUNDS, tls=tls_options(), implicit_tls=True)
    client = factory.connect()
    factory.world.reactor.advance(30)
    assert client.closed is not None
    assert reasons(log) == ["no TLS handshake in time"]


def test_a_client_that_asks_for_tls_and_never_begins(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory(bounds=BOUNDS, tls=tls_options())
    client = greeted(factory)
    assert client.ask(b"tls\n") == b"ready\n"
    factory.world.reactor.advance(30)
    assert client.closed is not None
    assert reasons(log) == ["no TLS handshake in time"]


# Errors and failures


def test_too_many_errors() -> None:
    client = greeted(ToyFactory())
    answers = b"error\necho between\nerror\nerror\necho not reached\n"
    assert client.ask(answers) == b"error\nbetween\nerror\nerror\nenough\n"
    assert client.closed is not None


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (b"raise\n", "ValueError: a mistake of ours"),
        (b"broken\n", "OSError: the disk is gone"),
        (b"foreign\n", "TypeError: only Deferreds can be awaited here, not 'a future"),
        (b"echo \xff\n", "UnicodeDecodeError"),
    ],
)
def test_a_failure_cuts_the_connection_and_is_logged(
    command: bytes, error: str, log: list[dict[str, Any]]
) -> None:
    factory = ToyFactory()
    client = greeted(factory)
    client.send(command + b"echo not reached\n")
    assert client.closed is not None
    assert b"not reached" not in client.read()
    (failure,) = [event["log_failure"] for event in log if "log_failure" in event]
    assert f"{type(failure.value).__name__}: {failure.value}".startswith(error)
    assert reasons(log) == ["failure in the server"]
    assert factory.sessions[0].log[-1] == "lost"
    log.clear()


def test_a_failure_after_a_wait(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory()
    client = greeted(factory)
    client.send(b"wait 1\n")
    factory.sessions[0].waits[0].errback(OSError("the disk is gone"))
    client.send(b"")
    assert client.closed is not None
    assert factory.sessions[0].log == ["1 failed: OSError('the disk is gone')", "1 over", "lost"]
    log.clear()


def test_a_failure_in_what_follows_an_answer(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory()
    client = greeted(factory)
    client.send(b"wait 1\n")
    session = factory.sessions[0]

    def too_many_errors() -> bytes | None:
        raise ValueError("a mistake of ours")

    session.too_many_errors = too_many_errors  # type: ignore[method-assign]
    session.waits[0].callback(b"done")
    client.send(b"")
    assert client.closed is not None
    log.clear()


def test_a_session_that_does_not_let_go(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory()
    client = greeted(factory)

    def lost() -> None:
        raise ValueError("a mistake of ours")

    factory.sessions[0].lost = lost  # type: ignore[method-assign]
    client.close()
    assert not factory.connections
    assert [event["log_format"] for event in log if "log_failure" in event] == [
        "session did not let go"
    ]
    log.clear()


# A client that goes


def test_what_a_session_waits_for_is_cancelled_when_the_client_goes() -> None:
    factory = ToyFactory()
    client = greeted(factory)
    client.send(b"wait 1\necho 2\n")
    client.abort()
    (session,) = factory.sessions
    # No Exception was raised in it, which it would have answered; its `finally` has run.
    assert session.log == ["1 over", "lost"]
    assert session.waits[0].called  # cancelled, too


def test_a_body_is_ended_when_the_client_goes() -> None:
    factory = ToyFactory()
    client = greeted(factory)
    client.stop_reading()
    client.send(b"body 100\n")
    client.abort()
    assert factory.sessions[0].log == ["body over", "lost"]
    assert factory.sessions[0].blocks < 100


def test_a_body_that_waits_is_ended_too_and_may_wait_to_clean_up() -> None:
    factory = ToyFactory()
    client = greeted(factory)
    client.send(b"stuck\n")
    client.abort()
    client.read()
    assert factory.sessions[0].log == ["lost", "body over"]


def test_a_turn_that_was_to_come_does_not_come() -> None:
    factory = ToyFactory()
    transport = StringTransport()
    connection: Any = factory.buildProtocol(None)
    connection.makeConnection(transport)
    connection.dataReceived(b"echo x\n" * 1000)
    connection.abort("test")
    connection.connectionLost()
    written = transport.value()
    factory.world.reactor.advance(0)
    assert transport.value() == written
    assert factory.world.reactor.getDelayedCalls() == []


def test_one_line_of_log_at_the_beginning_and_one_at_the_end(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory(tls=tls_options(), implicit_tls=True)
    client = factory.connect("198.51.100.7")
    client.start_tls(tls_options().authority, "localhost")
    client.ask(b"echo 1\n")
    factory.world.reactor.advance(2.5)
    client.close()
    begin, end = log
    assert len(begin["connection"]) == 8
    assert begin["connection"] == end["connection"]
    for event in log:
        assert (event["protocol"], event["client"]) == ("toy", "198.51.100.7")
    assert end["tls"] == "TLSv1.3 TLS_AES_256_GCM_SHA384"
    assert (end["seconds"], end["bytes_read"], end["bytes_written"]) == (2.5, 7, 8)
    assert end["reason"] == "closed by the client"


def half_closing(factory: ToyFactory) -> tuple[Any, StringTransport]:
    transport = StringTransport()
    connection: Any = factory.buildProtocol(None)
    connection.makeConnection(transport)
    assert IHalfCloseableProtocol.providedBy(connection)
    return connection, transport


def test_a_client_that_sends_no_more_gets_its_answers(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory()
    connection, transport = half_closing(factory)
    connection.dataReceived(b"echo 1\nwait 2\necho 3\necho cut")
    connection.readConnectionLost()
    assert not transport.disconnecting
    factory.sessions[0].waits[0].callback(b"done")
    assert transport.value() == b"hello\n1\n2 done\n3\n"
    assert transport.disconnecting
    connection.connectionLost(Failure(ConnectionDone()))
    assert reasons(log) == ["closed by the client"]


def test_nor_does_it_wait_when_all_is_answered() -> None:
    connection, transport = half_closing(ToyFactory())
    connection.readConnectionLost()
    assert transport.disconnecting


def test_a_flood_and_an_end_of_sending() -> None:
    factory = ToyFactory()
    connection, transport = half_closing(factory)
    connection.dataReceived(b"echo x\n" * 10_000)
    connection.readConnectionLost()
    factory.world.reactor.advance(0)
    assert transport.value() == b"hello\n" + b"x\n" * 10_000
    assert transport.disconnecting


def test_tls_knows_no_half_closed_connection(log: list[dict[str, Any]]) -> None:
    connection, transport = half_closing(ToyFactory(tls=tls_options(), implicit_tls=True))
    connection.readConnectionLost()
    assert transport.disconnecting
    connection.writeConnectionLost()
    connection.connectionLost(Failure(ConnectionDone()))
    assert reasons(log) == ["lost during the TLS handshake"]


# A server that stops


def test_drain_ends_idle_sessions_at_once() -> None:
    factory = ToyFactory()
    clients = [greeted(factory) for _ in range(3)]
    done: list[None] = []
    factory.drain().addCallback(done.append)
    assert not done
    assert [client.read() for client in clients] == [b"closing down\n"] * 3
    assert done == [None]


def test_drain_without_connections_is_over_at_once() -> None:
    done: list[None] = []
    ToyFactory().drain().addCallback(done.append)
    assert done == [None]


def test_drain_lets_a_message_be_finished() -> None:
    factory = ToyFactory()
    client = greeted(factory)
    client.send(b"message\nfirst\n")
    done: list[None] = []
    factory.drain().addCallback(done.append)
    assert client.ask(b"second\n") == b"go on\n"
    assert client.ask(b".\necho not reached\n") == b"taken\nclosing down\n"
    assert client.closed is not None
    assert done == [None]


def test_drain_waits_for_an_answer_under_way() -> None:
    factory = ToyFactory()
    client = greeted(factory)
    client.send(b"wait 1\necho not reached\n")
    factory.drain()
    assert client.read() == b""
    factory.sessions[0].waits[0].callback(b"done")
    assert client.read() == b"1 done\nclosing down\n"


def test_drain_waits_for_a_client_that_reads_its_answers() -> None:
    factory = ToyFactory()
    client = greeted(factory)
    client.stop_reading()
    client.send(b"big 60000\nbig 60000\n")
    factory.drain()
    assert factory.connections
    client.go_on_reading()
    assert client.read()[120_000:] == b"closing down\n"
    assert not factory.connections


def test_drain_ends_handshakes_and_lets_nobody_in() -> None:
    factory = ToyFactory(tls=tls_options(), implicit_tls=True)
    client = factory.connect()
    factory.drain()
    client.send(b"")
    assert client.closed is not None
    late = factory.connect()
    assert late.read() == b""
    assert late.closed is not None


def test_abort_all_ends_what_drain_did_not() -> None:
    factory = ToyFactory()
    client = greeted(factory)
    client.send(b"wait 1\n")
    done: list[None] = []
    factory.drain().addCallback(done.append)
    factory.drain().addCallback(done.append)
    factory.abort_all()
    assert client.read() == b""
    assert client.closed is not None
    assert done == [None, None]


# Limits


def test_more_connections_than_there_may_be() -> None:
    factory = ToyFactory(limits=ConnectionLimits(3, 2))
    first, second = factory.connect("192.0.2.1"), factory.connect("192.0.2.1")
    third = factory.connect("192.0.2.1")
    assert third.read() == b"too many\n"
    assert third.closed is not None
    assert factory.connect("192.0.2.2").read() == b"hello\n"
    assert factory.connect("192.0.2.3").read() == b"too many\n"
    first.close()
    second.abort()
    assert factory.connect("192.0.2.3").read() == b"hello\n"
    assert factory.connect("192.0.2.1").read() == b"hello\n"


def test_a_client_over_the_limits_gets_no_handshake() -> None:
    factory = ToyFactory(limits=ConnectionLimits(0, 2), tls=tls_options(), implicit_tls=True)
    client = factory.connect()
    assert client.read() == b""
    assert client.closed is not None


def test_factories_share_their_limits() -> None:
    limits = ConnectionLimits(1, 1)
    one, other = ToyFactory(limits=limits), ToyFactory(limits=limits)
    client = one.connect()
    assert other.connect().read() == b"too many\n"
    client.close()
    assert other.connect().read() == b"hello\n"


def test_a_session_that_cannot_be_made_takes_no_place() -> None:
    factory = ToyFactory(limits=ConnectionLimits(1, 1))

    class Broken(ToyFactory):
        def make(self, ip: str, connection: str) -> Any:
            raise ValueError("a mistake of ours")

    broken = Broken(limits=factory._limits)
    with pytest.raises(ValueError, match="a mistake of ours"):
        broken.connect()
    assert factory.connect().read() == b"hello\n"


@pytest.mark.parametrize(
    ("address", "ip"),
    [
        (IPv4Address("TCP", "192.0.2.7", 1), "192.0.2.7"),
        (IPv6Address("TCP", "::ffff:192.0.2.7", 1), "192.0.2.7"),
        (IPv6Address("TCP", "2001:db8::7", 1), "2001:db8::7"),
        (UNIXAddress(b"/run/mail.sock"), ""),
        (None, ""),
    ],
)
def test_what_the_log_and_the_session_call_a_client(address: Any, ip: str) -> None:
    connection: Any = ToyFactory().buildProtocol(address)
    assert connection.client == ip


def test_implicit_tls_needs_a_certificate() -> None:
    with pytest.raises(ValueError, match="toy: TLS from the first byte needs a certificate"):
        ToyFactory(implicit_tls=True)
