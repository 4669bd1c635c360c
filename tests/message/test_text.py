"""Text of bodies and headers: what is in no character set is latin-1, wherever it is cut."""

from __future__ import annotations

import codecs

from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.searchable import EDGE, SLICE, searchable
from twisted_mail.message.structure import scan
from twisted_mail.message.text import body_text

# What sequences of UTF-8 begin with, what they go on with, and what is in none
ODD = b"A\x80\xbf\xc0\xc1\xc2\xdf\xe0\xa0\x9f\xed\xef\xf0\x90\x8f\xf4\xf5\xff\xe2\x82\xac"


def octet_by_octet(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("test_text.octet_by_octet", octet_by_octet)


@given(st.lists(st.sampled_from(ODD), max_size=12).map(bytes))
def test_what_is_no_utf_8_is_latin_1(octets: bytes) -> None:
    message = (
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + octets
    )
    expected = octets.decode("utf-8", "test_text.octet_by_octet")
    assert "".join(body_text(message, scan(message))) == expected


def test_what_cannot_be_kept_is_an_edge_however_much_it_is() -> None:
    count = SLICE * 2 + 5
    found = searchable(b"Subject: x\n\n" + b"\0" * count + b"end")
    assert found.text.count(EDGE.encode()) == count + 2
    assert b"\0" not in found.text and b"END" in found.text
