"""The development CA and certificate: made once, kept while good, and taken by strict clients."""

from __future__ import annotations

import os
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa, x25519

from twisted_mail.certs import (
    inspect_certificate,
    load_pair,
    make_development_certificates,
)

NOW = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
DAY = 86_400


def connects(ca: Path, certificate: Path, key: Path, name: str) -> None:
    """A handshake in memory, as strict as Python 3.13; raises ssl.SSLError."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate, key)
    client_context = ssl.create_default_context(cafile=str(ca))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname=name)
    server = server_context.wrap_bio(up, down, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("name", ["mail.example.org", "localhost", "127.0.0.1", "::1"])
def test_strict_clients_take_it(tmp_path: Path, name: str) -> None:
    # The clock of the client is the real one, so this one is too.
    now = datetime.now(UTC).timestamp()
    made = make_development_certificates(tmp_path, "mail.example.org", now=now)
    connects(made.ca, made.certificate, made.key, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        connects(made.ca, made.certificate, made.key, "mail.example.net")


def test_the_files(tmp_path: Path) -> None:
    made = make_development_certificates(tmp_path / "certs", "localhost", now=NOW)
    assert sorted(path.name for path in (tmp_path / "certs").iterdir()) == [
        "ca.key",
        "ca.pem",
        "localhost.key",
        "localhost.pem",
    ]
    assert mode(made.key) == mode(made.ca.with_suffix(".key")) == 0o600
    assert mode(made.certificate) == mode(made.ca) == 0o644


@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_others_may_read_the_ca_whatever_the_mask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        made = make_development_certificates(tmp_path / "certs", "localhost", now=NOW)
    finally:
        os.umask(before)
    assert mode(tmp_path / "certs") == 0o755
    assert mode(made.ca) == mode(made.certificate) == 0o644
    assert mode(made.key) == mode(made.ca.with_suffix(".key")) == 0o600


def test_the_mode_of_a_directory_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir(mode=0o700)
    make_development_certificates(tmp_path / "certs", "localhost", now=NOW)
    assert mode(tmp_path / "certs") == 0o700


@pytest.mark.parametrize("name", ["localhost", "ca"])
def test_a_certificate_of_somebodys_own_without_its_key_is_left_alone(
    tmp_path: Path, name: str
) -> None:
    own = tmp_path / f"{name}.pem"
    trustme.CA().cert_pem.write_to_path(str(own))
    before = own.read_bytes()
    with pytest.raises(ValueError, match=rf"{name}\.pem was not made here"):
        make_development_certificates(tmp_path, "localhost", now=NOW)
    assert own.read_bytes() == before


def test_a_key_that_waits_for_its_certificate_is_left_alone(tmp_path: Path) -> None:
    """Somebody has sent a request to a CA; without the key the answer would be worth nothing."""
    own = tmp_path / "mail.example.org.key"
    own.write_bytes(
        rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    before = own.read_bytes()
    with pytest.raises(ValueError, match=r"mail\.example\.org\.key was not made here"):
        make_development_certificates(tmp_path, "mail.example.org", now=NOW)
    assert own.read_bytes() == before


def test_a_key_without_a_certificate_gets_one(tmp_path: Path) -> None:
    """What a crash between the two leaves; nobody could tell such a key from another's."""
    made = make_development_certificates(tmp_path, "localhost", now=NOW)
    before = made.key.read_bytes()
    made.certificate.unlink()
    assert make_development_certificates(tmp_path, "localhost", now=NOW).made
    load_pair(made.certificate, made.key)
    assert made.key.read_bytes() == before


def test_extensions(tmp_path: Path) -> None:
    made = make_development_certificates(tmp_path, "localhost", now=NOW)
    ca = x509.load_pem_x509_certificate(made.ca.read_bytes())
    leaf = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert basic.value.ca
    assert ca.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    subject = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == subject.digest


def test_a_second_start_keeps_everything(tmp_path: Path) -> None:
    first = make_development_certificates(tmp_path, "localhost", now=NOW)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    second = make_development_certificates(tmp_path, "localhost", now=NOW + 300 * DAY)
    assert first.made
    assert not second.made
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("days", [368, 400, 3000])
def test_the_certificate_is_renewed_and_the_ca_stays(tmp_path: Path, days: int) -> None:
    first = make_development_certificates(tmp_path, "localhost", now=NOW)
    ca = first.ca.read_bytes()
    old = inspect_certificate(first.certificate)
    assert make_development_certificates(tmp_path, "localhost", now=NOW + days * DAY).made
    new = inspect_certificate(first.certificate, first.key)
    assert first.ca.read_bytes() == ca
    assert new.key_matches
    assert new.not_after > old.not_after
    assert new.not_before < NOW + days * DAY


def test_the_ca_is_renewed_with_all_it_signed(tmp_path: Path) -> None:
    made = make_development_certificates(tmp_path, "localhost", now=NOW)
    ca = made.ca.read_bytes()
    assert make_development_certificates(tmp_path, "localhost", now=NOW + 3640 * DAY).made
    assert made.ca.read_bytes() != ca
    chain, _ = load_pair(made.certificate, made.key)
    chain[0].verify_directly_issued_by(x509.load_pem_x509_certificate(made.ca.read_bytes()))


