"""DANE for SMTP, RFC 7672: the TLSA records of a host, which of them can be used, and what they match.

Only what DNSSEC vouches for counts. Nothing is connected to; chains are judged in `judge`.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import Certificate, load_der_x509_certificate

from ..dns.interfaces import DnsError, Resolver, Tlsa
from .mx import Host

__all__ = ["ABSENT", "Dane", "DaneState", "look_up", "matches", "usable"]

DANE_TA: Final = 2
DANE_EE: Final = 3
_CERTIFICATE: Final = 0
_SPKI: Final = 1
_FULL: Final = 0
_DIGESTS: Final = {1: hashlib.sha256, 2: hashlib.sha512}
_MAX_RECORDS: Final = 50


class DaneState(enum.Enum):
    ABSENT = "absent"
    """The host does not do DANE, as far as can be known."""
    USABLE = "usable"
    UNUSABLE = "unusable"
    """There are records, none that can be used: TLS is a must, the certificate does not matter."""
    FAILED = "failed"
    """The look-up failed: the host must not be used now."""


class Dane(NamedTuple):
    """`records`: the usable ones. `base`: the name they stand for, of SNI and of certificates. `text`: of a failure."""

    state: DaneState
    records: tuple[Tlsa, ...] = ()
    base: str = ""
    text: str = ""


ABSENT: Final = Dane(DaneState.ABSENT)


async def look_up(resolver: Resolver, host: Host, port: int) -> Dane:
    """What DANE says of a host whose name the DNS vouches for (its MX record, or the configuration)."""
    try:
        return await _look_up(resolver, host, port)
    except DnsError as error:
        return Dane(DaneState.FAILED, text=str(error))  # RFC 7672 section 2.1.2


async def _look_up(resolver: Resolver, host: Host, port: int) -> Dane:
    # RFC 7672 section 2.2.2: where the CNAMEs led first, then the name itself
    bases: Iterable[str] = dict.fromkeys((host.expanded, host.name))
    if not host.secure:
        # Never asked for in zones that are not signed: some of their servers do not answer.
        if host.expanded == host.name:
            return ABSENT
        # RFC 7672 section 2.1.3: a secure alias that leads to where nothing is secure
        alias = await resolver.alias(host.name)
        if not alias.secure or not alias.records:
            return ABSENT
        bases = (host.name,)
    for base in bases:
        answer = await resolver.tlsa(f"_{port}._tcp.{base}")
        if answer.secure and answer.records:
            records = usable(answer.records)
            return Dane(DaneState.USABLE if records else DaneState.UNUSABLE, records, base)
    return ABSENT


def usable(records: Sequence[Tlsa]) -> tuple[Tlsa, ...]:
    """Those that make sense; of several digests of one kind the strongest (RFC 7671 section 9)."""
    good = [one for one in records[:_MAX_RECORDS] if _is_usable(one)]
    best: dict[tuple[int, int], int] = {}
    for one in good:
        kind = (one.usage, one.selector)
        best[kind] = max(best.get(kind, 0), one.matching)
    return tuple(one for one in good if one.matching in (_FULL, best[(one.usage, one.selector)]))


def _is_usable(record: Tlsa) -> bool:
    # RFC 7672 section 3.1.3: PKIX-TA and PKIX-EE are not for SMTP.
    if record.usage not in (DANE_TA, DANE_EE) or record.selector not in (_CERTIFICATE, _SPKI):
        return False
    if record.matching == _FULL:
        if record.usage == DANE_TA and record.selector == _CERTIFICATE:
            return _is_certificate(record.data)  # an authority that stands in the DNS itself
        return bool(record.data)
    digest = _DIGESTS.get(record.matching)
    return digest is not None and len(record.data) == digest().digest_size


def _is_certificate(data: bytes) -> bool:
    try:
        load_der_x509_certificate(data)
    except Exception:  # the kinds of errors of parsers are many
        return False
    return True


def matches(record: Tlsa, certificate: Certificate) -> bool:
    """RFC 6698 section 2.1.4. Raises ValueError when the certificate is not to be read."""
    if record.selector == _CERTIFICATE:
        selected = certificate.public_bytes(Encoding.DER)
    else:
        selected = certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
    if record.matching != _FULL:
        selected = _DIGESTS[record.matching](selected).digest()
    return selected == record.data
