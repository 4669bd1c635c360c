"""What is known of a site and one of its domains, as plain values: `Facts`."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import Certificate

from ..storage.dkim_keys import KeyRow
from ..web.mta_sts import StsHosting

__all__ = ["Facts", "spki_digest"]


_NO_POLICY: Final = StsHosting()


@dataclass(frozen=True, slots=True)
class Facts:
    """Names are lower-case A-labels without the last dot, addresses as `ipaddress` writes them.

    `host`: what the MX record says; `helo`: what we say in EHLO. `addresses`: where `host` is reached, as far as it is
    known; `sources`: where mail leaves from, () for `addresses`; `families`: of those, 4 and 6.
    `services`: name of an SRV record (``_imaps``) and port, 0 for one that is not offered; `inner`: of those, what is
    on loopback, where a proxy may pass it on, with its usual port. `keys`: for DKIM; `signs`: whether anything is
    signed. `digests`: SHA-256 of the keys that the server has or will have, for TLSA;
    `certificate`: what is served, None when it cannot be read; `passing`: why keys do not stay, "" when they do;
    `development`: nobody else trusts the certificate. `authority`: the CA's name in CAA records, "" when it is not
    known. `autoconfig`: whether mail programs get their settings from our web port. `reports`: the address that reports
    are sent to. `relay`: through whom all mail leaves, "" for nobody.
    """

    domain: str
    host: str
    helo: str
    addresses: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    families: tuple[int, ...] = (4, 6)
    services: tuple[tuple[str, int], ...] = ()
    inner: tuple[tuple[str, int], ...] = ()
    keys: tuple[KeyRow, ...] = ()
    signs: bool = True
    digests: tuple[bytes, ...] = ()
    certificate: Certificate | None = None
    passing: str = ""
    development: bool = False
    authority: str = ""
    sts: StsHosting = _NO_POLICY
    autoconfig: bool = False
    reports: str = ""
    relay: str = ""

    def known(self, name: str) -> tuple[str, ...]:
        """The addresses that `host` or `helo` should lead to."""
        return self.addresses if name == self.host else self.sources or self.addresses

    @property
    def hosts_policy(self) -> bool:
        """Whether this site serves the domain's MTA-STS policy."""
        return self.sts.policy_for(self.domain) is not None


def spki_digest(key: PublicKeyTypes) -> bytes:
    """SHA-256 of a public key: what TLSA 3 1 1 holds (RFC 6698 section 2.1)."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