@pytest.mark.parametrize("lost", ["ca.pem", "ca.key", "localhost.pem", "localhost.key"])
def test_what_is_missing_is_made(tmp_path: Path, lost: str) -> None:
    made = make_development_certificates(tmp_path, "localhost", now=NOW)
    (tmp_path / lost).unlink()
    assert make_development_certificates(tmp_path, "localhost", now=NOW).made
    chain, _ = load_pair(made.certificate, made.key)
    chain[0].verify_directly_issued_by(x509.load_pem_x509_certificate(made.ca.read_bytes()))
    assert not make_development_certificates(tmp_path, "localhost", now=NOW).made


def test_a_key_without_its_certificate_is_what_a_crash_leaves(tmp_path: Path) -> None:
    made = make_development_certificates(tmp_path, "localhost", now=NOW)
    other = make_development_certificates(tmp_path / "other", "localhost", now=NOW)
    other.key.rename(made.key)
    assert make_development_certificates(tmp_path, "localhost", now=NOW).made
    load_pair(made.certificate, made.key)


def test_each_hostname_has_files_of_its_own(tmp_path: Path) -> None:
    first = make_development_certificates(tmp_path, "localhost", now=NOW)
    second = make_development_certificates(tmp_path, "mail.example.org", now=NOW)
    third = make_development_certificates(tmp_path, "ca", now=NOW)
    assert len({first.certificate, second.certificate, third.certificate, first.ca}) == 4
    assert first.ca == second.ca == third.ca
    assert inspect_certificate(second.certificate).names == (
        "mail.example.org",
        "localhost",
        "127.0.0.1",
        "::1",
    )
    assert not make_development_certificates(tmp_path, "localhost", now=NOW).made


def test_a_certificate_for_other_names_is_renewed(tmp_path: Path) -> None:
    made = make_development_certificates(tmp_path, "localhost", now=NOW)
    other = make_development_certificates(tmp_path, "mail.example.org", now=NOW)
    other.key.write_bytes(made.key.read_bytes())
    other.certificate.write_bytes(made.certificate.read_bytes())
    assert make_development_certificates(tmp_path, "mail.example.org", now=NOW).made
    assert "mail.example.org" in inspect_certificate(other.certificate).names


@pytest.mark.parametrize("stem", ["ca", "localhost"])
def test_a_certificate_of_somebody_else_is_never_overwritten(tmp_path: Path, stem: str) -> None:
    own = trustme.CA().issue_cert("localhost")
    own.cert_chain_pems[0].write_to_path(tmp_path / f"{stem}.pem")
    own.private_key_pem.write_to_path(tmp_path / f"{stem}.key")
    before = (tmp_path / f"{stem}.key").read_bytes()
    with pytest.raises(ValueError, match="was not made here"):
        make_development_certificates(tmp_path, "localhost", now=NOW)
    assert (tmp_path / f"{stem}.key").read_bytes() == before


def test_a_long_hostname(tmp_path: Path) -> None:
    hostname = ".".join(["a" * 60, "b" * 60, "example.org"])
    made = make_development_certificates(tmp_path, hostname, now=NOW)
    assert hostname in inspect_certificate(made.certificate).names


def test_nothing_is_left_behind_when_the_disk_refuses(tmp_path: Path) -> None:
    (tmp_path / "localhost.key").mkdir()
    with pytest.raises(OSError):
        make_development_certificates(tmp_path, "localhost", now=NOW)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_inspect(tmp_path: Path) -> None:
    made = make_development_certificates(tmp_path, "localhost", now=NOW)
    seen = inspect_certificate(made.certificate, made.key)
    assert seen.names == ("localhost", "127.0.0.1", "::1")
    assert seen.chain == 2
    assert seen.key_matches
    assert seen.not_before == NOW - 3600
    assert seen.not_after == NOW + 365 * DAY
    assert "twisted-mail development CA" in seen.issuer
    assert inspect_certificate(made.certificate).key_matches is None
    assert inspect_certificate(made.certificate, made.ca.with_suffix(".key")).key_matches is False
    assert inspect_certificate(made.ca).names == ()


def test_inspect_says_what_is_wrong(tmp_path: Path) -> None:
    made = make_development_certificates(tmp_path, "localhost", now=NOW)
    with pytest.raises(ValueError, match=r"localhost\.key is not PEM with a certificate"):
        inspect_certificate(made.key)
    with pytest.raises(ValueError, match=r"localhost\.pem is not PEM with a private key"):
        inspect_certificate(made.certificate, made.certificate)
    with pytest.raises(FileNotFoundError):
        inspect_certificate(tmp_path / "none.pem")
    _, key = load_pair(made.certificate, made.key)
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ValueError, match="has a passphrase"):
        inspect_certificate(made.certificate, made.key)
    made.key.write_bytes(
        x25519.X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with pytest.raises(ValueError, match="is a key that TLS has no use for"):
        inspect_certificate(made.certificate, made.key)
    with pytest.raises(ValueError, match="is not the key of"):
        load_pair(made.certificate, made.ca.with_suffix(".key"))
