"""Encoded-words read back: what a Subject says."""

from __future__ import annotations

from email.header import Header
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.words import decode_words, one_line

TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=60)


@given(TEXT, st.sampled_from(["utf-8", "utf-16"]))
def test_what_the_standard_library_encodes(text: str, charset: str) -> None:
    if "=?" in text:
        return
    assert decode_words(Header(text, charset).encode().encode()) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"plain", "plain"),
        (b"=?iso-8859-1?q?caf=E9?= =?iso-8859-1?q?_noir?= for two", "café noir for two"),
        # Cut within a character
        (b"=?utf-8?b?w7w=?=\n =?utf-8?b?w7w=?= x", "üü x"),
        (b"=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü"),
        (b"=?utf-8*de?q?ja?=", "ja"),
        (b"=?no-such-charset?q?=E9?=", "é"),
        (b"=?punycode?q?=E9a?=", "éa"),
        (b"=?hex?q?4142?=", "4142"),
        (b"=?zlib?b?eHh4?=", "xxx"),
        (b"=?utf-8?b?!?=", ""),
        ("rohe Grüße".encode(), "rohe Grüße"),
        (b"raw \xe9", "raw \ufffd"),
        (b"=?utf-8?q?a=0D=0ABcc:_b?=", "a Bcc: b"),
        (b"=?utf-8?q?unfinished", "=?utf-8?q?unfinished"),
    ],
)
def test_values(value: bytes, shown: str) -> None:
    assert decode_words(value) == shown


@given(st.binary(max_size=200) | st.text("=?utf8-bqQ _+09AF\n\\").map(str.encode))
def test_no_bytes_make_it_raise(value: bytes) -> None:
    shown = decode_words(value)
    assert not {category(character) for character in shown} & {"Cc", "Zl", "Zp", "Cs"}


@given(st.text(), st.integers(1, 40))
def test_one_line_is_one_bounded_line(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    assert one_line(line, limit) == line


def test_direction_is_not_turned_around() -> None:
    assert one_line("said \u202e051 \u2066x") == "said 051 x"
