"""Text that is none, in any character set: read in linear time and bounded pieces."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from twisted_mail.message import text
from twisted_mail.message.decode import BLOCK
from twisted_mail.message.structure import scan
from twisted_mail.message.text import PIECE, body_text

SETS = [
    ("utf-8", b"\xffa"),
    ("utf-8", b"\xff\xc3\xa9"),
    ("utf-8", b"\xe0\x80"),
    ("utf-7", b"+AGE"),
    ("utf-7", b"+AGE-\xff"),
    ("cp1253", b"\xaaa"),
    ("shift_jis", b"\xffa\x81"),
    ("gb18030", b"\x81\xff"),
    ("utf-16", b"\xd8\x00a"),
    ("utf-32", b"\xff\xff\xff\xff"),
    ("iso-2022-jp", b"\x1b$B\x1b(B"),
    ("iso-2022-kr", b"\x0e\xff"),
    ("hz", b"~{"),
    ("big5hkscs", b"\x87\xff"),
]


@pytest.mark.parametrize(("charset", "unit"), SETS)
def test_of_any_character_set_pieces_and_calls_are_bounded(charset: str, unit: bytes) -> None:
    body = unit * (5 * BLOCK // len(unit))
    message = b"Content-Type: text/plain; charset=%b\n\n%b" % (charset.encode(), body)
    root = scan(message)
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        sizes = [len(piece) for piece in body_text(message, root)]
    finally:
        sys.setprofile(None)
    assert max(sizes, default=0) <= PIECE
    assert calls <= 6 * (text.MAX_ERRORS + 100)


def test_what_stands_behind_broken_utf_7_is_found() -> None:
    body = b"+AGE" * BLOCK + b" wordbehind"
    message = b"Content-Type: text/plain; charset=utf-7\n\n" + body
    assert any("wordbehind" in piece for piece in body_text(message, scan(message)))


def test_single_octets_of_another_set_leave_the_rest_as_it_is() -> None:
    # Undefined in cp1253 is latin-1; a letter of it stays one
    body = b"\xaa \xe1 " * 300
    message = b"Content-Type: text/plain; charset=cp1253\n\n" + body
    assert "".join(body_text(message, scan(message))) == "\xaa \u03b1 " * 300
