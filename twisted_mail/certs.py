"""Certificate files: reading them, and making a development CA with a server certificate.

For trying things out: a client that trusts `ca.pem` gets a valid TLS connection to this machine.
The files, all in one directory:

    ca.pem            the CA's certificate: give it to clients
    ca.key            its key, mode 0600
    <hostname>.pem    the server's certificate, then the CA's
    <hostname>.key    its key, mode 0600

Promises: each file appears whole and with its mode, or not at all; a key is there before its
certificate. What is still good is kept, the CA for as long as it lasts, so that clients need to
trust it once only; what was not made here is never overwritten. A real site has certificates of
its own and never comes here.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "Certificate",
    "Development",
    "ServerKey",
    "inspect_certificate",
    "load_pair",
    "make_development_certificates",
    "names_of",
    "read_file",
]

_CA_VALID: Final = timedelta(days=3650)
_LEAF_VALID: Final = timedelta(days=365)  # browsers and Apple's clients take 397
_RENEW: Final = timedelta(days=30)
_SKEW: Final = timedelta(hours=1)  # for clients whose clock is behind
_LOCAL_NAMES: Final = ("localhost",)
_LOCAL_ADDRESSES: Final = ("127.0.0.1", "::1")
_OURS: Final = "twisted-mail development CA"
_MAX_BYTES: Final = 1_048_576
_MAX_COMMON_NAME: Final = 64  # RFC 5280 appendix A.1

ServerKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)

_Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


@dataclass(frozen=True, slots=True)
class Development:
    """Where the development files are. `made` is False when all of them were good already."""

    ca: Path
    certificate: Path
    key: Path
    made: bool


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the first certificate of a PEM file says.

    `names` are its DNS names and addresses; times are seconds since 1970; `chain` counts the
    certificates in the file; `key_matches` is None when no key was looked at.
    """

    names: tuple[str, ...]
    issuer: str
    not_before: float
    not_after: float
    chain: int
    key_matches: bool | None


def make_development_certificates(directory: Path, hostname: str, *, now: float) -> Development:
    """Make what is missing or worn out in `directory`, at `now` (seconds since 1970).

    A pair is renewed when one of it is missing or it ends within 30 days; the server's also when it
    is not for `hostname` or not of this CA. Raises OSError when a file can not be read or written,
    ValueError when one of these names holds something else.
    """
    moment = datetime.fromtimestamp(now, UTC)
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        pass
    else:
        # A daemon's mask would keep `ca.pem` from everybody else; keys have a mode of their own.
        directory.chmod(0o755)
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # `mailctl certs dev` and a server that starts may come at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _make(directory, hostname, moment)
    finally:
        os.close(lock)


def inspect_certificate(certificate: Path, key: Path | None = None) -> Certificate:
    """Read a PEM file with a certificate chain, and its key when given.

    Raises OSError when a file can not be read, ValueError when it is not what it should be.
    """
    chain = _load_chain(certificate)
    leaf = chain[0]
    matches = None
    if key is not None:
        matches = _load_key(key).public_key() == leaf.public_key()
    return Certificate(
        names_of(leaf),
        leaf.issuer.rfc4514_string(),
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
        len(chain),
        matches,
    )


def load_pair(
    certificate: Path, key: Path, read: Callable[[Path], bytes] | None = None
) -> tuple[list[x509.Certificate], ServerKey]:
    """The chain, the server's own certificate first, and its key. `read`: another way to what is in the files.

    Raises OSError when a file can not be read, ValueError when it is not what it should be or the
    two do not belong together; both name the file.
    """
    chain = _load_chain(certificate, read or read_file)
    private = _load_key(key, read or read_file)
    if private.public_key() != chain[0].public_key():
        raise ValueError(f"{key} is not the key of {certificate}")
    return chain, private


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names and addresses that it is for (RFC 9525 section 2: the subject names none)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _make(directory: Path, hostname: str, moment: datetime) -> Development:
    stem = "ca-server" if hostname == "ca" else hostname
    ca, ca_key = directory / "ca.pem", directory / "ca.key"
    made = Development(ca, directory / f"{stem}.pem", directory / f"{stem}.key", True)
    authority = _load(ca, ca_key, moment)
    if authority is None:
        key = _key_for(ca, ca_key)
        authority = _make_authority(key, moment), key
        _write_chain(ca, [authority[0]])
    leaf = _load(made.certificate, made.key, moment)
    if leaf is not None and _is_for(leaf[0], hostname) and _is_by(leaf[0], authority[0]):
        return Development(made.ca, made.certificate, made.key, False)
    key = _key_for(made.certificate, made.key)
    _write_chain(made.certificate, [_make_leaf(hostname, key, authority, moment), authority[0]])
    return made


