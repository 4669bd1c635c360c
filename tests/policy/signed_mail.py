"""What the tests of DKIM and ARC share: keys, a zone that has them, and one message verified."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from twisted.internet.defer import Deferred

from twisted_mail.message.dkim_body import BodyHash
from twisted_mail.policy.dkim_key import Keys
from twisted_mail.policy.dkim_sign import sign
from twisted_mail.policy.dkim_verify import Verification
from twisted_mail.storage.dkim_keys import record_text
from twisted_mail.testing.dns import FakeResolver, Zone

NOW = 1_700_000_000  # in the past: dkimpy has a clock of its own
HEADER = (
    b"Received: from here\n\tby there; Mon, 7 Feb 2022 21:52:25 +0000\n"
    b"From: Alice <alice@example.org>\nTo: bob@example.net\nSubject: hello\n  there\n"
    b"Date: Mon, 7 Feb 2022 21:52:25 +0000\nMessage-ID: <1@example.org>\n"
)
BODY = b"Hello  Bob,\n\nthis is it. \n\n\n"


class Key(NamedTuple):
    domain: str
    selector: str
    algorithm: str
    private: object

    @property
    def name(self):
        return f"{self.selector}._domainkey.{self.domain}"


@cache
def rsa(bits=2048, selector="rsa", domain="example.org"):
    return Key(domain, selector, "rsa-sha256", generate_private_key(65537, bits))


@cache
def ed25519(selector="ed", domain="example.org"):
    return Key(domain, selector, "ed25519-sha256", Ed25519PrivateKey.generate())


def zone_of(*keys):
    return Zone({key.name: {"TXT": [record_text(key.private)]} for key in keys})


def hash_of(body):
    hashing = BodyHash(relaxed=True)
    hashing.update(body)
    return hashing.digest()


def signed(header=HEADER, body=BODY, keys=None, now=NOW, **more):
    """The header with signatures on top."""
    return sign(keys or [rsa(), ed25519()], header, hash_of(body), now=now, **more) + header


def done(coroutine):
    """What a coroutine that waits for nothing gives."""
    out = []
    Deferred.fromCoroutine(coroutine).addBoth(out.append)
    assert out, "it waits"
    if isinstance(out[0], BaseException) or hasattr(out[0], "raiseException"):
        out[0].raiseException()
    return out[0]


def verified(header, body, zone, now=NOW, **more):
    """(DKIM verdicts, ARC verdict)."""
    resolver = zone if isinstance(zone, FakeResolver) else FakeResolver(zone)
    verification = Verification(header, Keys(resolver, lambda: now), now=now, **more)
    verification.fetch()
    verification.update(body)
    return done(verification.results())
