"""Canonical bodies: RFC 6376 sections 3.4.3 and 3.4.4; cut anywhere they hash the same."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twisted_mail.message.dkim_body import BodyHash

TEXT = st.text(alphabet="ab \t\n", max_size=60).map(str.encode)


def hashed(relaxed, *pieces):
    hashing = BodyHash(relaxed)
    for piece in pieces:
        hashing.update(piece)
    return hashing.digest(), hashing.length


def simple(body):
    """Written from the words of section 3.4.3."""
    return body.rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n"


def relaxed(body):
    """Written from the words of section 3.4.4."""
    lines = body.split(b"\n")
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


@pytest.mark.parametrize(
    ("of", "body", "canonical"),
    [
        # RFC 6376 section 3.4.5, both examples
        (True, b" C \nD \t E\n\n\n", b" C\r\nD E\r\n"),
        (False, b" C \nD \t E\n\n\n", b" C \r\nD \t E\r\n"),
        (True, b"", b""),
        (False, b"", b"\r\n"),
        (True, b"\n\n \t\n", b""),
        (False, b"\n\n", b"\r\n"),
        (True, b"no line end", b"no line end\r\n"),
        (False, b"no line end", b"no line end\r\n"),
        (True, b"\n\na", b"\r\n\r\na\r\n"),
        (True, b"a \n \nb", b"a\r\n\r\nb\r\n"),
    ],
)
def test_examples(of, body, canonical):
    assert hashed(of, body) == (hashlib.sha256(canonical).digest(), len(canonical))


def test_the_hashes_of_no_body():
    """RFC 6376 sections 3.4.3 and 3.4.4 print them."""
    from base64 import b64encode

    assert b64encode(hashed(True)[0]) == b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    assert b64encode(hashed(False)[0]) == b"frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="


@given(TEXT)
@example(b"a\n  ")
@example(b" \na")
@example(b"a\t")
def test_it_is_what_the_rfc_says(body):
    for of, canonical in ((True, relaxed(body)), (False, simple(body))):
        assert hashed(of, body) == (hashlib.sha256(canonical).digest(), len(canonical))


@given(TEXT, st.lists(st.integers(0, 60), max_size=6))
def test_cuts_make_no_difference(body, cuts):
    ends = [0, *sorted(cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(ends)]
    for of in (True, False):
        assert hashed(of, *pieces) == hashed(of, body)


@pytest.mark.parametrize("piece", [b"\n", b" ", b"\t\n", b"a  b \n", b"x"])
def test_more_than_one_piece_of_a_large_body(piece):
    body = piece * (200_000 // len(piece)) + b"end"
    assert hashed(True, body)[0] == hashlib.sha256(relaxed(body)).digest()
    assert hashed(False, body)[0] == hashlib.sha256(simple(body)).digest()


def test_line_ends_that_never_end_take_no_memory():
    import tracemalloc

    hashing = BodyHash(True)
    block = b"\n" * 65_536
    hashing.update(block)
    tracemalloc.start()
    for _ in range(200):
        hashing.update(block)
    hashing.update(b"a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000
    assert hashing.digest() == hashlib.sha256(b"\r\n" * (201 * 65_536) + b"a\r\n").digest()
