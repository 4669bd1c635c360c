"""POP3's engine: lines to events, whatever the cuts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.connection.interfaces import NEED_DATA, PAUSED, Signal
from twisted_mail.pop3.engine import (
    MAX_COMMAND,
    MAX_SASL_RESPONSE,
    MAX_SKIP,
    SASL_RESPONSE,
    Command,
    Engine,
    SaslResponse,
    TooLong,
)


def events(blocks: list[bytes], sasl: bytes = b"AUTH") -> list[object]:
    """All events of a stream; a line of the client follows each command `sasl`."""
    engine = Engine()
    found: list[object] = []
    for block in blocks:
        engine.receive(block)
        while not isinstance(event := engine.next_event(), Signal):
            assert engine.next_event() is PAUSED
            found.append(event)
            is_auth = isinstance(event, Command) and event.verb == sasl
            engine.resume(SASL_RESPONSE if is_auth else None)
            assert engine.midway is is_auth
        assert event is NEED_DATA
        assert engine.buffered <= MAX_SKIP
    return found


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"QUIT\r\n", Command(b"QUIT", b"")),
        (b"quit\n", Command(b"QUIT", b"")),
        (b"Retr 1\r\n", Command(b"RETR", b"1")),
        (b"PASS  two  spaces \r\n", Command(b"PASS", b" two  spaces ")),
        (b"PASS a\rb\r\n", Command(b"PASS", b"a\rb")),
        (b"USER j\xc3\xb8\r\n", Command(b"USER", b"j\xc3\xb8")),
        (b"\r\n", Command(b"", b"")),
        (b"\n", Command(b"", b"")),
    ],
)
def test_a_command(line: bytes, event: Command) -> None:
    assert events([line]) == [event]


def test_it_is_paused_until_each_event_is_answered() -> None:
    engine = Engine()
    assert engine.next_event() is NEED_DATA
    engine.receive(b"STAT\r\nNOOP\r\n")
    assert engine.next_event() == Command(b"STAT", b"")
    engine.receive(b"QUIT\r\n")
    assert engine.next_event() is PAUSED
    engine.resume()
    assert engine.next_event() == Command(b"NOOP", b"")
    engine.resume()
    assert engine.next_event() == Command(b"QUIT", b"")
    assert engine.buffered == 0


def test_lines_of_a_sasl_exchange_are_no_commands() -> None:
    assert events([b"AUTH PLAIN\r\nQUIT\r\nQUIT\r\n"]) == [
        Command(b"AUTH", b"PLAIN"),
        SaslResponse(b"QUIT"),
        Command(b"QUIT", b""),
    ]


def test_the_longest_command() -> None:
    longest = b"NOOP " + b"x" * (MAX_COMMAND - 7) + b"\r\n"
    assert len(longest) == 255
    assert events([longest]) == [Command(b"NOOP", b"x" * 248)]
    assert events([b"x" + longest + b"QUIT\r\n"]) == [TooLong(255), Command(b"QUIT", b"")]


def test_the_longest_line_of_a_sasl_exchange() -> None:
    line = b"x" * (MAX_SASL_RESPONSE - 2)
    assert events([b"AUTH\r\n" + line + b"\r\n"])[1] == SaslResponse(line)
    assert events([b"AUTH\r\n" + line + b"x\r\nQUIT\r\n"])[1:] == [
        TooLong(MAX_SASL_RESPONSE),
        Command(b"QUIT", b""),
    ]


def test_a_line_without_end_is_dropped_as_it_comes_and_reported_again() -> None:
    engine = Engine()
    reports = 0
    for _ in range(100):
        engine.receive(b"x" * 10_000)
        while engine.next_event() is not NEED_DATA:
            engine.resume()
            reports += 1
        assert engine.buffered < MAX_SKIP
    assert reports == 1 + (1_000_000 - MAX_COMMAND) // MAX_SKIP
    engine.receive(b"\nQUIT\r\n")
    assert engine.next_event() == Command(b"QUIT", b"")


def test_tls_starts_only_when_nothing_came_in_clear() -> None:
    engine = Engine()
    engine.receive(b"STLS\r\nUSER mallory\r\n")
    assert engine.next_event() == Command(b"STLS", b"")
    assert engine.start_tls() is False
    assert engine.next_event() is PAUSED
    clean = Engine()
    clean.receive(b"STLS\r\n")
    assert clean.next_event() == Command(b"STLS", b"")
    assert clean.start_tls() is True
    assert clean.next_event() is NEED_DATA
    assert clean.midway is False


PIECES = st.sampled_from(
    [b"AUTH ", b"\r\n", b"\n", b"\r", b"x" * 120, b"y" * 6000, b"z" * MAX_SKIP, b"\xff", b"QUIT"]
)


@given(st.lists(PIECES, max_size=12).map(b"".join), st.lists(st.integers(0, 200_000), max_size=8))
def test_any_cut_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(at, len(stream)) for at in cuts), len(stream)]
    blocks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert events(blocks) == events([stream])


@given(st.lists(st.binary()))
def test_no_bytes_make_it_raise(blocks: list[bytes]) -> None:
    assert events(blocks) == events([b"".join(blocks)])
