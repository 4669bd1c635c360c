"""Keys, requests and what comes back: a certificate is used only when it is for us, for our names, and for now."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .schedule import Lifetime

__all__ = ["Held", "checked_chain", "held", "load_key", "make_key", "renewal_id", "request"]

_MAX_CHAIN: Final = 10
_SKEW: Final = 86_400.0  # a clock of ours that is behind must not cost the certificate


class Held(NamedTuple):
    """The certificate that is served. `names`: DNS names, lower case; `renewal_id`: "" when it has none."""

    names: tuple[str, ...]
    life: Lifetime
    issuer: str
    serial: str
    renewal_id: str


def make_key() -> bytes:
    """A new P-256 key as PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Raises ValueError that says nothing of the content."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (TypeError, ValueError):
        raise ValueError("no PEM with a private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a key of an elliptic curve")
    return key


def request(key: bytes, names: Sequence[str]) -> bytes:
    """A CSR (DER) for `names`, without a subject: RFC 8555 section 7.4 wants the names, and nothing else."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True
    )
    signed = builder.sign(load_key(key), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def held(pem: bytes) -> Held:
    """What the first certificate of `pem` says. Raises ValueError."""
    return _held(_chain(pem)[0])


def checked_chain(pem: bytes, key: bytes, names: Iterable[str], now: float) -> bytes:
    """The chain that a CA sent, as PEM with nothing around it. Raises ValueError: it is not what was asked for."""
    chain = _chain(pem)
    leaf = chain[0]
    if len(chain) > _MAX_CHAIN:
        raise ValueError(f"the CA's chain has {len(chain)} certificates")
    if leaf.public_key() != load_key(key).public_key():
        raise ValueError("the CA's certificate is not for our key")
    found = _held(leaf)
    missing = sorted(set(names) - set(found.names))
    if missing:
        raise ValueError(f"the CA's certificate is not for {', '.join(missing)}")
    if not found.life.start - _SKEW <= now < found.life.end:
        raise ValueError("the CA's certificate is not valid now: it, or our clock, is wrong")
    if now >= found.life.start + found.life.length * 2 / 3:
        # Renewing would begin at once, and again, for ever.
        raise ValueError("the CA's certificate is nearly over already")
    for one, above in pairwise(chain):
        try:
            one.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature):
            raise ValueError("the CA's certificates are no chain") from None
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)


def renewal_id(certificate: x509.Certificate) -> str:
    """RFC 9773 section 4.1: issuer's key identifier and serial number; "" when it does not say them."""
    try:
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        return ""
    identifier = issuer.value.key_identifier
    if not identifier:
        return ""
    serial = certificate.serial_number
    # The octets of the DER INTEGER: one more where the first bit is set.
    octets = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    return f"{_base64url(identifier)}.{_base64url(octets)}"


def _chain(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise ValueError("no PEM with a certificate") from None


def _held(leaf: x509.Certificate) -> Held:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        dns = ()
    life = Lifetime(leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp())
    return Held(
        dns, life, leaf.issuer.rfc4514_string(), f"{leaf.serial_number:x}", renewal_id(leaf)
    )


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
