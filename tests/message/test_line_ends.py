"""Content for BDAT."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.wire import DotStuffer, LineEnds, wire_size

TRICKY = st.lists(st.sampled_from([b".", b"\n", b"\r", b"\r\n", b"a", b"\xff", b" "])).map(b"".join)


def encode(blocks: list[bytes]) -> bytes:
    ends = LineEnds()
    return b"".join([ends.encode(block) for block in blocks] + [ends.finish()])


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b""),
        (b"a", b"a\r\n"),
        (b".\n", b".\r\n"),
        (b"a\rb\r\nc\n", b"a b\r\nc\r\n"),
        (b"a\r", b"a \r\n"),
        (b"\r", b" \r\n"),
        (b"\n.\n\n", b"\r\n.\r\n\r\n"),
    ],
)
def test_wire_form(content: bytes, wire: bytes) -> None:
    assert encode([content]) == wire
    for at in range(len(content) + 1):
        assert encode([content[:at], content[at:]]) == wire


@given(TRICKY, st.lists(st.integers(0, 30)))
def test_the_same_as_data_without_its_dots(content: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(at, len(content)) for at in cuts), len(content)]
    wire = encode([content[a:b] for a, b in itertools.pairwise(edges)])
    stuffer = DotStuffer()
    data = stuffer.encode(content) + stuffer.finish()
    lines = data.split(b"\r\n")[:-2]
    assert wire == b"".join(line.removeprefix(b".") + b"\r\n" for line in lines)
    assert len(wire) == wire_size(content)
