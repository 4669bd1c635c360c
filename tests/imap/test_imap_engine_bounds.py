"""What `imap.engine` takes: lines, literals, how many; what is too much is swallowed in bounded memory."""

from __future__ import annotations

from engine_peer import Peer, check, heard, noop

from twisted_mail.imap import commands as c
from twisted_mail.imap.engine import BLOCK
from twisted_mail.imap.events import (
    Command,
    Invalid,
    LiteralWanted,
)
from twisted_mail.imap.lines import ALARM


def test_a_long_line() -> None:
    line = b"a LOGIN " + b"x" * 200 + b"\r\nb NOOP\r\n"
    long = Invalid(b"a", "the command is too long", "TOOBIG")
    check(heard(line, max_line=200), [long, noop(b"b")])
    check(
        heard(b"a LOGIN x {1}\r\ny" + b" " * 200 + b"\r\nb NOOP\r\n", max_line=200),
        [LiteralWanted(1), long, noop(b"b")],
    )
    exact = b"a NOOP" + b" " * 94
    check(heard(exact[:99] + b"\r\n", max_line=101), [noop(b"a")])
    check(heard(exact + b"\r\n", max_line=101), [long])


def test_lines_of_a_command_are_counted_together() -> None:
    data = b"a SEARCH" + b" SUBJECT {1+}\r\nx" * 10 + b"\r\nb NOOP\r\n"
    events = heard(data, max_line=100)
    check(events[:1], [Invalid(b"a", "the command is too long", "TOOBIG")])
    check(events[-1:], [noop(b"b")])
    assert isinstance(heard(data, max_line=200)[0], Command)


def test_a_literal_of_any_size_is_one() -> None:
    check(
        heard(b"a LOGIN {%b8+}\r\nz NOOP\r\n x\r\nb NOOP\r\n" % (b"0" * 30)),
        [Command(b"a", "LOGIN", c.Login(b"z NOOP\r\n", b"x")), noop(b"b")],
    )
    for line in (b"a LOGIN x {%b+}\r\n", b"a APPEND x {%b+}\r\n", b"a FOO {%b+}\r\n"):
        peer = Peer()
        peer.say(line % (b"9" * 40) + b"b NOOP\r\n")
        assert not any(isinstance(event, Command) for event in peer.events)
        assert peer.engine.midway


def test_literals_are_no_part_of_the_lines() -> None:
    data = b"a LOGIN {150}\r\n" + b"x" * 150 + b" {150}\r\n" + b"x" * 150 + b"\r\n"
    assert isinstance(heard(data, max_line=100)[-1], Command)


def test_a_literal_is_seen_behind_every_alarm() -> None:
    for missing in range(12):
        data = b"x" * (ALARM - missing) + b" {8+}\r\nz NOOP\r\n\r\nb NOOP\r\n"
        events = heard(data, max_line=100)
        assert sum(isinstance(event, Command) for event in events) == 1
        check(events[-1:], [noop(b"b")])


def test_a_long_line_with_a_literal_behind_it() -> None:
    check(
        heard(
            b"a LOGIN " + b"x" * 200 + b" {8+}\r\nz NOOP\r\n {2+}\r\nxy\r\nb NOOP\r\n", max_line=100
        ),
        [Invalid(b"a", "the command is too long", "TOOBIG"), noop(b"b")],
    )


def test_a_line_without_end_is_reported_again_and_again() -> None:
    peer = Peer(max_line=100)
    for _ in range(5 * ALARM // BLOCK):
        peer.say(b"x" * BLOCK)
        assert peer.engine.buffered < 100
    assert len(peer.events) == 5
    check(peer.events[:1], [Invalid(b"*", "a line without end", "TOOBIG")])
    check(peer.say(b"\r\nb NOOP\r\n")[1:], [noop(b"b")])


def test_a_synchronising_literal_that_is_too_large_is_not_read() -> None:
    large = Invalid(b"a", "the literal is too large", "TOOBIG", "NO")
    check(heard(b"a LOGIN {101}\r\nb NOOP\r\n", max_literals=100), [large, noop(b"b")])
    check(
        heard(b"a LOGIN {60}\r\n" + b"x" * 60 + b" {60}\r\nb NOOP\r\n", max_literals=100),
        [LiteralWanted(60), large, noop(b"b")],
    )


def test_another_one_is_swallowed() -> None:
    large = Invalid(b"a", "the literal is too large", "TOOBIG")
    data = b"a LOGIN {101+}\r\n" + b"z NOOP\r\n" * 12 + b"12345 {3+}\r\nb\r\n\r\nc NOOP\r\n"
    check(heard(data, max_literals=100), [large, noop(b"c")])


def test_it_is_swallowed_in_bounded_memory() -> None:
    peer = Peer()
    peer.say(b"a LOGIN {%d+}\r\n" % (100 * BLOCK))
    for _ in range(100):
        peer.say(b"\r\n" * (BLOCK // 2))
        assert not peer.engine.buffered
        assert peer.engine.midway
    assert peer.events == []
    check(
        peer.say(b" x\r\nb NOOP\r\n"),
        [Invalid(b"a", "the literal is too large", "TOOBIG"), noop(b"b")],
    )


def test_before_login_it_is_reported_while_it_comes() -> None:
    peer = Peer(logged_in=False)
    peer.say(b"a LOGIN {9999999999+}\r\n")
    for _ in range(3 * ALARM // BLOCK):
        peer.say(b"x" * BLOCK)
    assert [type(event) for event in peer.events] == [Invalid] * 3


def test_literal_minus_before_login() -> None:
    refusal = Invalid(b"a", "a non-synchronising literal has at most 4096 octets here", "TOOBIG")
    data = b"a LOGIN x {4097+}\r\n" + b"y" * 4097 + b"\r\n"
    check(heard(data, logged_in=False), [refusal])
    check(heard(data), [Command(b"a", "LOGIN", c.Login(b"x", b"y" * 4097))])
    data = data.replace(b"7+", b"7")
    assert len(heard(data, logged_in=False)) == 2
    data = b"a LOGIN x {4096+}\r\n" + b"y" * 4096 + b"\r\n"
    check(heard(data, logged_in=False), [Command(b"a", "LOGIN", c.Login(b"x", b"y" * 4096))])


def test_fewer_octets_before_login() -> None:
    data = b"a LOGIN x {9000}\r\n"
    check(heard(data, logged_in=False), [Invalid(b"a", "the literal is too large", "TOOBIG", "NO")])
    check(heard(b"a NOOP" + b" " * 20_000 + b"\r\n"), [noop(b"a")])
    check(
        heard(b"a NOOP" + b" " * 20_000 + b"\r\n", logged_in=False),
        [Invalid(b"a", "the command is too long", "TOOBIG")],
    )


def test_number_of_literals() -> None:
    data = b"a SEARCH" + b" SUBJECT {1+}\r\nx" * 4 + b"\r\nb NOOP\r\n"
    assert isinstance(heard(data, max_literal_count=4)[0], Command)
    check(
        heard(data, max_literal_count=3),
        [Invalid(b"a", "too many literals in a command", "LIMIT"), noop(b"b")],
    )


def test_a_long_tag_is_not_given_back() -> None:
    check(heard(b"a" * 300 + b" NOOP\r\n"), [Invalid(b"*", "the tag is too long")])
