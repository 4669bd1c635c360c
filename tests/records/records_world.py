"""A site whose records are looked for, and the DNS that has them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_mail.records.checking import check, passed
from twisted_mail.records.facts import Facts, spki_digest
from twisted_mail.records.finding import Asking
from twisted_mail.records.wanted import wanted
from twisted_mail.records.zone_text import zone_text
from twisted_mail.remote.mta_sts import FetchError
from twisted_mail.storage.dkim_keys import ACTIVE, PREPARED, RETIRED, KeyRow, record_text
from twisted_mail.testing.dns import FakeResolver, Zone
from twisted_mail.web.mta_sts import StsHosting

RSA = record_text(generate_private_key(65537, 2048))
ED25519 = record_text(Ed25519PrivateKey.generate())
OTHER_RSA = record_text(generate_private_key(65537, 2048))

SERVICES = (
    ("_submissions", 465), ("_submission", 587), ("_imaps", 993), ("_imap", 143), ("_pop3s", 0), ("_pop3", 0),
)  # fmt: skip
ELSEWHERE = re.compile(r"^; ([^\s…]+\. 3600 IN (?:PTR|A|AAAA|TXT|TLSA) [^…]*)$")
IP4, IP6 = "192.0.2.10", "2001:db8::10"


def _certificate():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(90))
        .sign(key, hashes.SHA256())
    )
    return made, spki_digest(key.public_key())


CERTIFICATE, DIGEST = _certificate()


def key_row(selector, state, record=ED25519, domain="example.org"):
    algorithm = "rsa-sha256" if "k=rsa" in record else "ed25519-sha256"
    return KeyRow(domain, selector, algorithm, state, 0, record, 1 if state == RETIRED else None)


def keys(domain="example.org"):
    return (
        key_row("one", RETIRED, domain=domain),
        key_row("two", ACTIVE, RSA, domain),
        key_row("three", ACTIVE, domain=domain),
        key_row("four", PREPARED, OTHER_RSA, domain),
    )


FACTS = Facts(
    domain="example.org",
    host="mail.example.org",
    helo="mail.example.org",
    addresses=(IP4, IP6),
    services=SERVICES,
    keys=keys(),
    digests=(DIGEST,),
    certificate=CERTIFICATE,
    sts=StsHosting(frozenset(["example.org"]), "enforce", ("mail.example.org",)),
    reports="postmaster@example.org",
)


def now(coroutine):
    """Its result: nothing has to be waited for."""
    results = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    (result,) = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


def pasted(facts):
    """The DNS after all that is shown was pasted, and the owners of other zones did their part."""
    text = zone_text(facts, wanted(facts))
    return Zone.from_text("\n".join(ELSEWHERE.sub(r"\1", line) for line in text.split("\n")))


class Looking:
    """Checks `facts` against `zone`; both may be changed."""

    def __init__(self, facts=FACTS, **more):
        self.facts = facts
        self.zone = pasted(facts)
        self.clock = Clock()
        self.more = more
        self.policy = facts.sts.policy_for(facts.domain)

    async def fetch(self, domain):
        assert domain == self.facts.domain
        if self.policy is None:
            raise FetchError(f"mta-sts.{domain} has no address")
        return self.policy

    def asking(self):
        return Asking(self.facts, FakeResolver(self.zone), self.clock, self.fetch, **self.more)

    def change(self, **facts):
        self.facts = replace(self.facts, **facts)

    def all(self):
        return now(check(self.asking()))

    def bad(self):
        """What is not right, by record."""
        found = self.all()
        bad = {one.record: one for one in found if one.state != "right"}
        assert passed(found) == all(one.state == "optional" for one in bad.values())
        return bad

    def only(self):
        """The one that is not right."""
        (one,) = self.bad().values()
        return one
