"""A header made to be dear to translate: the work has a bound, and sizes stay right."""

from __future__ import annotations

import pytest

from twisted_mail.message.downgrade import FIELD_COST, MAX_FIELD, MAX_TRANSLATED, downgrade_header
from twisted_mail.message.surrogate import Surrogate

TO = "To: ü\n".encode()
MANY = TO * (4 * MAX_TRANSLATED // len(TO))
LONG = b"To: " + "ü,".encode() * (MAX_TRANSLATED // 3) + b"\n"


def surrogate(content: bytes, piece: int) -> bytes:
    translation = Surrogate()
    pieces = [content[start : start + piece] for start in range(0, len(content), piece)]
    return b"".join(map(translation.feed, pieces)) + translation.finish()


def test_further_fields_are_left_out() -> None:
    kept = downgrade_header(MANY).count(b"To: ")
    assert kept == MAX_TRANSLATED // (len(TO) + FIELD_COST)
    assert downgrade_header(LONG + b"X: y\n" + TO) == b"X: y\n"


def test_an_ordinary_header_with_hundreds_of_addresses_is_whole() -> None:
    header = b"To: " + b",\n ".join("Jörg <jörg@example.org>".encode() for _ in range(500)) + b"\n"
    assert downgrade_header(header).count(b"<invalid@") == 500


@pytest.mark.parametrize("piece", [1000, 65536, 1 << 20])
@pytest.mark.parametrize(
    "header",
    [MANY, LONG + TO, TO + LONG + TO, b"X: " + "ü".encode() * MAX_FIELD + b"\n" + TO, TO * 2],
)
def test_what_goes_out_is_what_was_counted(header: bytes, piece: int) -> None:
    header += b"Subject: x\n"
    assert surrogate(header + b"\nbody\n", piece) == downgrade_header(header) + b"\nbody\n"
