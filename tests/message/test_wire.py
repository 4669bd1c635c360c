"""The wire form: CRLF, dot-stuffing, sizes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.wire import DotStuffer, OctetCounter, wire_size

TRICKY = st.lists(st.sampled_from([b".", b"\n", b"\r", b"\r\n", b"a", b"..", b"\xff", b" "])).map(
    b"".join
)
STORED = TRICKY.map(lambda content: content.replace(b"\r", b""))
CUTS = st.lists(st.integers(0, 40))


def cut(content: bytes, cuts: list[int]) -> list[bytes]:
    """`content` in pieces; some are empty."""
    edges = [0, *sorted(min(at, len(content)) for at in cuts), len(content)]
    return [content[a:b] for a, b in itertools.pairwise(edges)]


def encode(blocks: list[bytes]) -> bytes:
    stuffer = DotStuffer()
    return b"".join([stuffer.encode(block) for block in blocks] + [stuffer.finish()])


def read_reply(wire: bytes) -> tuple[list[bytes], bytes]:
    """What a client does (RFC 1939 section 3): lines up to the one of one dot, and what follows."""
    lines = []
    while True:
        line, end, wire = wire.partition(b"\r\n")
        assert end
        if line == b".":
            return lines, wire
        lines.append(line[1:] if line.startswith(b".") else line)


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b"a\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".\n", b"..\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a\n.\nb\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\n..\n", b"a\r\n...\r\n.\r\n"),
        (b"\n\n.\n", b"\r\n\r\n..\r\n.\r\n"),
        (b"a\r\n.\r\n", b"a\r\n..\r\n.\r\n"),
        (b"a\r.\rb\n", b"a . b\r\n.\r\n"),
        (b"a\r\r\n", b"a \r\n.\r\n"),
        (b"a\r", b"a \r\n.\r\n"),
        (b"a.b\n", b"a.b\r\n.\r\n"),
    ],
)
def test_wire_form(content: bytes, wire: bytes) -> None:
    assert encode([content]) == wire
    for at in range(len(content) + 1):
        assert encode([content[:at], content[at:]]) == wire


@given(STORED, CUTS)
def test_decoding_gives_the_content_back(content: bytes, cuts: list[int]) -> None:
    lines, rest = read_reply(encode(cut(content, cuts)))
    whole = content if content.endswith(b"\n") or not content else content + b"\n"
    assert b"".join(line + b"\n" for line in lines) == whole
    assert rest == b""


@given(TRICKY, CUTS)
def test_any_cut_gives_the_same_bytes(content: bytes, cuts: list[int]) -> None:
    assert encode(cut(content, cuts)) == encode([content])


@given(TRICKY)
def test_only_the_last_line_ends_the_reply(content: bytes) -> None:
    wire = encode([content])
    assert read_reply(wire)[1] == b""
    assert b"\r" not in wire.replace(b"\r\n", b"")
    assert b"\n" not in wire.replace(b"\r\n", b"")


@given(TRICKY, CUTS)
def test_the_size_is_what_is_sent_less_the_stuffing(content: bytes, cuts: list[int]) -> None:
    lines, _ = read_reply(encode([content]))
    assert wire_size(content) == sum(len(line) + 2 for line in lines)
    counter = OctetCounter()
    for block in cut(content, cuts):
        counter.add(block)
    assert counter.octets == wire_size(content)


@pytest.mark.parametrize("count", [1, 511, 512, 513, 3000])
def test_any_number_of_dots(count: int) -> None:
    stuffer = DotStuffer()
    assert (
        stuffer.encode(b"x\n" + b".\n" * count + b".y\n")
        == b"x\r\n" + b"..\r\n" * count + b"..y\r\n"
    )
    assert stuffer.finish() == b".\r\n"
