"""RFC 3461 section 4 and RFC 6533 section 3: what ORCPT and ENVID are made of."""

from __future__ import annotations

import re
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.xtext import (
    MAX_ORCPT,
    decode,
    encode,
    format_envid,
    format_orcpt,
    parse_envid,
    parse_orcpt,
    unitext,
    utf8_xtext,
)

PRINTABLE = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_decode_undoes_encode(text: str) -> None:
    encoded = encode(text)
    assert re.fullmatch(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*", encoded)
    assert decode(encoded) == text


def test_plus_and_equals_are_encoded() -> None:
    assert encode("a+b=c d\\") == "a+2Bb+3Dc+20d\\"


@pytest.mark.parametrize(
    "text", ["a=b", "a b", "+", "+2", "+2b", "+2G", "a\n", "é", "+FF", "a" * 5000]
)
def test_what_is_no_xtext_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode(text)


@given(st.text(max_size=60))
def test_nothing_else_is_raised(text: str) -> None:
    for parse in (decode, parse_envid, parse_orcpt, lambda t: parse_orcpt("utf-8;" + t)):
        try:
            found = parse(text)
        except ValueError:
            continue
        assert parse is decode or not {category(one) for one in found} & {"Cc", "Cs", "Zl", "Zp"}


def test_original_recipient() -> None:
    assert parse_orcpt("RFC822;alice+2Btag@example.org") == "rfc822;alice+tag@example.org"
    assert format_orcpt("rfc822;alice+tag@example.org", smtputf8=False) == (
        "rfc822;alice+2Btag@example.org"
    )


def test_utf8_original_recipient() -> None:
    stored = "utf-8;jö+a@пример.org"
    assert (
        parse_orcpt(r"utf-8;j\x{F6}\x{2B}a@\x{43F}\x{440}\x{438}\x{43C}\x{435}\x{440}.org")
        == stored
    )
    assert parse_orcpt("utf-8;jö+a@пример.org") == stored
    assert format_orcpt(stored, smtputf8=True) == r"utf-8;jö\x{2B}a@пример.org"
    assert format_orcpt(stored, smtputf8=False).isascii()
    # An old sender's way: the octets in xtext
    assert parse_orcpt("rfc822;j+C3+B6@example.org") == "utf-8;jö@example.org"


@given(st.text(PRINTABLE, min_size=1, max_size=60), st.booleans())
def test_original_recipients_survive_a_hop(address: str, smtputf8: bool) -> None:
    stored = f"{'rfc822' if address.isascii() else 'utf-8'};{address}"
    value = format_orcpt(stored, smtputf8=smtputf8)
    assert len(value.encode()) <= MAX_ORCPT
    assert smtputf8 or value.isascii()
    assert not set(value) & set(" =\r\n")
    if value:
        assert parse_orcpt(value) == stored


@given(st.text(PRINTABLE, min_size=1, max_size=60))
def test_both_utf8_forms_are_read(address: str) -> None:
    for form in (unitext(address), utf8_xtext(address)):
        assert parse_orcpt("utf-8;" + form) == "utf-8;" + address


def test_what_would_be_too_long_is_left_out() -> None:
    assert format_orcpt("utf-8;" + "ö" * 200, smtputf8=False) == ""
    assert format_orcpt("utf-8;" + "ö" * 200, smtputf8=True) != ""


@pytest.mark.parametrize(
    "value",
    [
        "alice@example.org",
        ";alice@example.org",
        "rfc822;",
        "utf-8;",
        "rf c;a",
        "rfc822;a+0Ab",
        "rfc822;a+C2+85b",
        "rfc822;" + "a" * 500,
        "x" * 40 + ";a",
        r"utf-8;\x{41}",
        r"utf-8;\x{0F6}",
        r"utf-8;\x{0A}",
        r"utf-8;\x{D800}",
        r"utf-8;\x{110000}",
        r"utf-8;\x{85}",
        r"utf-8;\x{F6",
        "utf-8;a\\b",
        "utf-8;a=b",
        "utf-8;a b",
        "utf-8;a\nb",
        "utf-8;\u2028",
        "utf-8;\ud800",
    ],
)
def test_malformed_original_recipients(value: str) -> None:
    with pytest.raises(ValueError):
        parse_orcpt(value)


def test_envelope_id() -> None:
    assert parse_envid("QQ314+20159") == "QQ314 159"
    assert format_envid("QQ314 159") == "QQ314+20159"


@pytest.mark.parametrize("value", ["a+0Db", "a+C3+B6", "a+09", "a" * 101, "a=b"])
def test_malformed_envelope_ids(value: str) -> None:
    with pytest.raises(ValueError):
        parse_envid(value)
