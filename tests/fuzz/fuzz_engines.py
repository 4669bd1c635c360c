"""The engines: any cut of the stream gives the same events; what is kept is bounded; and, of SMTP and POP3, the events
are those that a reader of the whole stream finds by the rules of the RFC and nothing else.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from fuzzing import cut, target

from twisted_mail.connection.interfaces import NEED_DATA, PAUSED
from twisted_mail.imap import engine as imap
from twisted_mail.imap import events as e
from twisted_mail.imap.grammar import tag_of
from twisted_mail.pop3 import engine as pop3
from twisted_mail.smtp import engine as smtp
from twisted_mail.smtp.client.engine import (
    MAX_LINES,
    MAX_REPLY,
    MAX_TEXT,
    Reply,
    ReplyError,
    ReplyReader,
)

Answers = Callable[[Any], object]


def _events(engine: Any, pieces: Iterable[bytes], answer: Answers, bound: int) -> list[Any]:
    """All events, content in one piece. After each piece at most `bound` octets are kept."""
    events: list[Any] = []
    for piece in pieces:
        engine.receive(piece)
        while (event := engine.next_event()) is not NEED_DATA:
            assert event is not PAUSED
            assert engine.next_event() is PAUSED
            if isinstance(event, smtp.Block | e.Content):
                assert event.data
                if events and type(events[-1]) is type(event):
                    event = type(event)(events.pop().data + event.data)
            events.append(event)
            engine.resume(answer(event))
        assert engine.buffered <= bound
    return events


def _same(make: Callable[[], Any], stream: bytes, seed: int, answer: Answers, bound: int) -> Any:
    """The events of the stream in one piece, which are those of it in pieces."""
    whole = make()
    found = _events(whole, [stream], answer, bound)
    pieces = make()
    assert _events(pieces, cut(stream, seed), answer, bound) == found
    # What is kept may differ in what is dropped in the end, not in what is waited for.
    assert whole.midway == pieces.midway
    if len(stream) <= 128 and seed:
        assert _events(make(), cut(stream, 0), answer, bound) == found
    return found


# -- SMTP


def _smtp_answer(event: Any) -> object:
    """What a session that takes everything expects next."""
    if isinstance(event, smtp.Command):
        if event.verb == "DATA":
            return smtp.DATA
        if event.verb == "AUTH":
            return smtp.RESPONSE
        if event.verb == "BDAT" and event.argument[:5].isdigit() and len(event.argument) < 6:
            return smtp.Chunk(int(event.argument))
    return smtp.MORE if isinstance(event, smtp.EndOfChunk) else None


def _smtp_rules(stream: bytes, end: bytes, longest: int) -> list[Any] | None:
    """The same by a plain reading of RFC 5321. None: a line is too long for it."""
    events: list[Any] = []
    expect: object = None
    while stream:
        if expect is smtp.DATA:
            at = (b"\r\n" + stream).find(b"\r\n.\r\n")
            content = stream[:at] if at >= 0 else None
            if content is None:
                events.append("the rest is content")
                return events
            if content.startswith(b"."):
                content = content[1:]
            content = content.replace(b"\r\n.", b"\r\n")
            if content:
                events.append(smtp.Block(content))
            stream = stream[at + 3 :]
            events.append(smtp.EndOfData())
            expect = None
            continue
        if isinstance(expect, smtp.Chunk):
            if expect.size:
                events.append(smtp.Block(stream[: expect.size]))
                if len(stream) < expect.size:
                    return events
                stream = stream[expect.size :]
            events.append(smtp.EndOfChunk())
            expect = None
            continue
        line, found, rest = stream.partition(end)
        if len(line) + len(end) > longest:
            return None
        if not found:
            return events
        stream = rest
        line = line.rstrip(b" \t\r")
        if expect is smtp.RESPONSE:
            events.append(smtp.Response(line))
            expect = None
            continue
        verb, _, argument = line.partition(b" ")
        events.append(smtp.Command(verb.upper().decode("latin-1"), argument))
        expect = _smtp_answer(events[-1])
    if isinstance(expect, smtp.Chunk) and not expect.size:
        events.append(smtp.EndOfChunk())
    return events


@target("smtp")
def smtp_engine(data: bytes) -> None:
    """Octet 0: cut, octet 1: strictness and the longest line; the stream."""
    if len(data) < 2:
        return
    seed, options, stream = data[0], data[1], data[2:]
    strict = bool(options & 1)
    longest = 2048 if options & 2 else 32

    def make() -> smtp.SmtpEngine:
        return smtp.SmtpEngine(strict=strict, max_line=longest)

    found = _same(make, stream, seed, _smtp_answer, smtp.MAX_AUTH_LINE + 64)
    expected = _smtp_rules(stream, b"\r\n" if strict else b"\n", longest)
    if expected is not None:
        if expected and expected[-1] == "the rest is content":
            expected.pop()
            if len(found) > len(expected):
                assert type(found.pop()) is smtp.Block
        assert found == expected
    # STARTTLS with anything behind it: never taken over
    engine = make()
    for piece in cut(stream, seed):
        engine.receive(piece)
        while engine.next_event() not in (NEED_DATA, PAUSED):
            kept = engine.buffered
            assert engine.start_tls() is not bool(kept)
            engine.resume()


# -- POP3


def _pop3_answer(event: Any) -> object:
    return pop3.SASL_RESPONSE if getattr(event, "verb", b"") == b"AUTH" else None


@target("pop3")
def pop3_engine(data: bytes) -> None:
    """Octet 0: cut; the stream."""
    if not data:
        return
    stream = data[1:]
    found = _same(pop3.Engine, stream, data[0], _pop3_answer, pop3.MAX_SKIP)
    lines = stream.split(b"\n")[:-1]
    if any(len(line) >= pop3.MAX_COMMAND for line in stream.split(b"\n")):
        return
    sasl = False
    expected: list[Any] = []
    for line in lines:
        line = line.removesuffix(b"\r")
        if sasl:
            expected.append(pop3.SaslResponse(line))
            sasl = False
            continue
        verb, _, argument = line.partition(b" ")
        expected.append(pop3.Command(verb.upper(), argument))
        sasl = verb.upper() == b"AUTH"
    assert found == expected


# -- IMAP


def _imap_answers(choice: int) -> Answers:
    """A session that takes what comes, or refuses some of it, always the same at the same place."""

    def answer(event: Any) -> object:
        if isinstance(event, e.Command):
            if event.name == "AUTHENTICATE":
                return e.SASL
            if event.name == "IDLE":
                return e.IDLE
            if event.name == "LOGIN":
                return e.Terms(True, bool(choice & 1))
            return None
        if isinstance(event, e.Content):
            return None
        word = zlib.crc32(repr(event).encode()) ^ choice
        return e.REFUSE if choice & 6 == 6 and word & 3 == 3 else e.ACCEPT

    return answer


_IMAP_BOUND = 1 << 20
_ANNOUNCED = re.compile(rb"\{([0-9]+)\+\}\r?\Z")


def _imap_rules(stream: bytes) -> list[bytes]:
    """The tags of the commands that are whole, when no literal is synchronising, by RFC 9051 section 2.2.1: what is in
    a literal is no command, whatever became of the one around it."""
    tags: list[bytes] = []
    start = at = 0
    while (end := stream.find(b"\n", at)) >= 0:
        found = _ANNOUNCED.search(stream[at:end])
        at = end + 1 + (int(found[1]) if found else 0)
        if found is None:
            tags.append(tag_of(stream[start:at]))
            start = at
    return tags


@target("imap")
def imap_engine(data: bytes) -> None:
    """Octet 0: cut, octet 1: what is answered, and limits; the stream."""
    if len(data) < 2:
        return
    seed, options, stream = data[0], data[1], data[2:]
    limits = {}
    if options & 8:
        limits = {
            "max_line": 400,
            "max_line_before_login": 300,
            "max_literals": 40,
            "max_literals_before_login": 20,
            "max_literal_count": 3,
        }

    def make() -> imap.Engine:
        engine = imap.Engine(**limits)
        if options & 16:
            engine.resume(e.Terms(True, bool(options & 1)))
        return engine

    found = _same(make, stream, seed, _imap_answers(options), _IMAP_BOUND)
    # RFC 9051 section 2.2.1: nothing is answered under a tag that was not sent
    for event in found:
        tag = getattr(event, "tag", b"*")
        assert tag == b"*" or tag in stream
        assert not set(tag) & set(b' \r\n(){%*"\\+') or tag == b"*"
    names = {getattr(event, "name", "") for event in found}
    if not re.search(rb"\{[0-9]+\}", stream) and not names & {"IDLE", "AUTHENTICATE"}:
        answered = []
        begun = b""
        for event in found:
            if isinstance(event, e.AppendBegin):
                begun = event.tag
            elif isinstance(event, e.AppendEnd):
                answered.append(begun)
            elif isinstance(event, e.Command | e.Invalid):
                answered.append(event.tag)
        if options & 6 != 6:
            assert answered == _imap_rules(stream)
    # An append begins, goes on and ends in this order.
    state = ""
    for event in found:
        kind = type(event).__name__
        if kind == "Content" or kind == "ContentEnd":
            assert state in ("AppendMessage", "CatenateText", "Content")
        elif kind == "AppendEnd":
            assert state in ("ContentEnd", "CatenateEnd")
        if kind != "Content" or state != "Content":
            state = kind


# -- the outgoing client


_REPLY_LINE = re.compile(rb"([2-5][0-9]{2})(?:[ \t-](?s:.*))?")


def _reply_rules(stream: bytes) -> list[tuple[int, int] | None]:
    """Code and number of lines of each reply, by a plain reading of RFC 5321 section 4.2; None: that is none."""
    made: list[tuple[int, int] | None] = []
    codes: list[bytes] = []
    for line in stream.split(b"\n")[:-1]:
        line = line.removesuffix(b"\r")
        found = _REPLY_LINE.fullmatch(line)
        if found is None or (codes and found[1] != codes[0]):
            return [*made, None]
        codes.append(found[1])
        if line[3:4] != b"-":
            made.append((int(found[1]), len(codes)))
            codes = []
        elif len(codes) >= MAX_LINES:
            return [*made, None]
    return made


@target("smtp")
def smtp_replies(data: bytes) -> None:
    """A server's side of SMTP: any octets are replies, or a ReplyError; the same in any pieces, bounded."""
    if not data:
        return
    stream = data[1:]

    def replies(pieces: Iterable[bytes]) -> list[Reply | str]:
        reader = ReplyReader()
        found: list[Reply | str] = []
        for piece in pieces:
            reader.receive(piece)
            try:
                while (reply := reader.next_reply()) is not None:
                    found.append(reply)
            except ReplyError as error:
                found.append(str(error))
                return found
            assert reader.buffered <= MAX_REPLY
        return found

    found = replies([stream])
    assert replies(cut(stream, data[0])) == found
    assert [
        None if isinstance(one, str) else (one.code, len(one.lines)) for one in found
    ] == _reply_rules(stream)
    for reply in found:
        if isinstance(reply, str):
            assert reply.isprintable()
            continue
        assert 200 <= reply.code <= 599
        assert len(reply.lines) <= MAX_LINES
        assert len(reply.text) <= MAX_TEXT
        assert all(line.isprintable() and len(line) <= MAX_TEXT for line in reply.lines)
        assert reply.text.isprintable()
        assert not reply.enhanced or reply.enhanced[0] == str(reply.code)[0]
