"""Chains of certificates against policies: WebPKI, DANE-EE, DANE-TA."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from remote_fakes import Pki, self_signed

from twisted_mail.dns.interfaces import Tlsa
from twisted_mail.remote.judge import Authorities, Verdict, judge
from twisted_mail.remote.tls_policy import Level, TlsPolicy

PKI = Pki()
NOW = datetime.datetime.now(datetime.UTC).timestamp()
CHAIN = PKI.chain("mx.example.org", not_after=datetime.datetime(2040, 1, 1))
LATE = datetime.datetime(2041, 1, 1, tzinfo=datetime.UTC).timestamp()
VERIFIED = TlsPolicy(Level.VERIFIED, ("mx.example.org",))


@pytest.fixture
def authorities(tmp_path: Path) -> Authorities:
    path = tmp_path / "ca.pem"
    path.write_bytes(PKI.root_pem)
    return Authorities(path)


def record(usage: int, certificate: x509.Certificate, selector: int = 1, matching: int = 1) -> Tlsa:
    data = certificate.public_bytes(Encoding.DER)
    if selector:
        data = certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    if matching:
        data = hashlib.new("sha256" if matching == 1 else "sha512", data).digest()
    return Tlsa(usage, selector, matching, data)


def dane(*records: Tlsa, names: tuple[str, ...] = ("mx.example.org",)) -> TlsPolicy:
    return TlsPolicy(Level.DANE, names, records)


@pytest.mark.parametrize("level", [Level.NONE, Level.OPPORTUNISTIC, Level.REQUIRED])
def test_below_verified_anything_goes(level: Level, authorities: Authorities) -> None:
    assert judge(TlsPolicy(level), [], NOW, authorities).good


def test_a_good_chain(authorities: Authorities) -> None:
    assert judge(VERIFIED, CHAIN, NOW, authorities) == Verdict(True)


CASES: dict[str, tuple[list[x509.Certificate], str]] = {
    "nothing": ([], "validation-failure"),
    "no intermediate": (CHAIN[:1], "certificate-not-trusted"),
    "another authority": (Pki().chain("mx.example.org"), "certificate-not-trusted"),
    "self-signed": ([self_signed("mx.example.org")], "certificate-not-trusted"),
    "another name": (PKI.chain("other.example.org"), "certificate-host-mismatch"),
    "too wide a wildcard": (PKI.chain("*.org"), "certificate-host-mismatch"),
    "expired": (
        PKI.chain("mx.example.org", not_after=datetime.datetime(2020, 1, 1)),
        "certificate-expired",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_chains(case: str, authorities: Authorities) -> None:
    chain, result = CASES[case]
    verdict = judge(VERIFIED, chain, NOW, authorities)
    assert not verdict.good and verdict.reason and verdict.result == result


def test_wildcards_and_other_names(authorities: Authorities) -> None:
    assert judge(VERIFIED, PKI.chain("*.example.org"), NOW, authorities).good
    policy = TlsPolicy(Level.VERIFIED, ("mx.example.org", "example.org"))
    assert judge(policy, PKI.chain("example.org"), NOW, authorities).good


def test_the_time_is_the_worlds(authorities: Authorities) -> None:
    assert judge(VERIFIED, CHAIN, LATE, authorities).result == "certificate-expired"
    assert judge(VERIFIED, CHAIN, NOW, authorities).good
    old = PKI.chain("mx.example.org", not_after=datetime.datetime(2020, 1, 1))
    assert judge(VERIFIED, old, 1_500_000_000, authorities).good


@pytest.mark.parametrize(
    ("purpose", "good"),
    [
        (ExtendedKeyUsageOID.SERVER_AUTH, True),
        (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, True),
        (ExtendedKeyUsageOID.CLIENT_AUTH, False),
        (None, True),
    ],
)
def test_a_certificate_for_clients_is_not_one_for_servers(
    purpose: Any, good: bool, tmp_path: Path
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority")])
    builder = (
        x509.CertificateBuilder()
        .issuer_name(name)
        .public_key(key.public_key())
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2040, 1, 1))
    )
    authority = (
        builder.subject_name(name)
        .serial_number(1)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a leaf")])
    names = x509.SubjectAlternativeName([x509.DNSName("mx.example.org")])
    leaf = builder.subject_name(subject).serial_number(2).add_extension(names, False)
    if purpose is not None:
        leaf = leaf.add_extension(x509.ExtendedKeyUsage([purpose]), False)
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.public_bytes(Encoding.PEM))
    verdict = judge(VERIFIED, [leaf.sign(key, hashes.SHA256())], NOW, Authorities(path))
    assert verdict.good is good and ("servers" in verdict.reason) is not good


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_dane_ee_is_about_the_key_alone(
    selector: int, matching: int, authorities: Authorities
) -> None:
    """RFC 7672 section 3.1.1: no authority, no name, no date."""
    leaf = self_signed("wrong.example", end=datetime.datetime(2026, 2, 1))
    policy = dane(record(3, leaf, selector, matching))
    assert judge(policy, [leaf], NOW, authorities).good
    other = self_signed("mx.example.org")
    assert judge(policy, [other], NOW, authorities).result == "validation-failure"
    assert not judge(policy, [other, leaf], NOW, authorities).good  # the leaf must be it


@pytest.mark.parametrize("which", ["root", "middle"])
@pytest.mark.parametrize("matching", [0, 1])
def test_dane_ta(which: str, matching: int, authorities: Authorities) -> None:
    shown = [*CHAIN, PKI.root_certificate]
    anchor = shown[2] if which == "root" else shown[1]
    policy = dane(record(2, anchor, 0, matching))
    assert judge(policy, shown, NOW, authorities).good
    # names and dates count here
    assert (
        judge(dane(record(2, anchor), names=("x.example",)), shown, NOW, authorities).result
        == "certificate-host-mismatch"
    )
    assert judge(policy, shown, LATE, authorities).result == "certificate-expired"


def test_dane_ta_with_the_authority_in_the_dns_only(authorities: Authorities) -> None:
    policy = dane(record(2, PKI.root_certificate, 0, 0))
    assert judge(policy, CHAIN, NOW, authorities).good
    assert not judge(dane(record(2, PKI.root_certificate, 0, 1)), CHAIN, NOW, authorities).good


def test_dane_ta_shown_but_not_the_issuer(authorities: Authorities) -> None:
    """Everybody can show the right authority beside his own certificate."""
    leaf = self_signed("mx.example.org")
    policy = dane(record(2, PKI.root_certificate))
    shown = [leaf, *CHAIN[1:], PKI.root_certificate]
    assert judge(policy, shown, NOW, authorities).result == "certificate-not-trusted"


def test_dane_ta_does_not_match_the_leaf(authorities: Authorities) -> None:
    leaf = self_signed("mx.example.org")
    assert not judge(dane(record(2, leaf)), [leaf], NOW, authorities).good


def test_one_of_several_records_is_enough(authorities: Authorities) -> None:
    leaf = self_signed("x.example")
    policy = dane(record(2, PKI.root_certificate), record(3, leaf))
    assert judge(policy, [leaf], NOW, authorities).good


def test_webpki_does_not_count_under_dane(authorities: Authorities) -> None:
    policy = dane(record(3, self_signed("mx.example.org")))
    assert not judge(policy, CHAIN, NOW, authorities).good


def test_rubbish_in_the_dns_is_no_authority(authorities: Authorities) -> None:
    policy = dane(Tlsa(2, 0, 0, b"rubbish"))
    assert judge(policy, CHAIN, NOW, authorities).result == "validation-failure"


def test_authorities_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(Pki().root_pem)
    authorities = Authorities(path)
    assert not judge(VERIFIED, CHAIN, NOW, authorities).good
    path.write_bytes(PKI.root_pem)
    assert not judge(VERIFIED, CHAIN, NOW, authorities).good
    authorities.reload()
    assert judge(VERIFIED, CHAIN, NOW, authorities).good


@pytest.mark.parametrize("content", [None, b"", b"rubbish"])
def test_authorities_that_cannot_be_read(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OSError, match=r"ca\.pem"):
        judge(VERIFIED, CHAIN, NOW, Authorities(path))


def test_the_systems_authorities_do_not_know_ours() -> None:
    assert judge(VERIFIED, CHAIN, NOW, Authorities()).result == "certificate-not-trusted"
