"""DKIM keys: what a record in the DNS says (RFC 6376 section 3.6.1, RFC 8463); `Keys` asks for them and remembers.

A record that cannot be used is a `Problem`: a result and a reason, as a verdict has them. No record makes anything
raise, and a long one costs nothing: records over `MAX_RECORD` octets and RSA keys that are too small, too large or
have an exponent that would take long are said to be so before any arithmetic is done with them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ..dns.interfaces import DnsError, Resolver
from ..message.tag_list import base64_value, colon_list, parse_tags

__all__ = ["Keys", "Problem", "PublicKey", "key_name", "parse_key"]

MAX_RECORD: Final = 8192
"""Octets of a record; one with an RSA key of `MAX_BITS` has 1500."""
MIN_BITS: Final = 1024  # RFC 8301 section 3.2
MAX_BITS: Final = 8192
MAX_RECORDS: Final = 4
"""Records looked at under one name; RFC 6376 section 3.6.2.2 allows one."""
_MAX_DER: Final = MAX_BITS // 8 + 128
_MAX_WORK: Final = 140_000
"""Bits of the modulus times bits of the exponent: 8192 with 65537; a millisecond at most for a signature."""
_MAX_TTL: Final = 86_400.0

_PADDING: Final = padding.PKCS1v15()
_DIGEST: Final = Prehashed(SHA256())


class Problem(NamedTuple):
    """Why there is no key: `result` and `reason` as in `verdicts.Dkim`."""

    result: str
    reason: str


class PublicKey(NamedTuple):
    """A key that may be used for mail and SHA-256.

    `kind`: rsa or ed25519; `bits` of an RSA key, else 0; `testing` and `strict`: t=y and t=s.
    """

    kind: str
    key: RSAPublicKey | Ed25519PublicKey
    bits: int = 0
    testing: bool = False
    strict: bool = False

    def verifies(self, signature: bytes, digest: bytes) -> bool:
        """Whether `signature` is this key's over what has the SHA-256 `digest`. Never raises."""
        try:
            if isinstance(self.key, Ed25519PublicKey):
                # RFC 8463 section 3: the hash is what is signed
                self.key.verify(signature, digest)
            else:
                self.key.verify(signature, digest, _PADDING, _DIGEST)
        except (InvalidSignature, ValueError):
            return False
        return True


def key_name(selector: str, domain: str) -> str:
    """Where the key stands (RFC 6376 section 3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def parse_key(record: bytes) -> PublicKey | Problem:
    """What a TXT record, its strings joined, says."""
    if len(record) > MAX_RECORD:
        return Problem("policy", f"the key's record has more than {MAX_RECORD} octets")
    try:
        tags = parse_tags(record)
    except ValueError as error:
        return Problem("permerror", f"the key's record cannot be read: {error}")
    # RFC 6376 section 3.6.1: v= is the first tag when it is there; the record of something else is none
    if ("v" in tags and next(iter(tags)) != "v") or tags.get("v", "DKIM1") != "DKIM1":
        return Problem("permerror", "the record is not that of a DKIM key")
    if "p" not in tags:
        return Problem("permerror", "the key's record has no p=")
    if not tags["p"]:
        return Problem("permerror", "the key has been revoked")
    # RFC 6376 section 3.6.1: h=, s=; unrecognized items are ignored
    if "h" in tags and "sha256" not in colon_list(tags["h"]):
        return Problem("permerror", "the key's record does not allow SHA-256")
    if "s" in tags and not {"*", "email"}.intersection(colon_list(tags["s"])):
        return Problem("permerror", "the key is not for mail")
    flags = colon_list(tags.get("t", ""))
    try:
        octets = base64_value(tags["p"])
    except ValueError:
        return Problem("permerror", "the key's p= is no base64")
    kind = tags.get("k", "rsa")
    if kind == "rsa":
        found = _rsa(octets)
    elif kind == "ed25519":
        found = _ed25519(octets)
    else:
        return Problem("permerror", "the key is of an unknown kind")
    if isinstance(found, Problem):
        return found
    return found._replace(testing="y" in flags, strict="s" in flags)


def _rsa(octets: bytes) -> PublicKey | Problem:
    if len(octets) > _MAX_DER:
        return Problem("policy", f"the RSA key has more than {MAX_BITS} bits")
    try:
        # SubjectPublicKeyInfo, as everybody writes it, or RSAPublicKey, as RFC 6376 section 3.6.1 has it
        key = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        return Problem("permerror", "the RSA key cannot be read")
    if not isinstance(key, RSAPublicKey):
        return Problem("permerror", "the key is no RSA key")
    bits = key.key_size
    if bits < MIN_BITS:
        # RFC 8301 section 3.2: MUST NOT be considered valid
        return Problem("policy", f"the RSA key has {bits} bits, fewer than {MIN_BITS}")
    if bits > MAX_BITS:
        return Problem("policy", f"the RSA key has more than {MAX_BITS} bits")
    numbers = key.public_numbers()
    if numbers.e < 3 or not numbers.e & 1 or not numbers.n & 1:
        return Problem("permerror", "the RSA key is none")
    if numbers.e.bit_length() * bits > _MAX_WORK:
        return Problem("policy", "the RSA key has too large an exponent")
    return PublicKey("rsa", key, bits)


def _ed25519(octets: bytes) -> PublicKey | Problem:
    try:
        # RFC 8463 section 4.2: the 32 octets themselves
        return PublicKey("ed25519", Ed25519PublicKey.from_public_bytes(octets))
    except (ValueError, UnsupportedAlgorithm):
        return Problem("permerror", "the Ed25519 key cannot be read")


class Keys:
    """Keys in the DNS, by name: asked for once, then remembered as long as the DNS says, at most a day.

    At most `size` names are remembered; the one that was not used for longest goes first. That there is no key is
    remembered too; that nobody answered is not. `now` in seconds.
    """

    def __init__(self, resolver: Resolver, now: Callable[[], float], *, size: int = 1000) -> None:
        self._resolver = resolver
        self._now = now
        self._size = size
        self._known: OrderedDict[str, tuple[float, PublicKey | Problem]] = OrderedDict()

    def known(self, name: str) -> PublicKey | Problem | None:
        """What is remembered of `name`."""
        found = self._known.get(name)
        if found is None:
            return None
        if found[0] <= self._now():
            del self._known[name]
            return None
        self._known.move_to_end(name)
        return found[1]

    async def find(self, name: str) -> PublicKey | Problem:
        """The key of `name`, as `key_name` gives it. Never raises but when it is cancelled."""
        found = self.known(name)
        if found is not None:
            return found
        try:
            answer = await self._resolver.txt(name)
        except DnsError:
            return Problem("temperror", f"the key at {name} could not be asked for")
        found = _choose(answer.records, name)
        if answer.ttl > 0:
            self._known[name] = (self._now() + min(answer.ttl, _MAX_TTL), found)
            self._known.move_to_end(name)
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        return found


def _choose(records: tuple[bytes, ...], name: str) -> PublicKey | Problem:
    """The first record that is a key; else what is wrong with the first."""
    # RFC 6376 section 6.1.2: of several the verifier may choose one, or try them in turn
    if not records:
        return Problem("permerror", f"there is no key at {name}")
    first: Problem | None = None
    for record in records[:MAX_RECORDS]:
        found = parse_key(record)
        if isinstance(found, PublicKey):
            return found
        first = first or found
    assert first is not None
    return first
