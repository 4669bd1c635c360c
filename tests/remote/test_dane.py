"""TLSA: when it is asked for, which records count, what they match. RFC 7672, 7671, 6698."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from remote_fakes import result_of, self_signed

from twisted_mail.dns.interfaces import Tlsa
from twisted_mail.remote.dane import ABSENT, Dane, DaneState, look_up, matches, usable
from twisted_mail.remote.mx import Host
from twisted_mail.testing.dns import FakeResolver, Zone

LEAF = self_signed("mx.example.org")
DER = LEAF.public_bytes(Encoding.DER)
KEY = LEAF.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
GOOD = Tlsa(3, 1, 1, hashlib.sha256(KEY).digest())


def host(name: str = "mx.example.org", expanded: str = "", secure: bool = True) -> Host:
    return Host(name, ("192.0.2.1",), expanded or name, secure)


def look(zone: Zone, which: Host, port: int = 25) -> tuple[Dane, list[tuple[str, str]]]:
    resolver = FakeResolver(zone)
    return result_of(look_up(resolver, which, port)), resolver.questions


def zone_with(*names: str, records: Any = (GOOD,), **named: Any) -> Zone:
    named.setdefault("secure", [""])
    return Zone({name: {"TLSA": list(records)} for name in names}, **named)


def test_a_secure_host_with_records() -> None:
    found, asked = look(zone_with("_25._tcp.mx.example.org"), host())
    assert found == Dane(DaneState.USABLE, (GOOD,), "mx.example.org")
    assert asked == [("TLSA", "_25._tcp.mx.example.org")]


def test_the_port_is_of_the_route() -> None:
    found, _ = look(zone_with("_587._tcp.mx.example.org"), host(), 587)
    assert found.state is DaneState.USABLE


def test_an_insecure_host_is_not_asked_about() -> None:
    assert look(zone_with("_25._tcp.mx.example.org"), host(secure=False)) == (ABSENT, [])


def test_a_literal_is_not_asked_about() -> None:
    assert look(zone_with(), host("[192.0.2.1]"))[0] is ABSENT


def test_insecure_records_do_not_count() -> None:
    zone = zone_with("_25._tcp.mx.example.org", secure=["example.net"])
    assert look(zone, host())[0] is ABSENT


def test_no_records() -> None:
    assert look(zone_with(), host())[0] is ABSENT


def test_a_failed_look_up_is_no_answer() -> None:
    zone = zone_with(failing=["_25._tcp.mx.example.org"])
    found, _ = look(zone, host())
    assert found.state is DaneState.FAILED and "SERVFAIL" in found.text


def test_where_the_alias_led_comes_first() -> None:
    zone = zone_with("_25._tcp.mx.example.org", "_25._tcp.real.example")
    assert look(zone, host(expanded="real.example"))[0].base == "real.example"


def test_then_the_name_itself() -> None:
    zone = zone_with("_25._tcp.mx.example.org")
    found, asked = look(zone, host(expanded="real.example"))
    assert found.base == "mx.example.org"
    assert [name for _, name in asked] == [
        "_25._tcp.real.example",
        "_25._tcp.mx.example.org",
    ]


@pytest.mark.parametrize(
    ("secure", "state"),
    [
        (["example.org"], DaneState.USABLE),
        ([], DaneState.ABSENT),
        (["_25._tcp.mx.example.org"], DaneState.ABSENT),
    ],
)
def test_an_alias_into_the_unsigned(secure: list[str], state: DaneState) -> None:
    zone = zone_with("_25._tcp.mx.example.org", secure=secure)
    zone["mx.example.org"] = {"CNAME": ["far.example"]}
    found, asked = look(zone, host(expanded="far.example", secure=False))
    assert found.state is state
    assert "_25._tcp.far.example" not in {name for _, name in asked}


BAD = [
    Tlsa(0, 1, 1, bytes(32)),  # PKIX-TA and PKIX-EE: RFC 7672 section 3.1.3
    Tlsa(1, 1, 1, bytes(32)),
    Tlsa(4, 1, 1, bytes(32)),
    Tlsa(3, 2, 1, bytes(32)),
    Tlsa(3, 1, 3, bytes(32)),
    Tlsa(3, 1, 1, bytes(31)),
    Tlsa(3, 1, 2, bytes(32)),
    Tlsa(3, 0, 0, b""),
]


@pytest.mark.parametrize("record", BAD)
def test_unusable_records(record: Tlsa) -> None:
    assert usable([record]) == ()
    found, _ = look(zone_with("_25._tcp.mx.example.org", records=[record]), host())
    assert found == Dane(DaneState.UNUSABLE, (), "mx.example.org")


def test_good_ones_among_bad_ones() -> None:
    assert usable([*BAD, GOOD]) == (GOOD,)


def test_the_strongest_digest_of_a_kind() -> None:
    weak, strong = Tlsa(3, 1, 1, bytes(32)), Tlsa(3, 1, 2, bytes(64))
    full, other = Tlsa(3, 1, 0, b"x"), Tlsa(2, 1, 1, bytes(32))
    assert usable([weak, strong, full, other]) == (strong, full, other)


@pytest.mark.parametrize(
    ("selector", "matching", "data"),
    [
        (0, 0, DER),
        (1, 0, KEY),
        (0, 1, hashlib.sha256(DER).digest()),
        (1, 1, hashlib.sha256(KEY).digest()),
        (0, 2, hashlib.sha512(DER).digest()),
        (1, 2, hashlib.sha512(KEY).digest()),
    ],
)
def test_matches(selector: int, matching: int, data: bytes) -> None:
    assert matches(Tlsa(3, selector, matching, data), LEAF)
    assert not matches(Tlsa(3, selector, matching, data), self_signed("mx.example.org"))
    assert not matches(Tlsa(3, 1 - selector, matching, data), LEAF)
