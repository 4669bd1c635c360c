"""DMARC records: what is read, what counts as not being there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.policy.dmarc_record import DmarcRecord, parse, parse_uris, select


def record(text: str) -> DmarcRecord:
    (found,) = select((text.encode(),))
    return parse(found)


def test_all_tags() -> None:
    text = (
        "v=DMARC1; p=Reject; sp=quarantine ; np=none; adkim=s; aspf=S; pct=20; t=y; psd=n; fo=1:d:s;"
        " rua=mailto:a@example.org!10m, https://example.org/r,mailto:none; ruf=mailto:f@example.org;"
        " ri=3600; rf=afrf; x"
    )
    assert record(text) == DmarcRecord(
        text,
        "reject",
        "quarantine",
        "none",
        "s",
        "s",
        20,
        True,
        "n",
        ("1", "d", "s"),
        ("mailto:a@example.org", "https://example.org/r"),
        ("mailto:f@example.org",),
        3600,
    )


def test_defaults() -> None:
    assert record("v=DMARC1;p=none") == DmarcRecord("v=DMARC1;p=none", "none")


@pytest.mark.parametrize(
    "text", ["v=DMARC1", "v=DMARC1;", " v = DMARC1 ; p=none", "v=DMARC1;p=none;;", "v=DMARC1;;p"]
)
def test_these_are_records(text: str) -> None:
    assert select((text.encode(),))


@pytest.mark.parametrize(
    "text", ["", "v=dmarc1; p=none", "p=none; v=DMARC1", "v=DMARC12; p=none", "v=spf1", "DMARC1"]
)
def test_these_are_none(text: str) -> None:
    assert not select((text.encode(), b"v=DMARC1;" + b" " * 4096))


def test_what_is_malformed_counts_as_not_being_there() -> None:
    found = record("v=DMARC1; p=reject; adkim=x; pct=101x; t=1; psd=maybe; fo=9; rua=nobody; ri=-1")
    assert found[1:] == DmarcRecord("", "reject")[1:]
    assert record("v=DMARC1; p=reject; pct=900").pct == 100
    assert record("v=DMARC1; p=reject; p=none").p == "reject"


@pytest.mark.parametrize(
    ("text", "own", "below", "nowhere"),
    [
        ("p=reject", "reject", "reject", "reject"),
        ("p=reject; sp=none", "reject", "none", "none"),
        ("p=none; np=reject", "none", "none", "reject"),
        ("p=none; sp=quarantine; np=reject", "none", "quarantine", "reject"),
        # RFC 9989 section 4.10.1
        ("p=junk", None, None, None),
        ("sp=reject", None, None, None),
        ("p=reject; sp=junk", None, None, None),
        ("p=reject; np=junk; rua=mailto:a@b.example", "none", "none", "none"),
        ("rua=mailto:a@b.example", "none", "none", "none"),
        ("p=reject; sp=junk; rua=junk", None, None, None),
    ],
)
def test_what_is_asked(text: str, own: str, below: str, nowhere: str) -> None:
    found = record("v=DMARC1; " + text)
    assert found.asked(False) == own
    assert found.asked(True) == below
    assert found.asked(True, False) == nowhere


def test_uris_are_few_and_different() -> None:
    many = ",".join(f"mailto:a{n}@example.org" for n in range(50))
    assert len(parse_uris(many)) == 10
    assert parse_uris("mailto:a@b.c,mailto:a@b.c") == ("mailto:a@b.c",)
    assert parse_uris("mailto:a@b.c%0d\n,x:" + "y" * 600) == ()


@given(st.binary(max_size=300), st.text(max_size=100))
def test_nothing_makes_it_raise(octets: bytes, text: str) -> None:
    found = parse(b"v=DMARC1;" + octets)
    assert found.text.isascii() and found.text.isprintable()
    assert all(uri.isascii() and uri.isprintable() and " " not in uri for uri in parse_uris(text))
