"""Line ends on the way in: whatever comes, only CRLF ends a line, and every way to cut it gives the same."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.lines import LineNormalizer

TRICKY = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b"\0", b"\xff", b" "]), max_size=40
).map(b"".join)


def normalize(blocks):
    lines = LineNormalizer()
    out = b""
    for block in blocks:
        text = lines.feed(block)
        assert lines.ended == text.count(b"\n")
        out += text
    return out + lines.finish(), lines.bare


@pytest.mark.parametrize(
    "content, expected, bare",
    [
        (b"", b"", False),
        (b"a\r\nb\r\n", b"a\nb\n", False),
        (b"a", b"a\n", False),  # a chunk need not end its last line
        (b"\r\n", b"\n", False),
        (b"a\nb\r\n", b"a\nb\n", True),
        (b"a\rb\r\n", b"a b\n", True),
        (b"a\r", b"a \n", True),
        (b"a\r\r\n", b"a \n", True),
        (b"a\n\r\n", b"a\n\n", True),
        (b"a\r\n\r", b"a\n \n", True),
        (b"\0\r\n", b"\0\n", False),
    ],
)
def test_what_becomes_of_it(content, expected, bare):
    assert normalize([content]) == (expected, bare)


@given(TRICKY, st.lists(st.integers(0, 60)))
def test_any_cut_gives_the_same(content, cuts):
    edges = [0, *sorted(min(at, len(content)) for at in cuts), len(content)]
    blocks = [content[a:b] for a, b in itertools.pairwise(edges)]
    assert normalize(blocks) == normalize([content])


@given(TRICKY)
def test_what_comes_out_has_no_cr_and_ends_its_last_line(content):
    out, bare = normalize([content])
    assert b"\r" not in out
    assert not content or out.endswith(b"\n")
    plain = content.replace(b"\r\n", b"")
    assert bare == (b"\r" in plain or b"\n" in plain)


@given(TRICKY)
def test_what_went_out_comes_in_as_it_was(content):
    stored, _ = normalize([content])
    assert normalize([stored.replace(b"\n", b"\r\n")]) == (stored, False)


def one_by_one(content):
    """What the module says, octet by octet."""
    out, bare, at = bytearray(), False, 0
    while at < len(content):
        octet = content[at : at + 1]
        if content[at : at + 2] == b"\r\n":
            out += b"\n"
            at += 1
        else:
            bare |= octet in b"\r\n"
            out += b" " if octet == b"\r" else octet
        at += 1
    if out and not out.endswith(b"\n"):
        out += b"\n"
    return bytes(out), bare


LINES = st.lists(st.sampled_from([b"\r\n", b"a\r\n", b"\r\n\r\n", b"..\r\n"]), max_size=8).map(
    b"".join
)


@given(st.lists(st.one_of(LINES, TRICKY), max_size=6), st.lists(st.integers(0, 90), max_size=6))
def test_clean_blocks_and_others_give_what_one_octet_after_the_other_gives(parts, cuts):
    content = b"".join(parts)
    edges = [0, *sorted(min(at, len(content)) for at in cuts), len(content)]
    blocks = [content[a:b] for a, b in itertools.pairwise(edges)]
    assert normalize(blocks) == one_by_one(content)
