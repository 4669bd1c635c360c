"""What judging a client and a sender costs, everything known already: microseconds of CPU.

    python bench/reputation_micro.py [--rounds 20000]

Each figure is the best of five rounds. The memory is as full as it may be, keys come in turn, the DNS answers from the
resolver's cache. A connection: three lists, pointer, HELO. MAIL and RCPT: what an incoming message pays, with all the
limits set; RCPT with greylisting on. Then what a message pays at its end, and a user's RCPT on submission.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from twisted_mail.address import Address
from twisted_mail.dns.cache import Cache
from twisted_mail.dns.interfaces import Answer
from twisted_mail.dns.resolver import StubResolver
from twisted_mail.policy.decide import DecisionSettings, decide
from twisted_mail.policy.dnsbl import DnsLists, parse_list, query_name
from twisted_mail.policy.greylist import Greylist, GreylistSettings
from twisted_mail.policy.helo import check_helo, check_pointer, helo_scores, pointer_scores
from twisted_mail.policy.rates import Limit, Limits, Rates, RateSettings
from twisted_mail.policy.scores import Score, Weights
from twisted_mail.policy.senders import Senders, SenderSettings
from twisted_mail.policy.verdicts import Arc, Dkim, Dmarc, Spf, Verdicts

CLIENTS = 200
AIM = 50.0


class NoThreads:
    def call(self, work: Any) -> Any:
        raise RuntimeError("everything is in the cache")

    def close(self) -> None: ...


def now(coroutine: Any) -> Any:
    """What a coroutine gives that waits for nothing, as the driver of connections runs it."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("it waits")


def best(work: Callable[[int], object], rounds: int) -> float:
    """Microseconds a call."""
    took = []
    for _ in range(5):
        began = time.process_time()
        for number in range(rounds):
            work(number)
        took.append(time.process_time() - began)
    return min(took) / rounds * 1e6


def known_dns(ips: list[str], zones: list[str]) -> StubResolver:
    cache = Cache(lambda: 0.0, entries=100_000)
    for number, ip in enumerate(ips):
        name = f"mail{number}.example.net"
        pointer = ".".join(reversed(ip.split("."))) + ".in-addr.arpa"
        cache.put(("PTR", pointer), Answer(pointer, (name,), ttl=3600.0))
        cache.put(("A", name), Answer(name, (ip,), ttl=3600.0))
        for zone in zones:
            asked = f"{query_name(ip)}.{zone}"
            cache.put(("A", asked), Answer(asked, (), exists=False, ttl=900.0))
    return StubResolver(lambda kind, name: Answer(name), NoThreads(), cache)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20_000)
    rounds = parser.parse_args().rounds
    clock = Clock()
    clock.advance(1_800_000_000)
    ips = [f"198.51.{number}.7" for number in range(CLIENTS)]
    weights = Weights()

    lists = [
        parse_list("zen.example=127.0.0.[2..11]*4"),
        parse_list("bl.example*2"),
        parse_list("wl.example=127.0.[0..255].[1..3]*-3"),
    ]
    resolver = known_dns(ips, [one.zone for one in lists])
    listing = DnsLists(resolver, clock, lists)
    own = frozenset({"mx.example.org", "192.0.2.1"})

    def connect(number: int) -> None:
        at = number % CLIENTS
        ip = ips[at]
        now(listing.client(ip))
        pointer_scores(now(check_pointer(resolver, clock, ip)), weights)
        helo_scores(now(check_helo(resolver, clock, f"mail{at}.example.net", ip, own)), weights)

    print(f"connection: lists, pointer, HELO    {best(connect, rounds // 10):6.1f} us")

    # Never reached, so every bucket is always asked and taken from
    every = Limits(*[Limit(1e9, 3600)] * 4)
    rates = Rates(RateSettings(every, every, every, every), clock.seconds)
    for number in range(30_000):
        rates.mail(f"10.{number >> 8}.{number & 255}.1", f"d{number}.example", f"a{number}")
    domains = [f"example{number}.net" for number in range(CLIENTS)]

    mail = best(lambda n: rates.mail(ips[n % CLIENTS], domains[n % CLIENTS], ""), rounds)
    print(f"MAIL: limits                        {mail:6.1f} us")

    grey = Greylist(GreylistSettings(learn=0), clock.seconds, b"salt")
    senders = [Address(f"bounce-{number}-7f3a", domains[number]) for number in range(CLIENTS)]
    recipients = [Address(f"user{number}", "example.org") for number in range(50)]
    for number in range(50_000):
        grey.check(
            f"10.{number >> 8}.{number & 255}.1", senders[0], Address(f"u{number}", "x.example")
        )
    for _ in range(2):
        for at, ip in enumerate(ips):
            for recipient in recipients:
                grey.check(ip, senders[at], recipient)
        clock.advance(600)

    def rcpt(number: int) -> None:
        at = number % CLIENTS
        ip, domain = ips[at], domains[at]
        rates.may_try(ip, domain)
        rates.rcpt(ip, domain)
        wait = grey.check(ip, senders[at], recipients[number % 50], spf_domain=domain).wait
        assert not wait

    cost = best(rcpt, rounds)
    print(f"RCPT: limits, greylist (passed)     {cost:6.1f} us")

    def new(number: int) -> None:
        grey.check(
            ips[number % CLIENTS], senders[number % CLIENTS], Address(f"n{number}", "y.example")
        )

    print(f"RCPT: greylist alone, never seen    {best(new, rounds):6.1f} us")

    watched = Senders(SenderSettings(distinct=0, rise=0), clock.seconds)
    accounts = [f"user{number}@example.org" for number in range(CLIENTS)]
    targets = [f"friend{number}@example.com" for number in range(50)]

    def submit(number: int) -> None:
        account = accounts[number % CLIENTS]
        rates.rcpt("192.0.2.9", "example.org", account, 1)
        watched.check(account)
        watched.sent(account, targets[number % 50])

    print(f"RCPT on submission: limits, habits  {best(submit, rounds):6.1f} us")

    verdicts = Verdicts(
        None,
        Spf("pass", "mailfrom", "example.net", "bob@example.net", "mx"),
        (Dkim("pass", "example.net", "s1"),),
        Arc("none"),
        Dmarc(
            "pass", "example.net", "example.net", "example.net", "reject", aligned=("spf", "dkim")
        ),
    )
    scores = (Score("generic_pointer", 1.5, "its name is that of a customer's line"),)
    settings = DecisionSettings()
    print(
        f"end of data: decision and story     {best(lambda _: decide(verdicts, scores, settings), rounds):6.1f} us"
    )
    print(f"MAIL and RCPT together {mail + cost:.1f} us (aim: under {AIM:g})")


if __name__ == "__main__":
    main()
