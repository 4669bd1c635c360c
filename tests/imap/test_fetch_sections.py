"""Sections and partials to the byte: in memory and streamed, whatever line ends the file has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_mail.imap.fetch_binary import binary_reader
from twisted_mail.imap.fetch_large import Mark, octets, stored_range
from twisted_mail.imap.fetch_plan import plan
from twisted_mail.imap.fetch_sections import body_start, reader, wire
from twisted_mail.imap.fetch_stream import Streaming
from twisted_mail.imap.fetching import BinarySection, BinarySize, BodySection
from twisted_mail.imap.refusal import Unfinished
from twisted_mail.message.part import walk
from twisted_mail.message.structure import scan
from twisted_mail.message.wire import wire_size
from twisted_mail.turns import Pace, Turns

EMBEDDED = (
    b"Subject: outer\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\npreamble\n"
    b"--b\n\nfirst\n--b\nContent-Type: message/rfc822\n\nSubject: inner\nTo: a@b\n\ninner body\n\n--b\n"
    b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\naGVs\nbG8g\ndGhl\ncmU=\n--b\n"
    b"Content-Transfer-Encoding: quoted-printable\n\nso=\nft =3D hard  \nend\n--b--\nepilogue"
)
PARTS = ((), (1,), (2,), (2, 1), (3,), (4,), (5,), (1, 1))
pieces = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b"\r",
        b"a",
        b"Subject: x",
        b"--b",
        b"--b--",
        b" ",
        b"=",
        b"aGVsbG8=",
        b"=C3=A9",
        b"\xc3",
    ]
)
HEADS = (
    b"",
    b"Content-Type: multipart/mixed; boundary=b\nMIME-Version: 1.0\n\n--b\n",
    b"Content-Type: message/rfc822\nMIME-Version: 1.0\r\n\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\nMIME-Version: 1.0\r\n\r\n--b\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n",
)
messages = st.one_of(
    st.sampled_from([EMBEDDED, EMBEDDED.replace(b"\n", b"\r\n")]),
    st.builds(
        lambda head, rest: head + b"".join(rest),
        st.sampled_from(HEADS),
        st.lists(pieces, max_size=25),
    ),
)


def body(
    part: tuple[int, ...] = (), text: str = "", partial: Any = None, fields: Any = ()
) -> BodySection:
    return BodySection(part, text, tuple(fields), True, partial, b"BODY[]")


def literal(line: bytes) -> bytes:
    """What is in an item's literal, which is as long as it says."""
    head, _, data = line.partition(b"}\r\n")
    assert int(head.rpartition(b"{")[2]) == len(data)
    return data


def read(content: bytes, item: Any) -> bytes:
    made = reader(item) if isinstance(item, BodySection) else binary_reader(item)
    return made(content, scan(content))


class Large:
    """A `LargeContent` that gives no more than `most` octets at once."""

    def __init__(self, content: bytes, most: int = 1 << 20) -> None:
        self.content = content
        self.size = len(content)
        self._most = most
        self.asked = 0

    async def read(self, offset: int, size: int) -> bytes:
        data = self.content[offset : offset + min(size, self._most)]
        self.asked += len(data)
        return data

    def close(self) -> None:
        pass


def unhurried() -> Pace:
    """Of a clock that stands still."""
    return Pace(Turns(Clock()))


async def breathe() -> None:
    pass


def joined(pieces: AsyncIterator[bytes]) -> bytes:
    async def run() -> bytes:
        return b"".join([piece async for piece in pieces])

    coroutine = run()
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    said: bytes = stopped.value.value
    return said


def streamed(content: bytes, item: Any, mark: Mark | None = None, most: int = 1 << 20) -> bytes:
    """The item as it is streamed."""
    batch: Any = type("One", (), {"numbers": [7]})
    streaming = Streaming(9, Large(content, most), scan(content), mark or Mark(), unhurried())
    said = joined(streaming.line(plan([item]), batch))
    assert said.startswith(b"* 7 FETCH (") and said.endswith(b")\r\n")
    return said[11:-3]


@given(messages)
def test_header_and_text_are_the_message(content: bytes) -> None:
    whole = literal(read(content, body()))
    assert (
        literal(read(content, body(text="HEADER"))) + literal(read(content, body(text="TEXT")))
        == whole
    )
    assert len(whole) == wire_size(content)
    assert body_start(content) == scan(content).body


@given(messages)
def test_sizes_of_the_structure_are_those_of_the_sections(content: bytes) -> None:
    root = scan(content)
    for part in walk(root):
        assert len(wire(content, part.start, part.body)) == part.header_octets
        assert len(wire(content, part.body, part.end)) == part.octets


@given(
    messages,
    st.integers(1, 40),
    st.sampled_from(PARTS),
    st.sampled_from(["", "HEADER", "TEXT", "MIME"]),
)
def test_partials_make_up_the_section(
    content: bytes, step: int, part: tuple[int, ...], text: str
) -> None:
    if text == "MIME" and not part:
        return
    whole = literal(read(content, body(part, text)))
    some = [
        literal(read(content, body(part, text, (first, step))))
        for first in range(0, len(whole) + step, step)
    ]
    assert b"".join(some) == whole
    assert not literal(read(content, body(part, text, (len(whole) + 1, step))))


