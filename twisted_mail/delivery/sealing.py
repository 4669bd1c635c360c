"""Signatures on what leaves: DKIM for what users and the server itself write, ARC for what aliases forward.

A domain is signed for when it has keys; a subdomain by the keys of the nearest domain above it, which DMARC's relaxed
alignment is content with. The hash of the body is the caller's to make while it comes (`BodyHash(relaxed=True)`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from twisted.logger import Logger

from ..message.dkim_body import BodyHash
from ..policy.arc_seal import seal
from ..policy.dkim_sign import SigningKey, sign
from ..policy.dmarc_author import author, from_fields
from ..policy.verdicts import Arc

__all__ = ["KeyRing", "Sealer", "Signed"]

_log = Logger()


class KeyRing(Protocol):
    """`storage.dkim_keys.SigningKeys` is one."""

    def of(self, domain: str) -> Sequence[SigningKey]:
        """The keys that sign for exactly this domain."""


class Signed(NamedTuple):
    """`fields` for the top, b"" when nobody could sign; `story` says so in words. `aligned`: DMARC will see that it is
    from the domain of its From.
    """

    fields: bytes
    story: str
    aligned: bool


class Sealer:
    """`now`: seconds since 1970. `dkim`, `arc`: whether they are wanted."""

    def __init__(
        self, keys: KeyRing, now: Callable[[], float], *, dkim: bool = True, arc: bool = True
    ) -> None:
        self._keys = keys
        self._now = now
        self.dkim = dkim
        self.arc = arc

    def has_key(self, header: bytes, instead: Sequence[str] = ()) -> bool:
        """Whether `sign` would use its hash."""
        return any(
            self._nearest(domain) for domain in (*author(from_fields(header)).domains, *instead)
        )

    def sign(self, header: bytes, body_hash: bytes, *, instead: Sequence[str] = ()) -> Signed:
        """DKIM-Signature fields for a message of ours. `header`: the block as it leaves.

        `instead`: domains whose keys are used when that of From has none (those of its sender): such a signature helps
        little, but is true.
        """
        found = author(from_fields(header))
        for domain in found.domains:
            if keys := self._nearest(domain):
                fields = self._signed(keys, header, body_hash)
                names = ", ".join(f"{key.selector}._domainkey.{key.domain}" for key in keys)
                return Signed(fields, f"signed (DKIM) by {names}", True)
        of = " and ".join(found.domains) or "its From field"
        for domain in instead:
            if keys := self._nearest(domain):
                return Signed(
                    self._signed(keys, header, body_hash),
                    f"signed (DKIM) by {keys[0].domain}, which is not its From: {of} has no key here",
                    False,
                )
        return Signed(b"", f"not signed (DKIM): {of} has no key here (mailctl dkim add)", False)

    def seal(
        self, header: bytes, body_hash: bytes, results: str, chain: Arc, domains: Sequence[str]
    ) -> Signed:
        """The set of ARC that says what was found here, for a message that is forwarded (RFC 8617 section 5.1).

        `results`: what our Authentication-Results says; `domains`: whose keys seal it, the first that has one.
        """
        for domain in domains:
            for key in self._nearest(domain):
                if key.algorithm == "rsa-sha256":  # RFC 8617 section 4.1.3: what everybody knows
                    fields = seal(header, body_hash, results, chain, key, now=int(self._now()))
                    if not fields:
                        why = "its chain has failed before, is full, or was not looked at"
                        return Signed(b"", f"not sealed (ARC): {why}", False)
                    return Signed(fields, f"sealed (ARC) by {key.domain}", True)
        return Signed(b"", "not sealed (ARC): no key of ours (mailctl dkim add)", False)

    def sign_whole(self, content: bytes) -> bytes:
        """A notice of ours with its signature; as it was when it cannot be signed."""
        header, separator, body = content.partition(b"\n\n")
        if not self.dkim or not separator:
            return content
        hashed = BodyHash(relaxed=True)
        hashed.update(body)
        return self.sign(header + b"\n", hashed.digest()).fields + content

    def _nearest(self, domain: str) -> Sequence[SigningKey]:
        while domain.count(".") >= 1:
            if keys := self._keys.of(domain):
                return keys
            domain = domain.partition(".")[2]
        return ()

    def _signed(self, keys: Sequence[SigningKey], header: bytes, body_hash: bytes) -> bytes:
        return sign(keys, header, body_hash, now=int(self._now()))
