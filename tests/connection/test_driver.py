"""What the driver does with any engine and session: order, turns, bounds, back-pressure, TLS."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st
from toy import ANSWERS, BLOCK, ToyFactory, tls_options
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from twisted_mail.connection.alarm import QUIET
from twisted_mail.connection.deadlines import Bounds
from twisted_mail.connection.protocol import EVENTS
from twisted_mail.connection.tls import release_buffers
from twisted_mail.connection.wire import Phase

KIB = 1024


def greeted(factory: ToyFactory) -> Any:
    client = factory.connect()
    assert client.read() == b"hello\n"
    return client


def secured(factory: ToyFactory) -> Any:
    """A client under TLS, after its handshake."""
    client = factory.connect()
    client.start_tls(tls_options().authority, "localhost")
    return client


def on(transport: StringTransport, factory: ToyFactory) -> Any:
    """A connection on a transport of the test's."""
    connection = factory.buildProtocol(None)
    assert connection is not None
    connection.makeConnection(transport)
    return connection


def read_all(client: Any) -> bytes:
    """Read until nothing more comes without the clock moving."""
    received = b""
    while more := client.read():
        received += more
    return received


# Order


def test_answers_as_commands_come() -> None:
    client = greeted(ToyFactory())
    assert client.ask(b"echo 1\n") == b"1\n"
    assert client.ask(b"echo") == b""
    assert client.ask(b" 2\necho 3\n") == b"2\n3\n"


def test_pipelined_commands_are_answered_in_order_when_the_first_waits() -> None:
    factory = ToyFactory()
    client = greeted(factory)
    assert client.ask(b"wait 1\necho 2\nwait 3\necho 4\n") == b""
    session = factory.sessions[0]
    assert len(session.waits) == 1
    session.waits[0].callback(b"done")
    assert client.read() == b"1 done\n2\n"
    session.waits[1].callback(b"done")
    assert client.read() == b"3 done\n4\n"


