"""Messages without a header, and with one that is too big, in pieces as they come from the wire."""

from __future__ import annotations

import pytest

from twisted_mail.delivery.header import MAX_HEADER, HeaderEditor, HeaderRules
from twisted_mail.status import MailError

TRACE = b"Received: by us\n"
LINES = b"a line of text\n" * (MAX_HEADER // 8)


def edited(content: bytes, piece: int) -> bytes:
    editor = HeaderEditor(HeaderRules(max_received=10))
    out = b"".join(
        editor.feed(content[start : start + piece]) for start in range(0, len(content), piece)
    )
    out += editor.finish()
    return TRACE + editor.head + out


@pytest.mark.parametrize("piece", [1000, 65536, 1 << 20])
@pytest.mark.parametrize(
    "text",
    [
        LINES,
        LINES + b"\nan empty line that comes late\n",
        b"x" * (2 * MAX_HEADER),
        b"not a field, but a long line: " * (MAX_HEADER // 16) + b"\n",
    ],
)
def test_text_without_a_header_is_a_body_of_any_size(text: bytes, piece: int) -> None:
    assert edited(text, piece) == TRACE + b"\n" + text
    assert edited(b"Subject: x\n" + text, piece) == TRACE + b"Subject: x\n\n" + text


@pytest.mark.parametrize("piece", [1000, 65536, 1 << 20])
@pytest.mark.parametrize(
    "header",
    [
        b"X-Field: y\n" * (MAX_HEADER // 8),
        b"X-Field: " + b"y" * MAX_HEADER + b"\n",
        b"X-Field: y\n" + b" folded\n" * (MAX_HEADER // 8),
        b"X-Field: y\n " + b"y" * MAX_HEADER + b"\n",
    ],
)
def test_a_header_over_its_bound_is_refused(header: bytes, piece: int) -> None:
    for content in (header, header + b"\nbody\n"):
        with pytest.raises(MailError) as caught:
            edited(content, piece)
        assert (caught.value.code, caught.value.enhanced) == (552, "5.3.4")


def test_a_header_as_big_as_its_bound_is_taken() -> None:
    header = b"X: " + b"y" * (MAX_HEADER - 4) + b"\n"
    assert edited(header + b"\nbody\n", 65536) == TRACE + header + b"\nbody\n"
