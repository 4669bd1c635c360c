"""Canonical header fields and which ones a signature means: RFC 6376 sections 3.4.1, 3.4.2, 3.7 and 5.4.2."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.dkim_header import (
    HeaderFields,
    relaxed_field,
    simple_field,
    without_signature,
)


@pytest.mark.parametrize(
    ("field", "relaxed", "simple"),
    [
        # RFC 6376 section 3.4.5
        (b"A: X\n", b"a:X\r\n", b"A: X\r\n"),
        (b"B : Y\t\n\tZ  \n", b"b:Y Z\r\n", b"B : Y\t\r\n\tZ  \r\n"),
        (b"Subject:\n", b"subject:\r\n", b"Subject:\r\n"),
        (b"X:a\x0bb\x0c c\n", b"x:a\x0bb\x0c c\r\n", b"X:a\x0bb\x0c c\r\n"),
        (b"X: \xff  \xc3\xa9\n", b"x:\xff \xc3\xa9\r\n", b"X: \xff  \xc3\xa9\r\n"),
    ],
)
def test_fields(field, relaxed, simple):
    assert relaxed_field(field) == relaxed
    assert simple_field(field) == simple


@given(st.text(alphabet="ab:\t \x0b\x0c\r", max_size=30), st.lists(st.text("ab \t", max_size=9)))
def test_relaxed_is_what_the_rfc_says(first, more):
    field = ("Name :" + first + "".join("\n " + line for line in more) + "\n").encode()
    value = field.removesuffix(b"\n").partition(b":")[2].replace(b"\n", b"")
    assert relaxed_field(field) == b"name:" + re.sub(rb"[ \t]+", b" ", value).strip(b" ") + b"\r\n"


@pytest.mark.parametrize(
    ("field", "rest"),
    [
        (b"S: a=1; b=QQ==; c=2\n", b"S: a=1; b=; c=2"),
        (b"S: a=1;\n b = Q\n Q== ;\n c=2\n", b"S: a=1;\n b =;\n c=2"),
        (b"S: b=QQ==\n", b"S: b="),
        (b"S:b=QQ==;\n", b"S:b=;"),
        (b"S: bh=abc; b=x\n", b"S: bh=abc; b="),
        (b"S: h=from:b=x; b=y\n", b"S: h=from:b=x; b="),
        (b"S: a=1\n", b"S: a=1"),
        (b"S: a=1; b=x \n", b"S: a=1; b="),
    ],
)
def test_without_the_signature(field, rest):
    assert without_signature(field) == rest


BLOCK = b"Received: 1\nSubject: a\nreceived : 2\n more\nSUBJECT: b\nFrom: x\n"


def test_fields_are_taken_from_the_bottom_up():
    fields = HeaderFields(BLOCK, 10)
    names = [b"subject", b"from", b"subject", b"subject", b"to", b"received"]
    assert fields.signed(names, relaxed=True) == (
        b"subject:b\r\nfrom:x\r\nsubject:a\r\nreceived:2 more\r\n"
    )
    assert fields.signed([b"received"] * 3, relaxed=False) == (
        b"received : 2\r\n more\r\nReceived: 1\r\n"
    )


def test_the_signature_itself_is_none_of_them():
    fields = HeaderFields(BLOCK, 10)
    assert fields.signed([b"received", b"received"], relaxed=True, but=2) == b"received:1\r\n"


def test_a_flood_is_cut():
    fields = HeaderFields(b"a: 1\n" * 30, 10)
    assert (fields.count, fields.complete) == (10, False)
    assert HeaderFields(b"a: 1\n" * 10, 10).complete


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(block):
    fields = HeaderFields(block, 5)
    for number in range(fields.count):
        assert fields.relaxed(number).endswith(b"\r\n")
        without_signature(fields.field(number))
        fields.value(number)
    fields.signed([b"a", b""], relaxed=False)
