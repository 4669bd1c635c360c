"""DMARC: alignment, policies, discovery, authors, and a DNS that does not answer."""

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_mail.dns.interfaces import DnsError
from twisted_mail.policy.dmarc import DmarcSettings, check_dmarc, requested
from twisted_mail.policy.dmarc_author import Author, author
from twisted_mail.policy.dmarc_reporting import destination, permitted
from twisted_mail.policy.organization import TreeWalk
from twisted_mail.policy.verdicts import Dkim, Dmarc, Spf
from twisted_mail.testing.dns import FakeResolver, Zone

RUA = "mailto:reports@example.org"


def zone(**records: str) -> Zone:
    """``example_org="p=none"``."""
    return Zone(
        {
            f"_dmarc.{name.replace('_', '.')}": {"TXT": [f"v=DMARC1; {text}"]}
            for name, text in records.items()
        }
    )


def spf(domain: str, result: str = "pass") -> Spf:
    return Spf(result, "mailfrom", domain, f"a@{domain}")


def dkim(*domains: str, result: str = "pass") -> tuple[Dkim, ...]:
    return tuple(Dkim(result, domain) for domain in domains)


def check(
    where: Zone | FakeResolver,
    whose: str | Author = "example.org",
    *,
    mail: Spf | None = None,
    signatures: Sequence[Dkim] = (),
    draw: int = 0,
    clock: Clock | None = None,
    **settings: Any,
) -> Any:
    outcome = Deferred.fromCoroutine(
        check_dmarc(
            where if isinstance(where, FakeResolver) else FakeResolver(where),
            clock or Clock(),
            Author((whose,)) if isinstance(whose, str) else whose,
            mail=mail,
            dkim=signatures,
            entropy=lambda size: draw.to_bytes(size, "big"),
            settings=DmarcSettings(**settings),
        )
    )
    return outcome.result if outcome.called else outcome


STRICT = zone(example_org=f"p=reject; sp=quarantine; np=none; rua={RUA}")


def test_what_a_verdict_says() -> None:
    where = zone(example_org=f"p=reject; rua={RUA}")
    assert check(where, "a.example.org", mail=spf("b.example.org")) == Dmarc(
        "pass",
        "a.example.org",
        "example.org",
        "example.org",
        "reject",
        False,
        ("spf",),
        f"v=DMARC1; p=reject; rua={RUA}",
        (RUA,),
    )


def test_no_record_is_none() -> None:
    assert check(Zone(), mail=spf("example.org")) == Dmarc("none", "example.org")
    verdict = check(zone(example_org="p=junk"))
    assert (verdict.result, verdict.reason) == ("none", "its record asks for nothing")
    assert check(STRICT, "[192.0.2.1]").result == "none"


@pytest.mark.parametrize(
    ("mail", "signatures", "aligned"),
    [
        (spf("example.org"), (), ("spf",)),
        (spf("mail.example.org"), (), ("spf",)),
        (None, dkim("example.org"), ("dkim example.org",)),
        (spf("example.org"), dkim("a.example.org", "x.example", "example.org"), None),
        (spf("example.org", "fail"), dkim("example.org", result="fail"), ()),
        (spf("example.org", "softfail"), dkim("example.org", result="neutral"), ()),
        (spf("notexample.org"), dkim("example.org.example"), ()),
        (spf("org"), dkim("org"), ()),
        (spf(""), dkim(""), ()),
    ],
)
def test_relaxed_alignment(mail: Spf | None, signatures: Any, aligned: Any) -> None:
    if aligned is None:
        aligned = ("spf", "dkim a.example.org", "dkim example.org")
    verdict = check(STRICT, mail=mail, signatures=signatures)
    assert verdict.aligned == aligned
    assert verdict.result == ("pass" if aligned else "fail")


def test_strict_alignment() -> None:
    where = zone(example_org="p=reject; aspf=s; adkim=s")
    verdict = check(where, mail=spf("a.example.org"), signatures=dkim("b.example.org"))
    assert verdict.result == "fail"
    assert check(where, mail=spf("example.org")).aligned == ("spf",)
    assert check(where, signatures=dkim("example.org")).aligned == ("dkim example.org",)


def test_an_organization_of_its_own_does_not_vouch_for_the_one_above() -> None:
    where = zone(example_org="p=reject", shop_example_org="p=none; psd=n")
    assert check(where, signatures=dkim("shop.example.org")).result == "fail"
    assert check(where, "shop.example.org", signatures=dkim("example.org")).result == "fail"
    assert check(where, "a.shop.example.org", signatures=dkim("shop.example.org")).aligned


