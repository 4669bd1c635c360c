"""`imap.engine`: transcripts, limits, what is refused, and any cut of the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mail.connection.interfaces import NEED_DATA, PAUSED
from twisted_mail.imap import commands as c
from twisted_mail.imap.engine import BLOCK, Engine
from twisted_mail.imap.events import (
    ACCEPT,
    IDLE,
    REFUSE,
    SASL,
    AppendBegin,
    AppendEnd,
    AppendMessage,
    CatenateEnd,
    CatenateText,
    CatenateUrl,
    Command,
    Content,
    ContentEnd,
    Done,
    Event,
    Invalid,
    LiteralWanted,
    SaslResponse,
    Terms,
)
from twisted_mail.imap.lines import ALARM
from twisted_mail.imap.sequence import SequenceSet

Answers = Callable[[Event], object]


def nothing(event: Event) -> object:
    return None


def joined(events: Iterable[Event]) -> list[tuple[Any, ...]]:
    """With the kind of each, and content in one piece."""
    made: list[tuple[Any, ...]] = []
    for event in events:
        if isinstance(event, Content):
            assert 0 < len(event.data) <= BLOCK
            if made and made[-1][0] == "Content":
                made[-1] = ("Content", made[-1][1] + event.data)
                continue
        made.append((type(event).__name__, *event))
    return made


class Peer:
    """Feeds an engine and answers at once."""

    def __init__(
        self,
        answers: Answers = nothing,
        *,
        logged_in: bool = True,
        utf8: bool = False,
        **limits: int,
    ) -> None:
        self.engine = Engine(**limits)
        self.engine.resume(Terms(logged_in, utf8))
        self.answers = answers
        self.events: list[Event] = []

    def say(self, data: bytes) -> list[Event]:
        start = len(self.events)
        self.engine.receive(data)
        while True:
            event = self.engine.next_event()
            if event is NEED_DATA:
                return self.events[start:]
            assert event is not PAUSED
            assert self.engine.next_event() is PAUSED
            self.events.append(event)  # type: ignore[arg-type]
            self.engine.resume(self.answers(event))  # type: ignore[arg-type]


def heard(data: bytes, answers: Answers = nothing, **options: Any) -> list[Event]:
    peer = Peer(answers, **options)
    peer.say(data)
    assert not peer.engine.buffered
    return peer.events


def check(found: list[Event], expected: list[Event]) -> None:
    assert joined(found) == joined(expected)


def noop(tag: bytes) -> Command:
    return Command(tag, "NOOP", c.NO_ARGUMENTS)


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


# -- bounds


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


# -- APPEND


def begin(
    tag: bytes, mailbox: str, name: str = "APPEND", replaced: bytes = b"", uid: bool = False
) -> AppendBegin:
    return AppendBegin(tag, name, mailbox, SequenceSet.parse(replaced) if replaced else None, uid)


def message(
    size: int | None,
    flags: tuple[str, ...] = (),
    date: int | None = None,
    *,
    binary: bool = False,
    utf8: bool = False,
    sync: bool = True,
    catenate: bool = False,
) -> AppendMessage:
    return AppendMessage(flags, date, size, binary, utf8, sync, catenate)


END = ContentEnd()


def test_append() -> None:
    # RFC 9051 section 6.3.12
    check(
        heard(b"A003 APPEND saved-messages (\\Seen) {7}\r\nA: b\r\n\n\r\nA4 NOOP\r\n"),
        [
            begin(b"A003", "saved-messages"),
            message(7, ("\\Seen",)),
            Content(b"A: b\r\n\n"),
            END,
            AppendEnd(),
            noop(b"A4"),
        ],
    )


def test_multiappend_and_dates() -> None:
    # RFC 3502
    check(
        heard(
            b'A APPEND {3}\r\nbox (\\Seen $a) " 7-Feb-1994 22:43:04 -0800" {1+}\r\nx '
            b'"17-jul-1996 02:44:25 +0000" {2}\r\nyz () ~{3+}\r\nA\0B\r\n'
        ),
        [
            LiteralWanted(3),
            begin(b"A", "box"),
            message(1, ("\\Seen", "$a"), 760689784, sync=False),
            Content(b"x"),
            END,
            message(2, (), 837571465),
            Content(b"yz"),
            END,
            message(3, (), binary=True, sync=False),
            Content(b"A\0B"),
            END,
            AppendEnd(),
        ],
    )


def test_utf8_message() -> None:
    # RFC 6855 section 4
    check(
        heard(b"A APPEND x UTF8 (~{2+}\r\nab) (\\Seen) UTF8 (~{0}\r\n)\r\nb NOOP\r\n"),
        [
            begin(b"A", "x"),
            message(2, binary=True, utf8=True, sync=False),
            Content(b"ab"),
            END,
            message(0, ("\\Seen",), binary=True, utf8=True),
            END,
            AppendEnd(),
            noop(b"b"),
        ],
    )
    check(
        heard(b"A APPEND x UTF8 (~{2+}\r\nab\r\nb NOOP\r\n")[-2:],
        [Invalid(b"A", ") is missing"), noop(b"b")],
    )
    check(
        heard(b"A APPEND x UTF8 ({2+}\r\nab)\r\nb NOOP\r\n"),
        [begin(b"A", "x"), Invalid(b"A", "UTF8 takes a literal8"), noop(b"b")],
    )


def test_replace() -> None:
    # RFC 8508
    for head, replaced, uid in ((b"REPLACE 4", b"4", False), (b"uid replace *", b"*", True)):
        check(
            heard(b"R " + head + b" Drafts (\\Draft) {1}\r\nx\r\n"),
            [
                begin(b"R", "Drafts", "REPLACE", replaced, uid),
                message(1, ("\\Draft",)),
                Content(b"x"),
                END,
                AppendEnd(),
            ],
        )
    check(
        heard(b"R UID REPLACE 4 {1+}\r\nx {1+}\r\ny\r\n")[:2],
        [begin(b"R", "x", "REPLACE", b"4", True), message(1, sync=False)],
    )


def test_catenate() -> None:
    # RFC 4469
    check(
        heard(
            b'A003 APPEND Drafts (\\Seen) CATENATE (URL "/Drafts;UID=20/;section=HEADER" TEXT {4}\r\n'
            b"\r\n--\nx URL {3}\r\n/a; TEXT {1+}\r\n) URL {2+}\r\n/b) (\\Draft) {1+}\r\nz\r\nb NOOP\r\n".replace(
                b"\nx URL", b" URL"
            )
        ),
        [
            begin(b"A003", "Drafts"),
            message(None, ("\\Seen",), sync=False, catenate=True),
            CatenateUrl(b"/Drafts;UID=20/;section=HEADER"),
            CatenateText(4, False, True),
            Content(b"\r\n--"),
            END,
            LiteralWanted(3),
            CatenateUrl(b"/a;"),
            CatenateText(1, False, False),
            Content(b")"),
            END,
            CatenateUrl(b"/b"),
            CatenateEnd(),
            message(1, ("\\Draft",), sync=False),
            Content(b"z"),
            END,
            AppendEnd(),
            noop(b"b"),
        ],
    )


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"a APPEND\r\n", "missing"),
        (b"a APPEND x\r\n", "missing"),
        (b"a APPEND x \r\n", "missing"),
        (b"a APPEND x (\\Seen)\r\n", "missing"),
        (b"a APPEND x (\\Foo) {8+}\r\nz NOOP\r\n\r\n", "system flag"),
        (b'a APPEND x "31-Feb-2000 00:00:00 +0000" {8+}\r\nz NOOP\r\n\r\n', "date"),
        (b"a APPEND x y {8}\r\n", "literal"),
        (b"a APPEND x {8+} \r\n", "literal"),
        (b"a APPEND R&D {8+}\r\nz NOOP\r\n\r\n", "UTF-7"),
        (b"a REPLACE x {8+}\r\nz NOOP\r\n\r\n", "number"),
        (b"a REPLACE 1:2 x {8+}\r\nz NOOP\r\n\r\n", "number"),
        (b"a REPLACE 9999999999 x {8+}\r\nz NOOP\r\n\r\n", "number"),
        (b"a REPLACE {8}\r\n", "number"),
        (b"a REPLACE {8+}\r\nz NOOP\r\n\r\n", "number"),
        (b"a APPEND x CATENATE ()\r\n", "URL or TEXT"),
        (b"a APPEND x CATENATE (FOO {8+}\r\nz NOOP\r\n)\r\n", "URL or TEXT"),
        (b"a APPEND x CATENATE (URL a\r\n", "space"),
        (b"a APPEND x CATENATE (TEXT a\r\n", "literal"),
        (b"a APPEND x {1+}\r\ny z\r\n", "literal"),
        (b"a APPEND x {1+}\r\nyz {8+}\r\nz NOOP\r\n\r\n", "space"),
    ],
)
def test_an_append_that_is_malformed(line: bytes, text: str) -> None:
    events = heard(line + b"b NOOP\r\n")
    check(events[-1:], [noop(b"b")])
    invalid = events[-2]
    assert isinstance(invalid, Invalid)
    assert invalid.tag == b"a"
    assert text in invalid.text


def test_what_a_literal_ends_with_announces_nothing() -> None:
    for head in (b"a APPEND {4+}", b"a APPEND ~{4+}"):
        events = heard(head + b"\r\n{8+}\r\nb NOOP\r\n")
        assert isinstance(events[-2], Invalid)
        check(events[-1:], [noop(b"b")])


def refusing(*kinds: type[object]) -> Answers:
    return lambda event: REFUSE if isinstance(event, kinds) else ACCEPT


def test_refused_when_synchronising_is_over_at_once() -> None:
    for kind in (AppendBegin, AppendMessage):
        events = heard(b"a APPEND x {8}\r\nb NOOP\r\n", refusing(kind))
        check(events[:1], [begin(b"a", "x")])
        check(events[-1:], [noop(b"b")])
        assert not any(isinstance(event, Content | Invalid) for event in events)


@pytest.mark.parametrize("kind", [AppendBegin, AppendMessage, Content, ContentEnd])
def test_refused_otherwise_is_swallowed(kind: type[object]) -> None:
    rest = b" (\\Seen) {8+}\r\nz NOOP\r\n UTF8 (~{3+}\r\nz\r\n)\r\nb NOOP\r\n"
    events = heard(b"a APPEND x {8+}\r\nz NOOP\r\n" + rest, refusing(kind))
    assert isinstance(events[-2], kind)
    check(events[-1:], [noop(b"b")])
    assert not any(isinstance(event, Invalid) for event in events)


@pytest.mark.parametrize("kind", [Content, ContentEnd])
def test_refused_after_it_was_asked_for(kind: type[object]) -> None:
    data = b"a APPEND x {16}\r\nz NOOP\r\nz NOOP\r\n {8+}\r\nz NOOP\r\n\r\nb NOOP\r\n"
    peer = Peer(refusing(kind))
    peer.say(data[:30])
    peer.say(data[30:])
    events = peer.events
    assert isinstance(events[-2], kind)
    check(events[-1:], [noop(b"b")])
    assert not any(isinstance(event, Invalid) for event in events)


@pytest.mark.parametrize("kind", [CatenateUrl, CatenateText])
def test_refused_parts(kind: type[object]) -> None:
    data = b"a APPEND x CATENATE (URL u TEXT {8+}\r\nz NOOP\r\n URL {2+}\r\nab)\r\nb NOOP\r\n"
    events = heard(data, refusing(kind))
    assert isinstance(events[-2], kind)
    check(events[-1:], [noop(b"b")])
    events = heard(b"a APPEND x CATENATE (URL u TEXT {8}\r\nb NOOP\r\n", refusing(kind))
    check(events[-1:], [noop(b"b")])


def test_a_long_url_is_refused() -> None:
    for plus, status in ((b"", "NO"), (b"+", "BAD")):
        data = b"a APPEND x CATENATE (URL {101" + plus + b"}\r\n"
        if plus:
            data += b"y" * 101 + b")\r\n"
        check(
            heard(data + b"b NOOP\r\n", max_literals=100)[-2:],
            [Invalid(b"a", "the literal is too large", "TOOBIG", status), noop(b"b")],  # type: ignore[arg-type]
        )


def test_content_passes_in_blocks() -> None:
    peer = Peer()
    peer.say(b"a APPEND x {%d}\r\n" % (3 * BLOCK))
    peer.engine.receive(b"y" * (3 * BLOCK))
    for _ in range(3):
        event = peer.engine.next_event()
        assert isinstance(event, Content)
        assert event.data == b"y" * BLOCK
        assert "y" not in repr(event)
        assert peer.engine.midway
        peer.engine.resume()
    check([peer.engine.next_event()], [END])  # type: ignore[list-item]
    peer.engine.resume()
    assert peer.engine.midway
    check(peer.say(b"\r\n"), [AppendEnd()])
    assert not peer.engine.midway


def test_the_line_behind_content_is_bounded() -> None:
    check(
        heard(b"a APPEND x {1+}\r\ny" + b"z" * 200 + b"\r\nb NOOP\r\n", max_line=100)[-2:],
        [Invalid(b"a", "the command is too long", "TOOBIG"), noop(b"b")],
    )


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