def _load(certificate: Path, key: Path, moment: datetime) -> _Pair | None:
    """What is there, if it belongs together and is good for some time yet. ValueError for what is
    there and was not made here: nobody's own certificate is overwritten.
    """
    try:
        found = _load_chain(certificate)[0]
        if _OURS not in _organizations(found.issuer):
            raise _not_ours(certificate)
        private = _load_key(key)
    except FileNotFoundError:
        return None
    lasts = found.not_valid_before_utc <= moment < found.not_valid_after_utc - _RENEW
    if (
        not lasts
        or not isinstance(private, ec.EllipticCurvePrivateKey)
        or private.public_key() != found.public_key()
    ):
        return None
    return found, private


def _key_for(certificate: Path, key: Path) -> ec.EllipticCurvePrivateKey:
    """The key for a certificate that is to be made: a new one, written; but a key that stands
    alone stays. A crash has left it, or its owner waits for what a CA will send.
    """
    if key.exists() and not certificate.exists():
        found = _load_key(key)
        if not isinstance(found, ec.EllipticCurvePrivateKey):
            raise _not_ours(key)
        return found
    made = ec.generate_private_key(ec.SECP256R1())
    _write(
        key,
        made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        0o600,
    )
    return made


def _not_ours(path: Path) -> ValueError:
    return ValueError(f"{path} was not made here: name it in [tls], or move it away")


def read_file(path: Path) -> bytes:
    """A certificate's or key's file. Raises OSError."""
    with path.open("rb") as file:
        return file.read(_MAX_BYTES)


def _load_chain(path: Path, read: Callable[[Path], bytes] = read_file) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(read(path))
    except ValueError:
        raise ValueError(f"{path} is not PEM with a certificate") from None


def _load_key(path: Path, read: Callable[[Path], bytes] = read_file) -> ServerKey:
    try:
        key = serialization.load_pem_private_key(read(path), None)
    except TypeError:
        raise ValueError(f"{path} has a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path} is not PEM with a private key") from None
    if not isinstance(key, ServerKey):
        raise ValueError(f"{path} is a key that TLS has no use for")
    return key


def _is_for(certificate: x509.Certificate, hostname: str) -> bool:
    return {hostname, *_LOCAL_NAMES, *_LOCAL_ADDRESSES} <= set(names_of(certificate))


def _is_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _make_authority(key: ec.EllipticCurvePrivateKey, moment: datetime) -> x509.Certificate:
    # The serial number keeps an old CA and its successor apart in trust stores.
    serial = x509.random_serial_number()
    name = _name(f"CA {serial % 0x10000:04x}", _OURS)
    return (
        _builder(name, name, key, serial, moment, _CA_VALID)
        # RFC 5280 section 4.2.1.9
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _make_leaf(
    hostname: str, key: ec.EllipticCurvePrivateKey, authority: _Pair, moment: datetime
) -> x509.Certificate:
    issuer, issuer_key = authority
    names: list[x509.GeneralName] = [
        *(x509.DNSName(name) for name in dict.fromkeys((hostname, *_LOCAL_NAMES))),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in _LOCAL_ADDRESSES),
    ]
    return (
        _builder(
            _name(hostname[:_MAX_COMMON_NAME], "twisted-mail development"),
            issuer.subject,
            key,
            x509.random_serial_number(),
            moment,
            _LEAF_VALID,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        # RFC 5280 section 4.2.1.1
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .sign(issuer_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    serial: int,
    moment: datetime,
    valid: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(moment - _SKEW)
        .not_valid_after(moment + valid)
        # RFC 5280 section 4.2.1.2
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str, organization: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _organizations(name: x509.Name) -> list[object]:
    return [one.value for one in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _write_chain(path: Path, chain: list[x509.Certificate]) -> None:
    _write(path, b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain), 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    """The file as a whole, or as it was; never readable by more than `mode` says."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)  # of a process with our number that died here
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