def test_a_failed_wait_is_the_session_s_to_answer(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory()
    client = greeted(factory)
    client.send(b"wait 1\n")
    factory.sessions[0].waits[0].errback(OSError("the disk is gone"))
    assert factory.sessions[0].log[0].startswith("1 failed: OSError")
    del log[:]


SCRIPT = toy.SCRIPT + b"echo 5\n"


@given(st.sets(st.integers(1, len(SCRIPT) - 1)))
def test_any_cut_gives_the_same_answers(cuts: set[int]) -> None:
    factory = ToyFactory()
    client = greeted(factory)
    for start, end in pairwise([0, *sorted(cuts), len(SCRIPT)]):
        client.send(SCRIPT[start:end])
    assert read_all(client) == ANSWERS
    assert client.closed is not None
    assert not factory.connections


# Turns


def test_answers_to_pipelined_commands_are_written_together() -> None:
    writes: list[bytes] = []

    class Transport(StringTransport):
        def write(self, data: bytes) -> None:
            writes.append(data)

    connection = on(Transport(), ToyFactory())
    connection.dataReceived(b"echo 1\necho 2\necho 3\n")
    assert writes == [b"hello\n", b"1\n2\n3\n"]


def test_a_hundred_thousand_commands_in_one_packet() -> None:
    factory = ToyFactory()
    transport = StringTransport()
    on(transport, factory).dataReceived(b"echo x\n" * 100_000)
    factory.world.reactor.advance(0)
    assert transport.value() == b"hello\n" + b"x\n" * 100_000


def test_ten_thousand_commands_half_of_which_wait() -> None:
    client = greeted(ToyFactory())
    commands = [f"{'thread' if n % 2 else 'echo'} {n}\n".encode() for n in range(10_000)]
    client.send(b"".join(commands))
    assert read_all(client) == b"".join(b"%d\n" % n for n in range(10_000))


def test_one_client_s_flood_lets_others_have_their_turn() -> None:
    factory = ToyFactory()
    flood, other = StringTransport(), StringTransport()
    flooding, modest = on(flood, factory), on(other, factory)
    flooding.dataReceived(b"echo x\n" * 10_000)
    modest.dataReceived(b"echo y\n")
    assert flood.value() == b"hello\n" + b"x\n" * EVENTS
    assert other.value() == b"hello\ny\n"
    factory.world.reactor.advance(0)
    assert flood.value() == b"hello\n" + b"x\n" * 10_000


def test_a_turn_ends_when_its_time_is_over() -> None:
    factory = ToyFactory()
    transport = StringTransport()
    connection = on(transport, factory)
    (session,) = factory.sessions
    session.seconds_per_event = 0.001
    connection.dataReceived(b"echo x\n" * 10)
    assert transport.value() == b"hello\n" + b"x\n" * 3


def test_what_looks_like_waiting_and_is_not_needs_no_stack() -> None:
    client = greeted(ToyFactory())
    client.send(b"tolerant\necho x\n" * 2000)
    assert read_all(client) == b"foreign\nx\n" * 2000


# Bytes that wait


def test_reading_stops_while_much_waits_for_an_answer() -> None:
    factory = ToyFactory()
    client = greeted(factory)
    client.send(b"wait 1\n" + b"echo x\n" * 100_000)
    for _ in range(20):
        factory.world.reactor.advance(0)
    assert factory.engines[0].buffered <= 2 * 64 * KIB
    factory.sessions[0].waits[0].callback(b"done")
    assert read_all(client) == b"1 done\n" + b"x\n" * 100_000


def test_the_bound_of_reading_ahead_can_be_set() -> None:
    factory = ToyFactory(bounds=Bounds(read_ahead_bytes=16 * KIB))
    client = greeted(factory)
    client.send(b"wait 1\n" + b"x" * 16 * KIB)
    client.send(b"x" * 200 * KIB)
    for _ in range(10):
        factory.world.reactor.advance(0)
    assert factory.engines[0].buffered <= 16 * KIB + 64 * KIB


def test_an_engine_that_needs_more_than_that_gets_it() -> None:
    client = greeted(ToyFactory())
    client.send(b"echo ")
    for _ in range(5):
        client.send(b"x" * 64 * KIB)
    client.send(b"\n")
    assert read_all(client) == b"x" * 5 * 64 * KIB + b"\n"


@pytest.mark.parametrize("under_tls", [False, True])
@pytest.mark.parametrize("command", [b"big 5000\n", b"big 200000\n", b"body 40\n"])
def test_nothing_is_answered_while_the_client_does_not_read(
    command: bytes, under_tls: bool
) -> None:
    factory = ToyFactory(tls=tls_options(), implicit_tls=under_tls)
    client = secured(factory) if under_tls else factory.connect()
    client.read()
    (connection,) = factory.connections
    before = connection.bytes_written
    client.stop_reading()
    for _ in range(5):
        client.send(command * 20)
    held = connection.bytes_written - before
    assert 32 * KIB < held <= 256 * KIB
    assert factory.sessions[0].blocks * BLOCK <= held + BLOCK
    assert factory.engines[0].buffered <= 2 * 64 * KIB
    client.go_on_reading()
    sizes = {b"big 5000\n": 5000, b"big 200000\n": 200_000, b"body 40\n": 5 + 40 * BLOCK}
    assert len(read_all(client)) == 100 * sizes[command]


def test_an_answer_that_comes_while_the_client_does_not_read_waits_too() -> None:
    factory = ToyFactory()
    client = greeted(factory)
    (connection,) = factory.connections
    client.stop_reading()
    client.send(b"big 50000\nbig 20000\nwait 1\necho 2\n")
    written = connection.bytes_written
    assert connection.blocked
    factory.sessions[0].waits[0].callback(b"done")
    assert connection.bytes_written == written
    client.go_on_reading()
    assert read_all(client)[70_000:] == b"1 done\n2\n"


def test_a_body_is_sent_before_the_next_command_is_taken() -> None:
    factory = ToyFactory()
    client = greeted(factory)
    client.stop_reading()
    client.send(b"body 20\necho 1\n")
    assert factory.engines[0].buffered > 0
    client.go_on_reading()
    assert read_all(client) == b"body:" + b"y" * 20 * BLOCK + b"1\n"
    assert factory.sessions[0].log == ["body over"]


# TLS


def test_starttls() -> None:
    factory = ToyFactory(tls=tls_options())
    client = greeted(factory)
    assert client.ask(b"tls\n") == b"ready\n"
    client.start_tls(tls_options().authority, "localhost")
    assert client.cipher == "TLS_AES_256_GCM_SHA384"
    assert client.read() == b""  # no second greeting
    assert factory.sessions[0].log == ["tls TLSv1.3 TLS_AES_256_GCM_SHA384"]
    client.send(b"echo 1\nthread 2\nbody 9\n")
    assert read_all(client) == b"1\n2\nbody:" + b"y" * 9 * BLOCK
    client.close()
    assert not factory.connections


def test_implicit_tls_greets_after_the_handshake() -> None:
    factory = ToyFactory(tls=tls_options(), implicit_tls=True)
    client = secured(factory)
    assert client.read() == b"hello\n"
    assert factory.sessions[0].log == ["tls TLSv1.3 TLS_AES_256_GCM_SHA384"]
    assert client.ask(b"echo 1\nbye\n") == b"1\nbye\n"
    assert client.closed is not None
    assert not factory.connections


@pytest.mark.parametrize("cut", range(1, len(b"echo 1\ntls\necho evil\n")))
def test_what_is_sent_in_clear_behind_starttls_is_never_run(cut: int) -> None:
    script = b"echo 1\ntls\necho evil\n"
    factory = ToyFactory(tls=tls_options())
    client = greeted(factory)
    client.send(script[:cut])
    client.send(script[cut:])
    received = client.read()
    # Cut right behind "tls" the rest is no TLS, and ends the handshake.
    assert received.startswith(b"1\nready\n" if cut == 11 else b"1\nrefused\n")
    assert b"evil" not in received
    assert client.closed is not None
    assert not any(entry.startswith("tls") for entry in factory.sessions[0].log)


def test_what_waited_behind_starttls_is_not_run_either() -> None:
    factory = ToyFactory(tls=tls_options())
    client = greeted(factory)
    client.send(b"wait 1\ntls\necho evil\n")
    factory.sessions[0].waits[0].callback(b"done")
    assert client.read() == b"1 done\nrefused\n"
    assert client.closed is not None


def test_a_failed_handshake_is_one_line_of_log(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory(tls=tls_options(), implicit_tls=True)
    client = factory.connect()
    del log[:]
    client.send(b"EHLO plain.example\r\n")
    assert client.closed is not None
    (event,) = log
    assert event["reason"].startswith("TLS handshake failed: ")
    assert event["tls"] is None
    assert "log_failure" not in event


def test_a_client_that_goes_during_the_handshake(log: list[dict[str, Any]]) -> None:
    factory = ToyFactory(tls=tls_options(), implicit_tls=True)
    client = factory.connect()
    del log[:]
    client.close()
    (event,) = log
    assert event["reason"] == "lost during the TLS handshake"
    assert not factory.connections


def test_certificates_that_cannot_be_used(log: list[dict[str, Any]]) -> None:
    @implementer(IOpenSSLServerConnectionCreator)
    class Broken:
        def serverConnectionForTLS(self, protocol: object) -> None:
            raise OSError("the key is gone")

    client = ToyFactory(tls=Broken(), implicit_tls=True).connect()
    assert client.closed is not None
    failures = [event for event in log if "log_failure" in event]
    assert [event["log_format"] for event in failures] == ["cannot start TLS"]
    log.clear()


def test_tls_where_there_is_none_is_a_failure_of_the_session(log: list[dict[str, Any]]) -> None:
    client = greeted(ToyFactory())
    assert client.ask(b"tls\n") == b""
    assert client.closed is not None
    assert [event["log_format"] for event in log if "log_failure" in event] == ["session failed"]
    log.clear()


def test_a_transport_that_is_tls_already_is_left_as_it_is() -> None:
    factory = ToyFactory()
    reactor = factory.world.reactor
    wrapper = TLSMemoryBIOFactory(tls_options(), False, factory, reactor)
    client = reactor.connect(wrapper)
    client.start_tls(tls_options().authority, "localhost")
    assert client.read() == b"hello\n"
    assert factory.sessions[0].log == ["tls TLSv1.3 TLS_AES_256_GCM_SHA384"]
    assert client.ask(b"echo 1\n") == b"1\n"
    (connection,) = factory.connections
    assert connection.phase is Phase.OPEN


def test_a_quiet_connection_gives_its_tls_buffers_back() -> None:
    factory = ToyFactory(tls=tls_options(), implicit_tls=True)
    client = secured(factory)
    client.read()
    (connection,) = factory.connections
    tls = connection._layer.connection
    before = tls._into_ssl, tls._from_ssl
    assert client.ask(b"echo " + b"x" * 50_000 + b"\n") == b"x" * 50_000 + b"\n"
    assert (tls._into_ssl, tls._from_ssl) == before
    factory.world.reactor.advance(2 * QUIET)
    assert tls._into_ssl != before[0] and tls._from_ssl != before[1]
    for _ in range(3):
        assert client.ask(b"echo " + b"y" * 50_000 + b"\n") == b"y" * 50_000 + b"\n"
        factory.world.reactor.advance(2 * QUIET)
    client.close()
    assert client.closed is not None
    assert not factory.connections


def test_tls_buffers_with_something_in_them_are_kept() -> None:
    factory = ToyFactory(tls=tls_options(), implicit_tls=True)
    client = secured(factory)
    client.read()
    (connection,) = factory.connections
    tls = connection._layer.connection
    client._transport.write(b"echo 1\n")
    client._transport.tls._aggregator.flush()
    record = bytes(client._transport._wire._out)
    tls.bio_write(record[:1])
    before = tls._into_ssl
    release_buffers(tls)
    assert tls._into_ssl == before
    tls.send(b"x")
    before = tls._from_ssl
    release_buffers(tls)
    assert tls._from_ssl == before


def test_a_pyopenssl_made_otherwise_is_left_alone() -> None:
    release_buffers(object())
