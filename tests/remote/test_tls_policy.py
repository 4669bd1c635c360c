"""The decision table of `remote.tls_policy`, whole."""

from __future__ import annotations

from typing import Any

import pytest

from twisted_mail.dns.interfaces import Tlsa
from twisted_mail.remote.dane import ABSENT, Dane, DaneState
from twisted_mail.remote.mta_sts import Mode, StsPolicy
from twisted_mail.remote.settings import TlsRule
from twisted_mail.remote.tls_policy import Level, Rules, TlsPolicy, Unusable, decide

RECORD = Tlsa(3, 1, 1, bytes(32))
USABLE = Dane(DaneState.USABLE, (RECORD,), "mx.example.org")
UNUSABLE = Dane(DaneState.UNUSABLE, (), "mx.example.org")
FAILED = Dane(DaneState.FAILED, text="SERVFAIL")
ENFORCE = StsPolicy(Mode.ENFORCE, ("*.example.org",), 86400)
TESTING = StsPolicy(Mode.TESTING, ("*.example.org",), 86400)
OFF = StsPolicy(Mode.NONE, (), 86400)

NONE, OPP, REQ, VER, DANE = Level


def level(tls: Any, dane: Dane = ABSENT, sts: StsPolicy | None = None, **named: Any) -> Level:
    rule = TlsRule("example.org", tls)
    return decide(
        rule, "mx.example.org", domains=("example.org",), dane=dane, sts=sts, **named
    ).level


@pytest.mark.parametrize(
    ("tls", "usable", "unusable", "enforced", "nothing", "both"),
    [
        ("none", NONE, NONE, NONE, NONE, NONE),
        ("opportunistic", DANE, REQ, VER, OPP, VER),
        ("required", DANE, REQ, VER, REQ, VER),
        ("verified", DANE, VER, VER, VER, VER),
    ],
)
def test_the_table(
    tls: str, usable: Level, unusable: Level, enforced: Level, nothing: Level, both: Level
) -> None:
    assert level(tls, USABLE) is usable
    assert level(tls, UNUSABLE) is unusable
    assert level(tls, ABSENT, ENFORCE) is enforced
    assert level(tls) is nothing
    assert level(tls, UNUSABLE, ENFORCE) is both
    # DANE goes before MTA-STS, and what is only tried changes nothing
    assert level(tls, USABLE, ENFORCE) is usable
    assert level(tls, ABSENT, TESTING) is nothing
    assert level(tls, ABSENT, OFF) is nothing


def test_mandatory_is_all_above_opportunistic() -> None:
    assert [TlsPolicy(one).mandatory for one in Level] == [False, False, True, True, True]


def test_names_of_its_own_are_what_counts() -> None:
    rule = TlsRule("example.org", "verified", (".partner.example",))
    policy = decide(rule, "mx.example.org", dane=USABLE, sts=ENFORCE)
    assert (policy.level, policy.names) == (VER, (".partner.example",))


def test_dane_names_and_sni() -> None:
    dane = Dane(DaneState.USABLE, (RECORD,), "real.example")
    domains = ("example.org", "alias.example")
    policy = decide(TlsRule("", "opportunistic"), "mx.example.org", domains=domains, dane=dane)
    assert policy.names == ("real.example", "mx.example.org", "example.org", "alias.example")
    assert (policy.server_name, policy.tlsa, policy.kind) == ("real.example", (RECORD,), "tlsa")


def test_sts_wants_the_name_of_the_host_alone() -> None:
    policy = decide(
        TlsRule("", "opportunistic"), "mx.example.org", domains=("example.org",), sts=ENFORCE
    )
    assert (policy.names, policy.kind) == (("mx.example.org",), "sts")


def test_a_policy_that_is_tried_out_is_kept_for_reports() -> None:
    policy = decide(TlsRule("", "opportunistic"), "mx.example.org", sts=TESTING)
    assert (policy.testing, policy.kind, policy.level) == (TESTING, "sts", OPP)


def test_a_failed_tlsa_look_up_makes_the_host_unusable() -> None:
    with pytest.raises(Unusable) as caught:
        level("opportunistic", FAILED, ENFORCE)
    error = caught.value
    assert (error.enhanced, error.permanent, error.kind) == ("4.7.5", False, "tlsa")
    assert level("none", FAILED) is NONE  # who wants no TLS has no use for it


def test_an_mx_that_the_policy_does_not_name() -> None:
    with pytest.raises(Unusable) as caught:
        decide(
            TlsRule("", "opportunistic"), "mx.evil.example", domains=("example.org",), sts=ENFORCE
        )
    error = caught.value
    assert (error.permanent, error.kind, error.result) == (False, "sts", "validation-failure")
    # only tried out, or DNSSEC and TLSA say better
    decide(TlsRule("", "opportunistic"), "mx.evil.example", sts=TESTING)
    decide(TlsRule("", "opportunistic"), "mx.evil.example", sts=ENFORCE, dane=USABLE)


@pytest.mark.parametrize(
    ("tls", "dane", "sts", "vouched", "expected"),
    [
        ("opportunistic", ABSENT, None, False, None),
        ("opportunistic", ABSENT, TESTING, False, None),
        ("opportunistic", ABSENT, None, True, VER),
        ("opportunistic", UNUSABLE, None, True, VER),
        ("opportunistic", USABLE, None, True, DANE),
        ("opportunistic", ABSENT, ENFORCE, False, VER),
        ("verified", ABSENT, None, False, None),
        ("none", ABSENT, ENFORCE, True, None),
    ],
)
def test_requiretls(
    tls: Any, dane: Dane, sts: StsPolicy | None, vouched: bool, expected: Level | None
) -> None:
    try:
        found = level(tls, dane, sts, requiretls=True, vouched=vouched)
    except Unusable as error:
        assert expected is None and error.permanent and error.enhanced == "5.7.10"
    else:
        assert found is expected


def test_requiretls_with_names_of_its_own() -> None:
    rule = TlsRule("example.org", "verified", ("mx.example.org",))
    assert decide(rule, "mx.example.org", requiretls=True, vouched=True).level is VER
    assert decide(rule, "mx.example.org", requiretls=True, sts=ENFORCE).level is VER
    with pytest.raises(Unusable):
        decide(rule, "mx.example.org", requiretls=True)


@pytest.mark.parametrize("host", ["[192.0.2.1]", "192.0.2.1", "2001:db8::1", "[IPv6:2001:db8::1]"])
def test_no_address_is_sent_as_a_server_name(host: str) -> None:
    assert decide(TlsRule("", "verified"), host).server_name == ""


@pytest.mark.parametrize(
    ("domain", "tls"),
    [
        ("a.example", "none"),
        ("sub.a.example", "required"),
        ("x.sub.a.example", "verified"),
        ("b.example", "opportunistic"),
        ("[192.0.2.1]", "opportunistic"),
    ],
)
def test_the_closest_rule(domain: str, tls: str) -> None:
    rules = Rules(
        "opportunistic",
        [
            TlsRule("*.sub.a.example", "verified"),
            TlsRule("*.a.example", "required"),
            TlsRule("a.example", "none"),
        ],
    )
    assert rules.of(domain).tls == tls
