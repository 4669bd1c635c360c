"""Whether the certificates a host showed are what the policy for it asks for: one function, and who is believed.

The judgement is made after the handshake, on the chain as it came, at the time of the world's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from .dane import DANE_EE, DANE_TA, matches
from .names import certificate_names, is_for
from .tls_policy import Level, TlsPolicy
from .words import told

__all__ = ["Authorities", "Verdict", "judge", "unreadable"]

_MAX_CHAIN: Final = 12
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_SYSTEM_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",
)
_LEAST_RSA: Final = 2048
_DATES: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


class Verdict(NamedTuple):
    """`reason`: for people, of what is not good, such as ``its certificate is not for mx.example.org``.

    `result`: the same as RFC 8460 section 4.3 calls it, "" when all is well.
    """

    good: bool
    reason: str = ""
    result: str = ""


_GOOD: Final = Verdict(True)


class Authorities:
    """Who is believed: the certificates of a PEM file, or the system's. Read when first needed, and after `reload`."""

    def __init__(self, ca_file: Path | None = None) -> None:
        self._file = ca_file
        self._found: list[crypto.X509] = []

    def reload(self) -> None:
        """Read them again at the next use."""
        self._found = []

    def store(self) -> crypto.X509Store:
        """A new one: OpenSSL takes a time for a store only once. Raises OSError when there is nobody to believe."""
        if not self._found:
            path = _system_file() if self._file is None else self._file
            self._found = _read(path)
            if not self._found:
                raise OSError(f"{path} holds no certificates that can be read")
        store = crypto.X509Store()
        for certificate in self._found:
            store.add_cert(certificate)
        return store


def _system_file() -> Path:
    import ssl

    # With SSL_CERT_FILE, as all programs that use OpenSSL have it.
    named = ssl.get_default_verify_paths().cafile
    for path in (named, *_SYSTEM_FILES):
        if path is not None and Path(path).exists():
            return Path(path)
    raise OSError("this system has no file of certificate authorities (package ca-certificates)")


def _read(path: Path) -> list[crypto.X509]:
    found = []
    for part in path.read_bytes().split(_BEGIN)[1:]:
        try:
            found.append(crypto.load_certificate(crypto.FILETYPE_PEM, _BEGIN + part))
        except crypto.Error:
            continue  # one that nobody can read is nobody's authority
    return found


def judge(
    policy: TlsPolicy,
    chain: Sequence[x509.Certificate],
    now: float,
    authorities: Authorities,
) -> Verdict:
    """Whether `chain`, the peer's own certificate first, is what `policy` asks for. `now`: seconds since 1970.

    Never raises for what the peer showed; raises OSError when there is nobody to believe. Takes half a millisecond.
    """
    if policy.level < Level.VERIFIED:
        return _GOOD
    if not chain:
        return Verdict(False, "it showed no certificate", "validation-failure")
    chain = chain[:_MAX_CHAIN]
    moment = datetime.fromtimestamp(now, UTC)
    try:
        if policy.level is Level.DANE:
            return _by_dane(policy, chain, moment)
        return _by_authorities(policy, chain, moment, authorities.store())
    except OSError:
        raise
    except Exception as error:
        # What no parser can read proves nothing; and parsers have many errors, UnsupportedAlgorithm for one.
        return unreadable(error)


def unreadable(error: Exception) -> Verdict:
    """Of a certificate that made a parser raise."""
    return Verdict(
        False, f"its certificate is malformed ({told(str(error))})", "validation-failure"
    )


def _by_authorities(
    policy: TlsPolicy,
    chain: Sequence[x509.Certificate],
    moment: datetime,
    store: crypto.X509Store,
) -> Verdict:
    verdict = _trusted(store, chain, moment)
    if verdict.good and (why := _weakness(chain[0])):
        verdict = Verdict(False, why, "certificate-not-trusted")
    return verdict if not verdict.good else _named(policy, chain[0])


def _weakness(certificate: x509.Certificate) -> str:
    """What no authority should vouch for any more; OpenSSL looks at it only where it judges in the handshake. With DANE
    it is the host itself that vouches for its key.
    """
    key = certificate.public_key()
    # RFC 9325 section 4.5
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA:
        return f"its key is too short ({key.key_size} bits)"
    return ""


def _by_dane(policy: TlsPolicy, chain: Sequence[x509.Certificate], moment: datetime) -> Verdict:
    # RFC 7672 section 3.1.1: the record binds the key to the host; names and dates in the certificate say nothing.
    if any(one.usage == DANE_EE and matches(one, chain[0]) for one in policy.tlsa):
        return _GOOD
    anchors = [one for one in policy.tlsa if one.usage == DANE_TA]
    trusted = [
        certificate
        for certificate in chain[1:]
        if any(matches(anchor, certificate) for anchor in anchors)
    ]
    for anchor in anchors:
        if anchor.matching == 0 and anchor.selector == 0:  # the authority itself stands in the DNS
            trusted.append(x509.load_der_x509_certificate(anchor.data))
    if not trusted:
        return Verdict(
            False, "its certificate is not one that its TLSA records name", "validation-failure"
        )
    store = crypto.X509Store()
    # RFC 7672 section 3.1.2: whoever it is, and be it an intermediate
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for certificate in trusted:
        store.add_cert(crypto.X509.from_cryptography(certificate))
    verdict = _trusted(store, chain, moment)
    return verdict if not verdict.good else _named(policy, chain[0])


def _trusted(
    store: crypto.X509Store, chain: Sequence[x509.Certificate], moment: datetime
) -> Verdict:
    store.set_time(moment)
    own, *others = (crypto.X509.from_cryptography(one) for one in chain)
    try:
        crypto.X509StoreContext(store, own, others).verify_certificate()
    except crypto.X509StoreContextError as error:
        number, _, text = error.errors[:3]
        if number in _DATES:
            return Verdict(
                False, f"its certificate is not valid now ({text})", "certificate-expired"
            )
        return Verdict(
            False, f"its certificate is by nobody we trust ({text})", "certificate-not-trusted"
        )
    if not _for_servers(chain[0]):
        return Verdict(False, "its certificate is not for servers", "certificate-not-trusted")
    return _GOOD


def _for_servers(certificate: x509.Certificate) -> bool:
    """RFC 5280 section 4.2.1.12; OpenSSL looks at it only when it is told the purpose."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return (
        ExtendedKeyUsageOID.SERVER_AUTH in usage
        or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage
    )


def _named(policy: TlsPolicy, certificate: x509.Certificate) -> Verdict:
    names = certificate_names(certificate)
    if is_for(names, policy.names):
        return _GOOD
    shown = told(", ".join(names[:3])) or "nobody"
    return Verdict(
        False,
        f"its certificate is for {shown}, not for {policy.names[0]}",
        "certificate-host-mismatch",
    )
