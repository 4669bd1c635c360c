"""SPF, DMARC and the Authentication-Results field of a usual message: what they cost when the look-ups are known.

    python bench/policy_micro.py [--rounds 2000]

The message: one From, SPF with two includes and an address in the second, one signature that passed, a record at the
organization. Look-ups go through the resolver of production with all answers in its cache. Figures: microseconds of
CPU, the best of five runs; the aim for all together is 400.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_mail.address import Address
from twisted_mail.dns.cache import Cache
from twisted_mail.dns.interfaces import Answer
from twisted_mail.dns.resolver import StubResolver
from twisted_mail.message.authres import names_of, without_claimed
from twisted_mail.policy.dmarc import check_dmarc
from twisted_mail.policy.dmarc_author import author, from_fields
from twisted_mail.policy.results import authentication_results
from twisted_mail.policy.spf import check_helo, check_mail
from twisted_mail.policy.verdicts import Dkim, Verdicts
from twisted_mail.testing.dns import Zone

HEADER = (
    b"Received: from mail.example.org (mail.example.org [192.0.2.7])\n\tby mx.example.net with ESMTPS"
    b" id 1; Mon, 7 Feb 1994 21:52:25 -0800\nAuthentication-Results: example.org; none\n"
    b'Message-ID: <1@example.org>\nFrom: "Alice A." <alice@news.example.org>\n'
    b"To: bob@example.net\nSubject: hello\nDate: Mon, 7 Feb 1994 21:52:25 -0800\n"
)
OURS = names_of(["mx.example.net"])
IP = "192.0.2.7"


class NoThreads:
    """Answers at once, from a zone: only the first question of each is asked."""

    def call(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        done.callback(work())
        return done

    def close(self) -> None:
        pass


def make_resolver(clock: Clock) -> StubResolver:
    networks = " ".join(f"ip4:198.51.{n}.0/24" for n in range(12))
    zone = Zone(
        {
            "news.example.org": {"TXT": ["v=spf1 include:_spf.example.org -all"]},
            "_spf.example.org": {"TXT": [f"v=spf1 {networks} include:_spf2.example.org ~all"]},
            "_spf2.example.org": {"TXT": [f"v=spf1 {networks} a:mail.example.org ~all"]},
            "mail.example.org": {"A": [IP]},
            "_dmarc.example.org": {"TXT": ["v=DMARC1; p=reject; rua=mailto:dmarc@example.org"]},
        }
    )

    def ask(kind: str, name: str) -> Answer[Any]:
        found = zone.find(kind, name)
        records = tuple(one.encode() if kind == "TXT" else one for one in found.records)
        return Answer(found.name, records, found.exists, False, 3600.0)

    return StubResolver(ask, NoThreads(), Cache(clock.seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    clock = Clock()
    resolver = make_resolver(clock)
    sender = Address("alice", "news.example.org")
    signature = Dkim("pass", "example.org", "s1", "@example.org", "rsa-sha256", 2048, "dGVzdA/+")

    async def message(took: dict[str, float]) -> bytes:
        at = time.process_time()

        def lap(what: str) -> None:
            nonlocal at
            now = time.process_time()
            took[what] = took.get(what, 0.0) + now - at
            at = now

        helo = await check_helo(resolver, clock, ip=IP, helo="mail.example.org")
        lap("SPF of HELO")
        mail = await check_mail(resolver, clock, ip=IP, helo="mail.example.org", sender=sender)
        lap("SPF of MAIL")
        whose = author(from_fields(HEADER))
        lap("From")
        dmarc = await check_dmarc(
            resolver, clock, whose, mail=mail, dkim=[signature], entropy=lambda n: bytes(n)
        )
        lap("DMARC")
        verdicts = Verdicts(helo, mail, (signature,), None, dmarc)
        field = authentication_results("mx.example.net", verdicts)
        lap("field")
        without_claimed(HEADER, OURS)
        lap("foreign fields")
        return field

    best: dict[str, float] = {}
    for _ in range(5):
        took: dict[str, float] = {}
        for _ in range(rounds):
            field = Deferred.fromCoroutine(message(took)).result
        if not best or sum(took.values()) < sum(best.values()):
            best = took
    print(field.decode())
    for what, seconds in best.items():
        print(f"{what:16}{seconds / rounds * 1e6:8.1f} µs")
    print(f"{'together':16}{sum(best.values()) / rounds * 1e6:8.1f} µs (aim: 400)")


if __name__ == "__main__":
    main()
