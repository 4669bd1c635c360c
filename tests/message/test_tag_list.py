"""Tag lists: RFC 6376 section 3.2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.tag_list import base64_value, colon_list, parse_tags


def test_white_space_around_names_and_values_is_left_out():
    assert parse_tags(b" v = 1 ;\n\ta=\trsa-sha256\t; n=two  words\n more;\n") == {
        "v": "1",
        "a": "rsa-sha256",
        "n": "two  words\n more",
    }


def test_a_value_may_hold_equals_signs_and_be_empty():
    assert parse_tags(b"p=; b=QQ==") == {"p": "", "b": "QQ=="}


def test_names_are_case_sensitive():
    assert parse_tags(b"v=1; V=2") == {"v": "1", "V": "2"}


def test_values_may_be_utf_8():
    assert parse_tags("d=bücher.example".encode()) == {"d": "bücher.example"}


def test_no_text_is_no_tags():
    assert parse_tags(b"") == parse_tags(b" \n ") == {}


@pytest.mark.parametrize(
    "text",
    [b"a=1;;b=2", b";a=1", b"a", b"a=1; b", b"=1", b"1a=1", b"a b=1", b"a-b=1", b"a=1;;"],
)
def test_what_is_malformed(text):
    with pytest.raises(ValueError, match="malformed"):
        parse_tags(text)


def test_a_name_that_stands_there_twice():
    with pytest.raises(ValueError, match="a= stands there twice"):
        parse_tags(b"a=1; b=2; a=1")


@pytest.mark.parametrize("text", [b"a=\x00", b"a=1\x7f", b"a=\x1b[0m", b"a=\xff"])
def test_what_is_no_text(text):
    with pytest.raises(ValueError):
        parse_tags(text)


@given(st.binary(max_size=200) | st.text(alphabet="ab=; \t\n1", max_size=50).map(str.encode))
def test_no_bytes_raise_anything_else(text):
    try:
        tags = parse_tags(text)
    except ValueError as error:
        assert str(error).isprintable()
    else:
        assert all(name.isidentifier() for name in tags)


def test_lists():
    assert colon_list("From : to:\n\tSubject") == ["From", "to", "Subject"]


@given(st.binary(max_size=100), st.integers(1, 20))
def test_base64_with_white_space_in_it(octets, width):
    from base64 import b64encode

    text = b64encode(octets).decode()
    folded = "\n\t".join(text[at : at + width] for at in range(0, len(text), width))
    assert base64_value(folded) == octets


@pytest.mark.parametrize("text", ["A", "AA", "AAA", "A!AA", "AA==AA==", "é", "===="])
def test_what_is_no_base64(text):
    with pytest.raises(ValueError, match="no base64"):
        base64_value(text)
