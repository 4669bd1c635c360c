"""`imap.engine`: transcripts, and any cut of the stream."""

from __future__ import annotations

from typing import Any

from engine_peer import Answers, Peer, check, heard, joined, noop
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mail.connection.interfaces import NEED_DATA, PAUSED
from twisted_mail.imap import commands as c
from twisted_mail.imap.engine import Engine
from twisted_mail.imap.events import (
    IDLE,
    REFUSE,
    SASL,
    Command,
    Done,
    Event,
    Invalid,
    LiteralWanted,
    SaslResponse,
    Terms,
)
from twisted_mail.imap.lines import ALARM

# -- commands


def test_commands_in_their_order() -> None:
    check(
        heard(b"a noop\r\nb NOOP\nc LOGIN x {2}\r\nyz\r\n"),
        [noop(b"a"), noop(b"b"), LiteralWanted(2), Command(b"c", "LOGIN", c.Login(b"x", b"yz"))],
    )


def test_literals_of_either_kind() -> None:
    check(
        heard(b"a LOGIN {2}\r\nx\n {3+}\r\n{1}\r\nb NOOP\r\n"),
        [LiteralWanted(2), Command(b"a", "LOGIN", c.Login(b"x\n", b"{1}")), noop(b"b")],
    )


def test_what_is_malformed() -> None:
    check(
        heard(b"a FOO\r\n\r\n+ x\r\nb CREATE R&D\r\nc NOOP\r\n"),
        [
            Invalid(b"a", "there is no such command"),
            Invalid(b"*", "a tag is missing"),
            Invalid(b"*", "a tag is missing"),
            Invalid(b"b", "a shift without an end in modified UTF-7", "CANNOT", "NO"),
            noop(b"c"),
        ],
    )


def test_utf8_terms() -> None:
    for utf8, name in ((False, "ä"), (True, "&AOQ-")):
        (command,) = heard(b"a DELETE &AOQ-\r\n", utf8=utf8)
        assert isinstance(command, Command)
        assert command.args == c.Delete(name)


def test_midway_and_buffered() -> None:
    peer = Peer()
    assert not peer.engine.midway
    peer.say(b"a LOG")
    assert not peer.engine.midway
    assert peer.engine.buffered == 5
    peer.say(b"IN x {5}\r\n")
    assert peer.engine.midway
    peer.say(b"alice\r\n")
    assert not peer.engine.midway


# -- SASL, IDLE, TLS, compression


def expecting(expect: object, name: str) -> Answers:
    return lambda event: expect if isinstance(event, Command) and event.name == name else None


def test_sasl() -> None:
    check(
        heard(
            b"a AUTHENTICATE PLAIN\r\nAGE=\r\nb NOOP\r\nc AUTHENTICATE X\r\n*\r\n",
            expecting(SASL, "AUTHENTICATE"),
            logged_in=False,
        ),
        [
            Command(b"a", "AUTHENTICATE", c.Authenticate("PLAIN", None)),
            SaslResponse(b"AGE="),
            noop(b"b"),
            Command(b"c", "AUTHENTICATE", c.Authenticate("X", None)),
            SaslResponse(b"*"),
        ],
    )


def test_sasl_is_midway_and_prints_nothing() -> None:
    peer = Peer(expecting(SASL, "AUTHENTICATE"))
    peer.say(b"a AUTHENTICATE PLAIN\r\n")
    assert peer.engine.midway
    (event,) = peer.say(b"AGE=\r\n")
    assert "AGE" not in repr(event)


def test_idle() -> None:
    peer = Peer(expecting(IDLE, "IDLE"))
    peer.say(b"a IDLE\r\n")
    assert not peer.engine.midway
    check(peer.say(b"done\r\nb NOOP\r\n"), [Done(), noop(b"b")])


def test_anything_but_done_ends_idle() -> None:
    check(
        heard(b"a IDLE\r\nb NOOP\r\nc NOOP\r\n", expecting(IDLE, "IDLE"))[1:],
        [Invalid(b"a", "DONE was expected"), noop(b"c")],
    )


def test_a_literal_in_idle_is_not_run() -> None:
    check(
        heard(b"a IDLE\r\nb APPEND x {8+}\r\nz NOOP\r\n\r\nc NOOP\r\n", expecting(IDLE, "IDLE"))[
            1:
        ],
        [Invalid(b"a", "DONE was expected"), noop(b"c")],
    )


def test_start_tls_only_when_nothing_is_buffered() -> None:
    engine = Engine()
    engine.resume(Terms(True, True))
    engine.receive(b"a STARTTLS\r\nb NOOP\r\n")
    engine.next_event()
    assert not engine.start_tls()
    assert engine.next_event() is PAUSED
    engine.resume()
    engine.next_event()
    engine.receive(b"")
    assert engine.start_tls()
    assert engine.next_event() is NEED_DATA
    engine.receive(b"a X {9000}\r\n")  # and the login is forgotten
    check([engine.next_event()], [Invalid(b"a", "the literal is too large", "TOOBIG", "NO")])  # type: ignore[list-item]


