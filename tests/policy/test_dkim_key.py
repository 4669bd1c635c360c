"""Key records, and who remembers them: RFC 6376 section 3.6.1, RFC 8301, RFC 8463."""

from __future__ import annotations

from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from signed_mail import done, ed25519, rsa

from twisted_mail.policy.dkim_key import Keys, Problem, PublicKey, parse_key
from twisted_mail.storage.dkim_keys import record_text
from twisted_mail.testing.dns import FakeResolver, Zone

RSA = record_text(rsa().private)
P = RSA.partition("p=")[2]
ED = record_text(ed25519().private)


def parsed(text):
    return parse_key(text.encode())


def spki(key):
    return b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def numbers(n, e=65537):
    """An RSAPublicKey, written by hand: libraries would not make these."""

    def der(tag, content):
        size = len(content)
        octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes([size]) if size < 128 else bytes([0x80 | len(octets)]) + octets
        return bytes([tag]) + length + content

    def integer(value):
        return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))

    return b64encode(der(0x30, integer(n) + integer(e))).decode()


@pytest.mark.parametrize(
    "text",
    [
        RSA,
        f"p={P}",
        f"k=rsa; p={P[:30]} {P[30:]};",
        f"h=sha1:sha256; s=email:x; p={P}",
        f"s=*; p={P}",
    ],
)
def test_rsa(text):
    found = parsed(text)
    assert isinstance(found, PublicKey)
    assert (found.kind, found.bits, found.testing, found.strict) == ("rsa", 2048, False, False)


def test_rsa_without_its_wrapping():
    """RFC 6376 section 3.6.1 says RSAPublicKey, which few write."""
    octets = rsa().private.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    assert parsed(f"p={b64encode(octets).decode()}").bits == 2048


def test_ed25519_and_flags():
    found = parsed(ED + "; t=y:s:later")
    assert (found.kind, found.bits, found.testing, found.strict) == ("ed25519", 0, True, True)


@pytest.mark.parametrize(
    ("text", "result", "reason"),
    [
        ("", "permerror", "no p="),
        ("v=spf1 -all", "permerror", "not that of a DKIM key"),
        ("some text", "permerror", "malformed"),
        ("v=DKIM2; p=" + P, "permerror", "not that of a DKIM key"),
        (f"p={P}; v=DKIM1", "permerror", "not that of a DKIM key"),
        ("v=DKIM1; k=rsa", "permerror", "no p="),
        ("v=DKIM1; p=", "permerror", "revoked"),
        (f"v=DKIM1; h=sha1; p={P}", "permerror", "SHA-256"),
        (f"v=DKIM1; s=tlsrpt; p={P}", "permerror", "not for mail"),
        (f"v=DKIM1; k=dsa; p={P}", "permerror", "unknown kind"),
        (f"v=DKIM1; k=ed25519; p={P}", "permerror", "Ed25519 key cannot be read"),
        ("v=DKIM1; p=nonsense!", "permerror", "no base64"),
        ("v=DKIM1; p=QUJD", "permerror", "RSA key cannot be read"),
        (
            f"p={spki(ec.generate_private_key(ec.SECP256R1()).public_key())}",
            "permerror",
            "no RSA key",
        ),
        (f"p={numbers((1 << 511) + 1)}", "policy", "512 bits, fewer than 1024"),
        (f"p={numbers((1 << 1022) + 1)}", "policy", "1023 bits, fewer than 1024"),
        (f"p={numbers((1 << 8192) + 1)}", "policy", "more than 8192 bits"),
        (f"p={numbers((1 << 16_000) + 1)}", "policy", "more than 8192 bits"),
        (f"p={numbers((1 << 2047) + 1, (1 << 2000) + 1)}", "policy", "too large an exponent"),
        (f"p={numbers((1 << 2047) + 1, 1)}", "", ""),
        (f"p={numbers((1 << 2047) + 1, 4)}", "", ""),
        (f"p={numbers(1 << 2047)}", "", ""),
        (f"p={numbers(0)}", "", ""),
        ("v=DKIM1; p=" + "A" * 10_000_000, "policy", "more than 8192 octets"),
    ],
)
def test_what_cannot_be_used(text, result, reason):
    found = parsed(text)
    assert isinstance(found, Problem)
    if result:
        assert found.result == result
        assert reason in found.reason


def test_8192_bits_are_enough():
    key = RSAPublicNumbers(65537, (1 << 8191) + 1).public_key()
    assert parsed(f"p={spki(key)}").bits == 8192


@given(st.binary(max_size=300))
def test_no_octets_of_a_key_make_it_raise(octets):
    for kind in ("rsa", "ed25519"):
        found = parsed(f"k={kind}; p={b64encode(octets).decode()}")
        if isinstance(found, PublicKey):
            assert found.verifies(b"x" * 64, b"y" * 32) is False


@given(st.binary(max_size=100) | st.text("vp=; DKIM1krsah:\n", max_size=60).map(str.encode))
def test_no_record_makes_it_raise(record):
    parse_key(record)


@given(st.binary(max_size=300))
def test_no_signature_makes_it_raise(octets):
    for text in (RSA, ED):
        assert parsed(text).verifies(octets, b"y" * 32) is False


# -- remembered

NAME = "s._domainkey.example.org"


class Site:
    def __init__(self, records=(RSA,), size=1000, **more):
        self.now = 1000.0
        self.zone = Zone({NAME: {"TXT": list(records)}}, **more)
        self.resolver = FakeResolver(self.zone)
        self.keys = Keys(self.resolver, lambda: self.now, size=size)

    def find(self, name=NAME):
        return done(self.keys.find(name))


def test_a_key_is_asked_for_once_in_its_time():
    site = Site(ttl=300)
    first = site.find()
    site.now += 299
    assert site.find() is first is site.keys.known(NAME)
    assert len(site.resolver.questions) == 1
    site.now += 1
    assert site.keys.known(NAME) is None
    site.find()
    assert len(site.resolver.questions) == 2


def test_a_time_of_years_is_a_day():
    site = Site(ttl=10**9)
    site.find()
    site.now += 86_400
    assert site.keys.known(NAME) is None


def test_that_there_is_none_is_remembered():
    site = Site([])
    assert site.find("x._domainkey.example.org") == (
        "permerror",
        "there is no key at x._domainkey.example.org",
    )
    site.find("x._domainkey.example.org")
    assert len(site.resolver.questions) == 1


def test_that_nobody_answered_is_not():
    site = Site(failing=[NAME])
    assert site.find().result == "temperror"
    site.zone.failing.clear()
    assert isinstance(site.find(), PublicKey)


def test_the_first_of_several_records_that_is_a_key():
    assert Site(["v=spf1 -all", "p=", ED, RSA]).find().kind == "ed25519"
    assert Site(["p=", "nonsense"]).find().reason == "the key has been revoked"
    assert isinstance(Site(["x"] * 4 + [RSA]).find(), Problem)


def test_only_so_many_are_remembered_the_oldest_goes():
    site = Site(size=2)
    for name in ("a", "b"):
        site.find(name)
    site.find("a")
    site.find("c")
    assert site.keys.known("b") is None
    assert site.keys.known("a") is not None


@pytest.mark.parametrize("text", [";" * 8000, "p=" + " " * 8000, "a=1;" * 2000, "p=" + "=" * 8000])
def test_a_hostile_record(text):
    assert isinstance(parsed(text), Problem)
