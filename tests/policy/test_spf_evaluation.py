"""SPF beyond the RFC's suite: identities, limits, hostile records, a DNS that lies or hangs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_mail.address import Address
from twisted_mail.dns.interfaces import Answer, Mx
from twisted_mail.policy.spf import SpfSettings, check_helo, check_host, check_mail
from twisted_mail.policy.verdicts import Spf
from twisted_mail.testing.dns import FakeResolver, Zone

IP = "192.0.2.7"
ALICE = Address("alice", "example.org")


def spf(record: str | bytes, **more: Any) -> Zone:
    names = {name.replace("_", "-").replace("--", "."): kinds for name, kinds in more.items()}
    return Zone({"example.org": {"TXT": [record]}, **names})


def mail(
    zone: Zone | FakeResolver,
    *,
    ip: str = IP,
    helo: str = "mx.example.net",
    sender: Address | None = ALICE,
    **settings: Any,
) -> Spf:
    resolver = zone if isinstance(zone, FakeResolver) else FakeResolver(zone)
    return Deferred.fromCoroutine(
        check_mail(
            resolver, Clock(), ip=ip, helo=helo, sender=sender, settings=SpfSettings(**settings)
        )
    ).result


def helo(zone: Zone, name: str, ip: str = IP) -> Spf:
    return Deferred.fromCoroutine(check_helo(FakeResolver(zone), Clock(), ip=ip, helo=name)).result


def test_what_a_verdict_says() -> None:
    verdict = mail(spf("v=spf1 ip4:192.0.2.0/24 -all"))
    assert verdict == Spf(
        "pass", "mailfrom", "example.org", "alice@example.org", "ip4:192.0.2.0/24"
    )


def test_a_fail_is_explained_by_the_domain() -> None:
    zone = spf("v=spf1 -all exp=why.example.org")
    zone["why.example.org"] = {"TXT": ["%{i} may not write as %{s}, says %{r}"]}
    verdict = mail(zone, receiver="mx.example.net")
    assert (
        verdict.explanation == "192.0.2.7 may not write as alice@example.org, says mx.example.net"
    )
    assert verdict.mechanism == "-all"
    resolver = FakeResolver(zone)
    assert mail(resolver, explain=False).explanation == ""
    assert resolver.questions == [("TXT", "example.org")]


def test_an_explanation_is_one_short_line() -> None:
    zone = spf("v=spf1 -all exp=why.example.org")
    zone["why.example.org"] = {"TXT": ["%{s}" * 400]}
    sender = Address('x"\u00e9' * 3, "example.org")
    assert mail(zone, sender=sender).explanation == ""
    explanation = mail(zone, sender=Address("a" * 60, "example.org")).explanation
    assert len(explanation) == 500 and explanation.isascii() and explanation.isprintable()
    zone["why.example.org"] = {"TXT": ["line\r\nBcc: you"]}
    assert mail(zone).explanation == ""


def test_the_null_reverse_path_is_postmaster_of_the_helo_name() -> None:
    zone = Zone({"mx.example.net": {"TXT": ["v=spf1 exists:%{l}.%{o} -all"]}})
    zone["postmaster.mx.example.net"] = {"A": ["127.0.0.2"]}
    verdict = mail(zone, sender=None)
    assert verdict.result == "pass"
    assert (verdict.identity, verdict.domain) == ("mailfrom", "mx.example.net")
    assert verdict.sender == "postmaster@mx.example.net"


def test_the_helo_identity() -> None:
    zone = Zone({"mx.example.net": {"TXT": ["v=spf1 a -all"], "A": [IP]}})
    assert helo(zone, "MX.Example.net.") == Spf(
        "pass", "helo", "mx.example.net", "mx.example.net", "a", lookups=1
    )
    assert helo(zone, "mx.example.net", "192.0.2.8").result == "fail"
    for name in ("[192.0.2.7]", "localhost", "", "a b\r\nc", "..", "\u00fcber"):
        assert helo(zone, name).result == "none"


def test_a_u_label_in_helo_is_asked_for_as_its_a_label() -> None:
    zone = Zone({"xn--bcher-kva.example": {"TXT": ["v=spf1 +all"]}})
    assert helo(zone, "B\u00fccher.example").domain == "xn--bcher-kva.example"


def test_a_local_part_that_is_not_ascii_never_matches() -> None:
    # RFC 8616 section 4
    zone = spf("v=spf1 exists:%{l}.example.org exists:%{s}.example.org -all")
    zone["*.example.org"] = {"A": ["127.0.0.2"]}
    assert mail(zone).result == "pass"
    assert mail(zone, sender=Address("\u00e4", "example.org")).result == "fail"


@pytest.mark.parametrize("ip", ["::ffff:192.0.2.7", "192.0.2.7"])
def test_ipv4_mapped_is_ipv4(ip: str) -> None:
    assert mail(spf("v=spf1 ip4:192.0.2.7 -all"), ip=ip).result == "pass"
    assert mail(spf("v=spf1 ip6:::/0 -all"), ip=ip).result == "fail"


def test_ipv6_with_a_scope_and_no_address_at_all() -> None:
    assert mail(spf("v=spf1 ip6:fe80::/10 -all"), ip="fe80::1%eth0").result == "pass"
    assert mail(spf("v=spf1 +all"), ip="unix").result == "none"


def test_an_ipv6_client_does_not_use_up_the_voids_of_hosts_without_ipv6() -> None:
    zone = spf("v=spf1 a:a.example.org a:b.example.org a:c.example.org ip6:2001:db8::1 -all")
    for name in "abc":
        zone[f"{name}.example.org"] = {"A": [IP]}
    assert mail(zone, ip="2001:db8::1").result == "pass"
    del zone["a.example.org"], zone["b.example.org"], zone["c.example.org"]
    assert mail(zone, ip="2001:db8::1").result == "permerror"


def test_several_records_and_none() -> None:
    zone = Zone({"example.org": {"TXT": ["v=spf1 -all", "other", "v=spf1 +all"]}})
    verdict = mail(zone)
    assert (verdict.result, verdict.reason) == ("permerror", "example.org has 2 SPF records")
    zone["example.org"]["TXT"] = ["v=spf10 -all", "x v=spf1 -all"]
    assert mail(zone).result == "none"


def test_no_answer_is_temperror_wherever_it_happens() -> None:
    zone = spf("v=spf1 a:a.example.org mx:b.example.org exists:c.example.org -all")
    zone["b.example.org"] = {"MX": [(1, "m.example.org")]}
    for name in ("TXT example.org", "A a.example.org", "A m.example.org", "A c.example.org"):
        zone.failing = {name}
        verdict = mail(zone)
        assert verdict.result == "temperror", name
        assert "SERVFAIL" in verdict.reason


# Bombs


def asked(zone: Zone, **more: Any) -> tuple[Spf, int]:
    resolver = FakeResolver(zone)
    return mail(resolver, **more), len(resolver.questions)


def test_include_bomb() -> None:
    zone = spf("v=spf1 " + "include:example.org " * 200 + "-all")
    verdict, questions = asked(zone)
    assert verdict.result == "permerror" and questions == 11
    assert verdict.reason == "more than 10 look-ups are needed"


def test_a_tree_of_includes() -> None:
    zone = Zone()
    for number in range(15):
        two = [f"include:n{2 * number + more}.example.org" for more in (1, 2)]
        terms = " ".join(two) if number < 7 else "?all"
        zone[f"n{number}.example.org"] = {"TXT": [f"v=spf1 {terms}"]}
    verdict, questions = asked(zone, sender=Address("a", "n0.example.org"))
    assert verdict.result == "permerror" and questions == 11


def test_mx_bomb() -> None:
    zone = spf("v=spf1 " + " ".join(f"mx:m{n}.example.org" for n in range(11)) + " -all")
    for n in range(11):
        hosts = [f"h{n}x{host}.example.org" for host in range(10)]
        zone[f"m{n}.example.org"] = {"MX": list(enumerate(hosts))}
        for host in hosts:
            zone[host] = {"A": [f"198.51.100.{one}" for one in range(10)]}
    verdict, questions = asked(zone)
    assert verdict.result == "permerror" and questions == 1 + 10 * 11


def test_ptr_flood() -> None:
    zone = spf("v=spf1 ptr ptr:example.net ptr:%{p} -all")
    zone["7.2.0.192.in-addr.arpa"] = {"PTR": [f"n{n}.example.net" for n in range(3000)]}
    for n in range(3000):
        zone[f"n{n}.example.net"] = {"A": ["198.51.100.1"]}
    verdict, questions = asked(zone)
    assert verdict.result == "fail" and questions <= 45
    zone["n2999.example.net"] = {"A": [IP]}
    assert mail(zone).result == "fail"
    zone["n9.example.net"] = {"A": [IP]}
    assert mail(zone).result == "pass"


def test_macros_of_253_characters() -> None:
    zone = spf("v=spf1 " + "exists:%{l}.%{s}.%{h}.%{d}.%{i}.%{l}.example.org " * 9 + "-all")
    verdict, questions = asked(zone, helo=".".join(["x" * 60] * 4))
    assert verdict.result == "permerror" and questions == 4  # the third finds nothing
    zone["example.org"]["TXT"] = ["v=spf1 exists:" + "%{s}." * 300 + "example.org ?all"]
    resolver = FakeResolver(zone)
    assert mail(resolver).result == "neutral"
    assert len(resolver.questions[-1][1]) <= 253


@pytest.mark.parametrize(
    "record",
    [
        b"v=spf1 " + b"ip4:192.0.2.1 " * 5000,
        b"v=spf1 " + b"%" * 65000,
        b"v=spf1 a:" + b"%{" * 30000,
        b"v=spf1 a:" + b"a." * 2000 + b"org",
        b"v=spf1 x=" + b"%{s}" * 1000,
        b"v=spf1 a:%{d" + b"9" * 5000 + b"}",
        b"v=spf1 " + b"/" * 8000,
        b"v=spf1 " + b"a " * 4000,
        b"v=spf1 exists:" + b"%{i}" * 2000,
    ],
)
def test_large_records_are_looked_at_quickly(record: bytes) -> None:
    verdict, questions = asked(spf(record))
    assert verdict.result in ("permerror", "neutral") and questions <= 2
    assert len(verdict.reason) <= 200


def test_a_record_that_is_too_large_is_not_read() -> None:
    assert mail(spf("v=spf1 " + "ip4:192.0.2.9 " * 570 + "+all")).result == "pass"
    verdict = mail(spf("v=spf1 " + "ip4:192.0.2.9 " * 590 + "+all"))
    assert (verdict.result, verdict.reason) == (
        "permerror",
        "the SPF record of example.org: the record has 8271 octets",
    )


def test_modifiers_have_no_qualifier() -> None:
    for term in ("-redirect=example.net", "+exp=example.net", "?x=y"):
        assert mail(spf(f"v=spf1 {term} +all")).result == "permerror"


def test_names_that_begin_an_escape_are_not_asked_for() -> None:
    resolver = FakeResolver(spf("v=spf1 exists:%{l}.example.org a:%{h} -all"))
    assert mail(resolver, helo="a\\.b", sender=Address("a\\b", "example.org")).result == "fail"
    assert resolver.questions == [("TXT", "example.org")]


# A DNS that lies or hangs


def test_a_dns_that_hangs_costs_the_time_limit() -> None:
    clock = Clock()
    zone = spf("v=spf1 a:slow.example.org -all")
    zone.silent.add("slow.example.org")
    outcome = Deferred.fromCoroutine(
        check_mail(FakeResolver(zone), clock, ip=IP, helo="x.example", sender=ALICE)
    )
    clock.advance(19.9)
    assert not outcome.called
    clock.advance(0.2)
    assert outcome.result.result == "temperror"
    assert outcome.result.reason == "it was not done within 20 seconds"
    assert not clock.getDelayedCalls()


def test_a_slow_dns_costs_no_more_for_being_asked_often() -> None:
    clock = Clock()
    zone = spf("v=spf1 " + " ".join(f"a:n{n}.example.org" for n in range(9)) + " -all")
    for n in range(9):
        zone[f"n{n}.example.org"] = {"A": ["198.51.100.1"]}
    outcome = Deferred.fromCoroutine(
        check_mail(
            FakeResolver(zone, clock=clock, delay=3), clock, ip=IP, helo="x.example", sender=ALICE
        )
    )
    clock.pump([1] * 20)
    assert outcome.result.result == "temperror"


def test_a_fail_stays_one_when_its_explanation_hangs() -> None:
    clock = Clock()
    zone = spf("v=spf1 -all exp=why.example.org")
    zone.silent.add("why.example.org")
    outcome = Deferred.fromCoroutine(
        check_mail(FakeResolver(zone), clock, ip=IP, helo="x.example", sender=ALICE)
    )
    clock.advance(21)
    assert (outcome.result.result, outcome.result.explanation) == ("fail", "")


def test_who_cancels_cancels_the_question() -> None:
    clock = Clock()
    zone = spf("v=spf1 -all")
    zone.silent.add("example.org")
    outcome = Deferred.fromCoroutine(
        check_mail(FakeResolver(zone), clock, ip=IP, helo="x.example", sender=ALICE)
    )
    outcome.cancel()
    assert isinstance(outcome.result, Failure) and outcome.result.check(CancelledError)
    outcome.addErrback(lambda _: None)
    assert not clock.getDelayedCalls()


class Liar(FakeResolver):
    """Says things that no name server should."""

    async def mx(self, name: str) -> Answer[Mx]:
        return Answer(name, (Mx(1, "a..b"), Mx(2, ""), Mx(3, "\\000"), Mx(4, "x" * 300)))

    async def addresses(self, name: str, family: int) -> Answer[str]:
        return Answer(name, ("", "not an address", "2001:db8::1", "192.0.2.256"))

    async def pointer(self, address: str) -> Answer[str]:
        return Answer(address, ("", "..", "\r\nX", "e\u00e9.org", "example.org." * 60))


@pytest.mark.parametrize("what", ["mx", "a/8//8", "ptr", "exists:%{p}.x.example", "mx/0"])
def test_answers_that_lie(what: str) -> None:
    verdict = mail(Liar(spf(f"v=spf1 {what} -all")))
    assert verdict.result in ("pass", "fail")
    assert (verdict.result == "pass") == what.startswith("exists")


@given(
    st.binary(max_size=300)
    | st.from_regex(rb"v=spf1( [-+?~]?[a-z0-9]{1,7}[:=/]?[ -~]{0,20}){0,5}"),
    st.text(max_size=80),
    st.text(max_size=80),
    st.sampled_from([IP, "2001:db8::1", "", "x"]),
)
def test_nothing_makes_it_raise(record: bytes, name: str, local: str, ip: str) -> None:
    zone = Zone({"example.org": {"TXT": [b"v=spf1 " + record]}, "*.org": {"TXT": [record]}})
    for domain in ("example.org", name, "x.org"):
        verdict = Deferred.fromCoroutine(
            check_host(
                FakeResolver(zone),
                Clock(),
                "mailfrom",
                ip=ip,
                helo=name,
                local=local,
                domain=domain,
            )
        ).result
        assert verdict.result in (
            *("none", "neutral", "pass", "fail"),
            *("softfail", "temperror", "permerror"),
        )
        for text in (verdict.mechanism, verdict.reason, verdict.explanation, verdict.domain):
            assert text.isascii() and (not text or text.isprintable())
