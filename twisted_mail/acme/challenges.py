"""What a CA is shown while it looks whether a name is ours: files, so that every process of the site can answer.

``<data>/acme/challenges/http-<token>`` and ``tls-<name>`` each hold a key authorization (RFC 8555 section 8.1). They
are there for as long as an order runs. Who asks for anything that is not a file there by its exact name gets nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ..disk import Disk

__all__ = ["ALPN", "HTTP", "TLS_ALPN", "Challenges", "challenge_certificate"]

HTTP: Final = "http-01"
TLS_ALPN: Final = "tls-alpn-01"
ALPN: Final = b"acme-tls/1"  # RFC 8737 section 6.2

_MAX_BYTES: Final = 1024
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,200}", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9_-][a-z0-9_.-]{0,199}", re.ASCII)
_ACME_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # RFC 8737 section 6.1


class Challenges:
    """The files in `directory`. `put` and `clear` block; the others read a file of 100 octets at most."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory

    def put(self, kind: str, name: str, token: str, authorization: str) -> None:
        """Answer. Raises OSError, and ValueError for a token that is none (RFC 8555 section 8.3)."""
        path = self._path(kind, name, token)
        if path is None or not _TOKEN.fullmatch(token):
            raise ValueError("a token that is none")
        draft = f"{self._directory}/.draft"
        if self._disk.exists(draft):
            self._disk.unlink(draft)
        fd = self._disk.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            self._disk.write(fd, authorization.encode("ascii"))
        finally:
            self._disk.close(fd)
        self._disk.rename(draft, path)

    def clear(self) -> None:
        """Answer nothing any more. Raises OSError."""
        for name in self._disk.names(self._directory):
            self._disk.unlink(f"{self._directory}/{name}")

    def page(self, token: str) -> bytes | None:
        """What http-01 is answered with."""
        path = self._path(HTTP, "", token)
        return None if path is None else self._read(path)

    def certificate(
        self, name: str, now: float
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
        """What tls-alpn-01 for `name` is answered with."""
        path = self._path(TLS_ALPN, name, "")
        authorization = None if path is None else self._read(path)
        return None if authorization is None else challenge_certificate(name, authorization, now)

    def _path(self, kind: str, name: str, token: str) -> str | None:
        if kind == HTTP and _TOKEN.fullmatch(token):
            return f"{self._directory}/http-{token}"
        if kind == TLS_ALPN and _NAME.fullmatch(name):
            return f"{self._directory}/tls-{name}"
        return None

    def _read(self, path: str) -> bytes | None:
        try:
            fd = self._disk.open(path, os.O_RDONLY)
        except OSError:
            return None
        try:
            return self._disk.pread(fd, _MAX_BYTES, 0) or None
        except OSError:
            return None
        finally:
            self._disk.close(fd)


def challenge_certificate(
    name: str, authorization: bytes, now: float
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate by ourselves that says the digest of the key authorization, and its key (RFC 8737 section 3)."""
    key = ec.generate_private_key(ec.SECP256R1())
    moment = datetime.fromtimestamp(now, UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    # RFC 8737 section 3: Authorization ::= OCTET STRING (SIZE (32))
    digest = b"\x04\x20" + hashlib.sha256(authorization).digest()
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(days=1))
        .not_valid_after(moment + timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_ACME_IDENTIFIER, digest), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made, key