@given(
    messages,
    st.sampled_from(PARTS),
    st.sampled_from(["", "HEADER", "TEXT", "MIME"]),
    st.one_of(st.none(), st.tuples(st.integers(0, 60), st.integers(1, 60))),
    st.integers(1, 30),
)
@settings(max_examples=300)
def test_large_messages_say_the_same(
    content: bytes, part: tuple[int, ...], text: str, partial: Any, most: int
) -> None:
    if text != "MIME" or part:
        item = body(part, text, partial)
        assert streamed(content, item, most=most) == read(content, item)
    fields = body(part, "HEADER.FIELDS", partial, [b"subject", b"To"])
    assert streamed(content, fields, most=most) == read(content, fields)
    binary = BinarySection(part, True, partial, b"BINARY[]")
    assert streamed(content, binary, most=most) == read(content, binary)
    size = BinarySize(part, b"BINARY.SIZE[]")
    assert streamed(content, size, most=most) == read(content, size)


@given(
    messages,
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=8),
    st.integers(2, 9),
)
def test_a_mark_changes_nothing(content: bytes, steps: list[tuple[int, int]], most: int) -> None:
    mark = Mark()
    for partial in steps:
        item = body((), "", partial)
        assert streamed(content, item, mark, most) == read(content, item)


def test_a_mark_saves_reading() -> None:
    content = b"A: b\n\n" + b"a line\n" * 200_000
    whole = wire(content, 0, len(content))
    root = scan(content)
    where = stored_range(root, (), "")
    assert where is not None
    mark, large = Mark(), Large(content)
    said = []
    for first in range(0, len(whole), 65_536):
        count = min(65_536, len(whole) - first)
        said.append(joined(octets(large, 9, where, first, count, mark, breathe)))
    assert b"".join(said) == whole
    assert large.asked < 3 * len(content)


def test_a_file_that_is_shorter_than_its_structure_ends_the_connection() -> None:
    content = b"A: b\n\n" + b"a line\n" * 50_000
    large = Large(content[:-7])
    streaming = Streaming(9, large, scan(content), Mark(), unhurried())
    batch: Any = type("One", (), {"numbers": [7]})
    with pytest.raises(Unfinished):
        joined_or_raise(streaming.line(plan([body()]), batch))


def joined_or_raise(pieces: AsyncIterator[bytes]) -> None:
    async def run() -> None:
        async for _ in pieces:
            pass

    run().send(None)


HEADER = b"Subject: a\nX-Y: folded\n\tmore\nno field\nTO : x@y\nsubject: again\n\nSubject: body\n"


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_fields(ends: bytes) -> None:
    content = HEADER.replace(b"\n", ends)
    assert literal(read(content, body((), "HEADER.FIELDS", None, [b"to", b"SUBJECT"]))) == (
        b"Subject: a\r\nTO : x@y\r\nsubject: again\r\n\r\n"
    )
    assert literal(read(content, body((), "HEADER.FIELDS", None, [b"x-y", b"b.dy"]))) == (
        b"X-Y: folded\r\n\tmore\r\n\r\n"
    )
    assert literal(read(content, body((), "HEADER.FIELDS.NOT", None, [b"to", b"SUBJECT"]))) == (
        b"X-Y: folded\r\n\tmore\r\nno field\r\n\r\n"
    )


def test_fields_of_a_header_without_end() -> None:
    # As Dovecot has it: HEADER.FIELDS ends with an empty line also where the message has none
    assert literal(read(b"To: a\nSubject: b", body((), "HEADER.FIELDS", None, [b"subject"]))) == (
        b"Subject: b\r\n\r\n"
    )
    assert literal(read(b"", body((), "HEADER.FIELDS", None, [b"subject"]))) == b"\r\n"


def test_sections_of_an_embedded_message() -> None:
    assert literal(read(EMBEDDED, body((2,), "HEADER"))) == b"Subject: inner\r\nTo: a@b\r\n\r\n"
    assert literal(read(EMBEDDED, body((2,), "TEXT"))) == b"inner body\r\n"
    assert literal(read(EMBEDDED, body((2,), "MIME"))) == b"Content-Type: message/rfc822\r\n\r\n"
    assert literal(read(EMBEDDED, body((2, 1)))) == b"inner body\r\n"
    # What is not there is empty: a header of what is no message, a part
    assert literal(read(EMBEDDED, body((1,), "HEADER"))) == b""
    assert literal(read(EMBEDDED, body((9,)))) == b""


def test_binary() -> None:
    assert read(EMBEDDED, BinarySection((3,), True, None, b"BINARY[3]")) == (
        b"BINARY[3] ~{11}\r\nhello there"
    )
    assert read(EMBEDDED, BinarySection((3,), True, (6, 100), b"BINARY[3]<6>")) == (
        b"BINARY[3]<6> ~{5}\r\nthere"
    )
    assert read(EMBEDDED, BinarySize((3,), b"BINARY.SIZE[3]")) == b"BINARY.SIZE[3] 11"
    assert (
        literal(read(EMBEDDED, BinarySection((4,), True, None, b"BINARY[4]")))
        == b"soft = hard\r\nend"
    )
    assert read(EMBEDDED, BinarySize((8,), b"BINARY.SIZE[8]")) == b"BINARY.SIZE[8] 0"


@pytest.mark.parametrize(
    "item",
    [body(), body(text="TEXT"), body(partial=(0, 30)), body(text="HEADER.FIELDS", fields=[b"A"])],
)
def test_no_literal_has_nul(item: BodySection) -> None:
    content = b"A: x\0y\n\nz\0\n"
    assert literal(read(content, item)) == literal(streamed(content, item))
    assert b"\0" not in read(content, item) and b"\x80" in read(content, item)


def test_binary_has_nul() -> None:
    item = BinarySection((1,), True, None, b"BINARY[1]")
    content = b"A: x\n\nz\0\n"
    assert literal(read(content, item)) == literal(streamed(content, item)) == b"z\0\r\n"