def test_the_walk_and_the_list_differ() -> None:
    # No record at example.org: by the walk the parent does not vouch for a.example.org
    where = zone(a_example_org="p=reject")
    assert check(where, "a.example.org", mail=spf("example.org")).result == "fail"
    verdict = check(where, "a.example.org", mail=spf("example.org"), discovery="list")
    assert (verdict.result, verdict.organization) == ("pass", "example.org")


def test_which_policy() -> None:
    where = Zone(dict(STRICT))
    assert check(where).policy == "reject"
    where["a.example.org"] = {"A": ["192.0.2.1"]}
    assert check(where, "a.example.org").policy == "quarantine"
    assert check(where, "nowhere.example.org").policy == "none"
    # what lies below exists, so it does
    where["x.b.example.org"] = {"A": ["192.0.2.1"]}
    assert check(where, "b.example.org").policy == "quarantine"


def test_a_subdomain_with_a_record_of_its_own() -> None:
    where = zone(example_org="p=none; sp=none", a_example_org="p=reject; sp=none")
    verdict = check(where, "a.example.org")
    assert (verdict.policy, verdict.found) == ("reject", "a.example.org")
    assert verdict.organization == "example.org"


def test_a_public_suffix_speaks_for_those_who_do_not() -> None:
    where = zone(bank="p=reject; psd=y")
    verdict = check(where, "example.bank", mail=spf("mail.example.bank"))
    assert (verdict.result, verdict.found, verdict.organization) == (
        *("pass", "bank"),
        "example.bank",
    )
    assert check(where, "example.bank", mail=spf("other.bank")).result == "fail"


@pytest.mark.parametrize(
    ("text", "draw", "asked"),
    [
        ("p=reject", 0, "reject"),
        ("p=reject; t=y", 0, "quarantine"),
        ("p=quarantine; t=y", 0, "none"),
        ("p=none; t=y", 0, "none"),
        ("p=reject; pct=30", 29, "reject"),
        ("p=reject; pct=30", 30, "quarantine"),
        ("p=quarantine; pct=0", 0, "none"),
        ("p=reject; pct=100", 99, "reject"),
    ],
)
def test_what_is_asked_for_this_message(text: str, draw: int, asked: str) -> None:
    assert requested(check(zone(example_org=text), draw=draw)) == asked
    passing = check(zone(example_org=text), draw=draw, mail=spf("example.org"))
    assert requested(passing) == "none" and not passing.sampled


# A DNS that does not answer


@pytest.mark.parametrize("name", ["_dmarc.a.example.org", "_dmarc.example.org", "_dmarc.org"])
def test_no_answer_on_the_way_up_is_temperror(name: str) -> None:
    where = Zone(dict(STRICT), failing=[name])
    verdict = check(where, "a.example.org")
    assert verdict.result == "temperror" and "SERVFAIL" in verdict.reason


def test_what_passes_needs_no_other_answer() -> None:
    where = Zone(dict(STRICT), failing=["_dmarc.a.example.org", "_dmarc.b.example.org"])
    verdict = check(where, mail=spf("a.example.org"), signatures=dkim("example.org"))
    assert (verdict.result, verdict.aligned) == ("pass", ("dkim example.org",))
    assert check(where, mail=spf("a.example.org")).result == "temperror"
    assert check(where, signatures=dkim("b.example.org")).result == "temperror"


def test_what_could_not_be_authenticated_just_now() -> None:
    late = spf("example.org", "temperror")._replace(reason="no server")
    verdict = check(STRICT, mail=late)
    assert (verdict.result, verdict.reason) == ("temperror", "SPF: no server")
    assert check(STRICT, signatures=dkim("example.org", result="temperror")).result == "temperror"
    # that of strangers does not count, and a pass is enough
    assert check(STRICT, signatures=dkim("x.example", result="temperror")).result == "fail"
    assert check(STRICT, mail=late, signatures=dkim("example.org")).result == "pass"


def test_a_dns_that_hangs_costs_the_time_limit() -> None:
    clock = Clock()
    where = Zone(dict(STRICT), silent=["_dmarc.org"])
    outcome = check(where, clock=clock, seconds=5)
    clock.advance(5)
    assert outcome.result == Dmarc(
        "temperror", "example.org", reason="it was not done within 5 seconds"
    )
    assert not clock.getDelayedCalls()


def test_a_hundred_signatures_of_deep_names() -> None:
    resolver = FakeResolver(STRICT)
    deep = ".".join("abcdefghijklm") + ".example.org"
    signatures = dkim(*(f"n{n}.{deep}" for n in range(100)), "example.org")
    verdict = check(resolver, signatures=signatures)
    assert verdict.result == "pass" and verdict.aligned[-1] == "dkim example.org"
    assert len(resolver.questions) <= 2 + 10 * 6
    resolver = FakeResolver(STRICT)
    assert check(resolver, signatures=dkim(*(f"n{n}.example" for n in range(100)))).result == "fail"
    assert len(resolver.questions) == 2
    resolver = FakeResolver(STRICT)
    assert check(resolver, signatures=dkim("notexample.org")).result == "fail"
    assert len(resolver.questions) == 2


