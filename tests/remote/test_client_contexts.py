"""What our client takes of a server's TLS: 1.2 and newer always; where a policy demands TLS, only what is strong."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa as keys
from OpenSSL import SSL
from tls_in_memory import Joint

from twisted_mail.remote.contexts import ClientContexts
from twisted_mail.remote.judge import Authorities, judge
from twisted_mail.remote.tls_policy import Level, TlsPolicy

PKI = trustme.CA()
LEAF = PKI.issue_cert("mx.example")


class Talk:
    """A handshake of ours with a server of the standard library, in memory; raises when there is none."""

    def __init__(self, strict: bool, server: ssl.SSLContext) -> None:
        creator = ClientContexts().creator("mx.example", strict=strict)
        self.client = creator.clientConnectionForTLS(None)  # type: ignore[arg-type]
        self.client.set_connect_state()
        joint = Joint(self.client)
        self.server = server.wrap_bio(joint.incoming, joint.outgoing, server_side=True)
        joint.handshake(self.server)


def server(ciphers: str = "DEFAULT:@SECLEVEL=0") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(ciphers)
    LEAF.configure_cert(context)
    return context


class Authority:
    """Signs whatever it is asked to."""

    def __init__(self) -> None:
        self.key = keys.generate_private_key(65537, 2048)
        self.certificate = self.sign("the authority", self.key)

    def sign(self, name: str, key: keys.RSAPrivateKey) -> x509.Certificate:
        subject, issuer = (
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)])
            for one in (name, "the authority")
        )
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            issuer, subject, key.public_key(), 7, now - timedelta(1), now + timedelta(1)
        )
        is_ca = key is self.key
        builder = builder.add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        names = x509.SubjectAlternativeName([x509.DNSName(name.replace(" ", "."))])
        return builder.add_extension(names, critical=False).sign(self.key, hashes.SHA256())


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def rsa(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> dict[int, Path]:
    """Certificates with keys of RSA, by their size."""
    made = {}
    for size in (1024, 2048):
        key = keys.generate_private_key(65537, size)
        certificate = authority.sign("mx.example", key)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        made[size] = tmp_path_factory.mktemp("rsa") / "pair.pem"
        made[size].write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return made


@pytest.mark.parametrize(
    ("size", "reason"), [(2048, ""), (1024, "its key is too short (1024 bits)")]
)
def test_what_an_authority_should_not_have_signed(
    tmp_path: Path, authority: Authority, size: int, reason: str
) -> None:
    """Where a verified server is asked for."""
    own = authority.sign("mx.example", keys.generate_private_key(65537, size))
    file = tmp_path / "ca.pem"
    file.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    policy = TlsPolicy(Level.VERIFIED, ("mx.example",))
    now = datetime.now(UTC).timestamp()
    verdict = judge(policy, [own, authority.certificate], now, Authorities(file))
    assert verdict.reason == reason
    assert verdict.good is (not reason)


def with_rsa(path: Path, ciphers: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    context.load_cert_chain(path)
    return context


def refused(strict: bool, context: ssl.SSLContext) -> bool:
    try:
        Talk(strict, context)
    except (ssl.SSLError, SSL.Error):
        return True
    return False


@pytest.mark.parametrize("strict", [True, False])
def test_the_newest(strict: bool) -> None:
    talk = Talk(strict, server())
    assert talk.client.get_protocol_version_name() == "TLSv1.3"
    assert talk.server.compression() is None


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("old", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_nothing_older_than_1_2(strict: bool, old: ssl.TLSVersion) -> None:
    context = server()
    context.minimum_version = context.maximum_version = old
    assert refused(strict, context)


@pytest.mark.parametrize(
    ("ciphers", "size", "strong"),
    [
        ("ECDHE-RSA-AES256-GCM-SHA384", 2048, True),
        ("ECDHE-RSA-CHACHA20-POLY1305", 2048, True),
        ("AES256-GCM-SHA384", 2048, False),  # without forward secrecy
        ("AES128-SHA", 2048, False),
        ("ECDHE-RSA-AES256-GCM-SHA384", 1024, True),  # the key is judged after the handshake
    ],
)
def test_what_is_weak_is_better_than_none_where_nobody_demands_more(
    rsa: dict[int, Path], ciphers: str, size: int, strong: bool
) -> None:
    context = with_rsa(rsa[size], ciphers)
    assert not refused(False, context)
    assert refused(True, context) is not strong


@pytest.mark.parametrize("strict", [True, False])
def test_nobody_is_no_server(strict: bool) -> None:
    """Without a certificate, or without encryption, it is no TLS at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:eNULL:@SECLEVEL=0")
    assert refused(strict, context)
