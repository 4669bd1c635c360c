"""Whose mail it says it is: From as it is, and as forgers write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.policy.dmarc_author import MAX_DOMAINS, Author, author, from_fields


@pytest.mark.parametrize(
    ("value", "domains"),
    [
        (" alice@example.org\n", ["example.org"]),
        (' "Alice, (A.)" <alice@Example.ORG>\n', ["example.org"]),
        (" Alice\n\tA. <alice@example.org>\n", ["example.org"]),
        (" =?utf-8?q?bank=40bank=2Eexample?= <x@example.org>", ["example.org"]),
        (" =?utf-8?q?=3Cx=40bank=2Eexample=3E?= <x@example.org>", ["example.org"]),
        (' "x@bank.example" <x@example.org>', ["example.org"]),
        # Not proper, but frequent, and shown in one way
        (" x@bank.example <x@example.org>", ["example.org"]),
        (" [x] y <x@example.org>", ["example.org"]),
        (" A, Alice <alice@example.org>", ["example.org"]),
        (" <alice@example.org>,", ["example.org"]),
        (" alice@example.org.", ["example.org"]),
        (' "a@b"@example.org', ["example.org"]),
        (" alice (x@bank.example (y)) @ (z) example . org (\\))", ["example.org"]),
        (" <@a.example,@b.example:alice@example.org>", ["example.org"]),
        (" alice@b\u00fccher.example", ["xn--bcher-kva.example"]),
        (" alice@xn--bcher-kva.example", ["xn--bcher-kva.example"]),
        (" alice@[192.0.2.1]", ["[192.0.2.1]"]),
        # RFC 5322 section 3.6.2, RFC 6854
        (" a@example.org, B <b@example.net>, c@example.org", ["example.org", "example.net"]),
        (" Us: a@example.org, b@example.net;", ["example.org", "example.net"]),
        (' "Us": a@example.org;', ["example.org"]),
    ],
)
def test_clear(value: str, domains: list[str]) -> None:
    assert author([value.encode()]) == Author(tuple(domains))


@pytest.mark.parametrize(
    ("value", "domains"),
    [
        (" x@example.org y@bank.example", ["example.org", "bank.example"]),
        (" <x@example.org> <y@bank.example>", ["example.org", "bank.example"]),
        (" x@example.org@bank.example", ["example.org", "bank.example"]),
        (" x@example.org\0@bank.example", ["example.org", "bank.example"]),
        (" <x@example.org", ["example.org"]),
        (" <x@example.org> y@bank.example", ["example.org", "bank.example"]),
        (' "x <x@example.org>', ["example.org"]),
        (" (x <x@example.org>", ["example.org"]),
        (" x) <x@example.org>", ["example.org"]),
        (" =?utf-8?q?x=40bank.example?=", ["bank.example"]),
        (" =?utf-8?b?PHhAYmFuay5leGFtcGxlPg==?=", ["bank.example"]),
        (" @bank.example", ["bank.example"]),
        (" X <@bank.example>", ["bank.example"]),
        (" x y@bank.example", ["bank.example"]),
        (" Alice", []),
        ("", []),
        (" Undisclosed:;", []),
        (" <>", []),
        (' x@"bank.example"', []),
        (" x@bank..example", []),
        (" x@\u0000", []),
    ],
)
def test_unclear(value: str, domains: list[str]) -> None:
    found = author([value.encode()])
    assert found.problem and found.problem.isprintable()
    assert list(found.domains) == domains


def test_no_field_and_several() -> None:
    assert author([]) == Author((), "there is no From field")
    assert author([b" a@example.org", b" b@bank.example"]) == Author(
        ("example.org", "bank.example"), "there are 2 From fields"
    )


def test_authors_without_end() -> None:
    found = author([", ".join(f"a@n{n}.example" for n in range(900)).encode()])
    assert len(found.domains) == MAX_DOMAINS and found.problem
    found = author([b" a@example.org"] * 1000)
    assert found == Author(("example.org",), "there are 1000 From fields")


def test_the_fields_of_a_header() -> None:
    header = b"from : a@example.org\nX-From: b\nFROM:\n b@example.org\nSubject: From: x\n"
    assert from_fields(header) == [b" a@example.org\n", b"\n b@example.org\n"]


@given(
    st.lists(st.binary(max_size=200), max_size=3)
    | st.lists(st.text('ab@.<>()",;:\\ \n=?[]', max_size=60).map(str.encode), max_size=2)
)
def test_nothing_makes_it_raise(values: list[bytes]) -> None:
    found = author(values)
    assert len(found.domains) <= MAX_DOMAINS
    assert found.domains or found.problem
    assert all(name.isascii() and name.isprintable() for name in found.domains)


@pytest.mark.parametrize(
    "unit", [" ", "a.", '"\\', "(", "@ ", "<@", ",", ":", '"a"', "a@b.c,", " .", "\n\t<", "x@"]
)
@pytest.mark.parametrize("size", [990, 65_000, 500_000])
def test_large_fields_are_read_once(unit: str, size: int) -> None:
    author([unit.encode() * (size // len(unit)) + b"<x@example.org>"])