# Authors


TWO = zone(example_org="p=none", bank_example=f"p=reject; rua={RUA}", x_example="p=quarantine")


def test_several_authors_are_as_good_as_the_worst() -> None:
    both = author([b" a@example.org, b@bank.example"])
    verdict = check(TWO, both, mail=spf("example.org"))
    assert (verdict.result, verdict.domain, requested(verdict)) == (
        *("fail", "bank.example"),
        "reject",
    )
    verdict = check(TWO, both, signatures=dkim("bank.example"))
    assert (verdict.domain, requested(verdict)) == ("example.org", "none")
    verdict = check(TWO, both, signatures=dkim("bank.example", "example.org"))
    assert verdict.result == "pass"
    verdict = check(TWO, author([b"a@example.org, b@none.example"]), mail=spf("example.org"))
    assert (verdict.result, verdict.domain) == ("none", "none.example")
    where = Zone(dict(TWO), failing=["_dmarc.bank.example"])
    assert check(where, both, mail=spf("example.org")).result == "temperror"
    assert check(where, both).result == "temperror"


@pytest.mark.parametrize(
    "values",
    [
        [b" a@example.org", b" b@bank.example"],
        [b" b@bank.example", b" a@example.org"],
        [b" a@example.org b@bank.example"],
        [b" a@example.org <b@bank.example"],
        [b" =?utf-8?q?b=40bank.example?="],
    ],
)
def test_who_cannot_be_understood_does_not_get_past_a_policy(values: list[bytes]) -> None:
    verdict = check(TWO, author(values), mail=spf("example.org"), signatures=dkim("example.org"))
    assert (verdict.result, verdict.domain) == ("permerror", "bank.example")
    assert requested(verdict) == "reject"
    assert verdict.reason and not verdict.aggregate


def test_who_cannot_be_understood_but_is_authenticated() -> None:
    verdict = check(TWO, author([b" <b@bank.example"]), signatures=dkim("bank.example"))
    assert (verdict.result, requested(verdict)) == ("permerror", "none")


def test_nobody_at_all() -> None:
    for values in ([], [b""], [b"U:;"]):
        verdict = check(TWO, author(values))
        assert (verdict.result, verdict.domain) == ("permerror", "")
        assert requested(verdict) == "none"


# Reports to others


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("mailto:a@Example.ORG", "example.org"),
        ("mailto:a@b@example.org?subject=x@y", "example.org"),
        ("https://example.org:8443/x@y", "example.org"),
        ("mailto:a", ""),
        ("https://[", ""),
        ("x", ""),
    ],
)
def test_destination(uri: str, host: str) -> None:
    assert destination(uri) == host


def may(where: Zone, uri: str, domain: str = "example.org", **more: Any) -> Any:
    resolver = FakeResolver(where)
    return Deferred.fromCoroutine(permitted(resolver, TreeWalk(resolver), domain, uri, **more))


def test_reports_within_the_organization() -> None:
    assert may(STRICT, "mailto:a@mail.example.org").result == ("mailto:a@mail.example.org",)
    assert may(Zone(), "mailto:a@example.org").result == ("mailto:a@example.org",)


def test_reports_to_others_only_when_they_agree() -> None:
    uri = "mailto:a@reports.example"
    name = "example.org._report._dmarc.reports.example"
    assert may(STRICT, uri).result == ()
    for record, where in (
        ("v=DMARC1", (uri,)),
        ("v=DMARC1; rua=mailto:b@reports.example", ("mailto:b@reports.example",)),
        ("v=DMARC1; rua=mailto:b@victim.example", ()),
        ("v=DMARC1; ruf=mailto:b@victim.example", (uri,)),
        ("v=spf1", ()),
    ):
        zone = Zone(dict(STRICT))
        zone[name] = {"TXT": [record]}
        assert may(zone, uri).result == where
    zone = Zone(dict(STRICT))
    zone["*._report._dmarc.reports.example"] = {"TXT": ["v=DMARC1;"]}
    assert may(zone, uri, tag="ruf").result == (uri,)
    outcome = may(Zone(dict(STRICT), failing=[name]), uri)
    outcome.addErrback(lambda failure: failure.trap(DnsError))
    assert outcome.result is DnsError
    assert may(STRICT, "mailto:a@[192.0.2.1]").result == ()
    assert may(STRICT, uri, ".".join(["x" * 60] * 4)).result == ()