def test_give_back() -> None:
    engine = Engine()
    engine.receive(b"a COMPRESS DEFLATE\r\n\x01\x02")
    engine.next_event()
    assert engine.give_back() == b"\x01\x02"
    assert engine.buffered == 0
    engine.resume()
    engine.receive(b"b NOOP\r\n")
    check([engine.next_event()], [noop(b"b")])  # type: ignore[list-item]


# -- any cut, any bytes

PIECES = st.sampled_from(
    [
        b"a NOOP\r\n",
        b"a LOGIN x {3}\r\nabc\r\n",
        b"a LOGIN {3+}\r\nabc {1+}\r\nd\r\n",
        b"a LOGIN x {30}\r\n",
        b"a LOGIN x {30+}\r\n" + b"z NOOP\r\n" * 3 + b"abcdef\r\n",
        b"a " + b"x" * 90 + b" {8+}\r\nz NOOP\r\n\r\n",
        b"a APPEND x (\\Seen) {5}\r\nab\r\nc {2+}\r\nde\r\n",
        b"a APPEND {1}\r\nx UTF8 (~{3+}\r\n)\r\n)\r\n",
        b"a APPEND x CATENATE (TEXT {2}\r\nab URL {2+}\r\n/x URL u TEXT {1+}\r\ny)\r\n",
        b"a UID REPLACE 5 x {2+}\r\nxy\r\n",
        b"a APPEND {4+}\r\n{8+} {4+}\r\n{8+}\r\n",
        b"a APPEND x CATENATE (URL {4+}\r\n{8+} URL ~{4+}\r\n{8+})\r\n",
        b"a APPEND x {3+}\r\nabc y {8+}\r\nz NOOP\r\n\r\n",
        b"a IDLE\r\nDONE\r\n",
        b"a IDLE\r\nb X {8+}\r\nz NOOP\r\n\r\n",
        b"a AUTHENTICATE PLAIN\r\nAGE=\r\n",
        b"\r\n",
        b"a FETCH 1 BODY[\r\n",
    ]
)


def deciding(refused: frozenset[str]) -> Answers:
    def answer(event: Event) -> object:
        if isinstance(event, Command):
            return {"IDLE": IDLE, "AUTHENTICATE": SASL}.get(event.name)
        return REFUSE if type(event).__name__ in refused else None

    return answer


REFUSALS = st.frozensets(
    st.sampled_from(("AppendBegin", "AppendMessage", "ContentEnd", "CatenateUrl", "CatenateText")),
    max_size=2,
)
LIMITS = {
    "max_line": 90,
    "max_line_before_login": 90,
    "max_literals": 20,
    "max_literals_before_login": 20,
}


def in_cuts(data: bytes, cuts: list[int], refused: frozenset[str], logged_in: bool) -> list[Any]:
    peer = Peer(deciding(refused), logged_in=logged_in, **LIMITS)
    last = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        peer.say(data[last:cut])
        last = cut
    return joined(peer.events)


@settings(max_examples=300)
@given(
    st.lists(PIECES, max_size=6).map(b"".join),
    st.lists(st.integers(0, 1000), max_size=8),
    REFUSALS,
    st.booleans(),
)
def test_any_cut_gives_the_same_events(
    data: bytes, cuts: list[int], refused: frozenset[str], logged_in: bool
) -> None:
    whole = in_cuts(data, [], refused, logged_in)
    assert in_cuts(data, cuts, refused, logged_in) == whole
    assert in_cuts(data, list(range(len(data))), refused, logged_in) == whole
    assert not any(event[1:2] == (b"z",) for event in whole)  # no literal was run


@settings(max_examples=300)
@given(
    st.lists(
        PIECES
        | st.binary(max_size=5)
        | st.sampled_from((b"{8+}\r\n", b"{", b"a APPEND ", b"(", b"\r\n", b" CATENATE (", b"URL "))
        | st.builds(lambda piece, at: piece[:at] + piece[at + 1 :], PIECES, st.integers(0, 40)),
        max_size=8,
    ).map(b"".join),
    st.lists(st.integers(0, 1000), max_size=5),
    REFUSALS,
    st.booleans(),
)
def test_no_bytes_make_it_raise(
    data: bytes, cuts: list[int], refused: frozenset[str], logged_in: bool
) -> None:
    assert in_cuts(data, cuts, refused, logged_in) == in_cuts(data, [], refused, logged_in)


def test_alarms_come_at_the_same_octets() -> None:
    data = b"x" * (2 * ALARM + 1000) + b" {8+}\r\nz NOOP\r\n\r\nb NOOP\r\n"
    outcomes = []
    for step in (len(data), 1000, 4099, ALARM - 1):
        peer = Peer(max_line=100)
        seen = []
        for at in range(0, len(data), step):
            peer.say(data[at : at + step])
            seen.append(len(peer.events))
        outcomes.append(joined(peer.events))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert len(outcomes[0]) == 4
