"""Messages through `imap.engine`: APPEND, MULTIAPPEND, CATENATE, REPLACE, and what the session refuses of them."""

from __future__ import annotations

import pytest
from engine_peer import Answers, Peer, check, heard, noop

from twisted_mail.imap.engine import BLOCK
from twisted_mail.imap.events import (
    ACCEPT,
    REFUSE,
    AppendBegin,
    AppendEnd,
    AppendMessage,
    CatenateEnd,
    CatenateText,
    CatenateUrl,
    Content,
    ContentEnd,
    Invalid,
    LiteralWanted,
)
from twisted_mail.imap.sequence import SequenceSet


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
