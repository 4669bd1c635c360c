"""Organizational domains, by the DNS and by the public suffix list."""

import pytest
from twisted.internet.defer import Deferred

from twisted_mail.policy.organization import SuffixList, TreeWalk, load_suffixes
from twisted_mail.testing.dns import FakeResolver, Zone


def zone(**records: str) -> Zone:
    return Zone(
        {
            f"_dmarc.{name.replace('_', '.')}": {"TXT": ["v=DMARC1; p=none" + more]}
            for name, more in records.items()
        }
    )


def of(where: Zone, domain: str) -> str:
    return Deferred.fromCoroutine(TreeWalk(FakeResolver(where)).of(domain)).result


def policy(where: Zone, domain: str) -> str | None:
    found = Deferred.fromCoroutine(TreeWalk(FakeResolver(where)).policy(domain)).result
    return None if found is None else found[0]


def test_the_highest_record_wins() -> None:
    # RFC 9989 section 4.10.2
    where = zone(mail_example_com="", example_com="")
    assert of(where, "a.mail.example.com") == "example.com"
    assert policy(where, "a.mail.example.com") == "example.com"
    assert policy(where, "mail.example.com") == "mail.example.com"


def test_psd_n_ends_the_walk() -> None:
    where = zone(mail_example_com="; psd=n", example_com="")
    assert of(where, "a.mail.example.com") == "mail.example.com"
    assert of(where, "b.example.com") == "example.com"


def test_psd_y_is_one_above() -> None:
    where = zone(com="; psd=y")
    assert of(where, "a.mail.example.com") == "example.com"
    assert of(where, "com") == "com"
    assert policy(where, "a.mail.example.com") == "com"
    assert policy(where, "example.com") == "com"


def test_appendix_b_4_3() -> None:
    where = zone(bank_example="; psd=y", giant_bank_example="")
    assert of(where, "giant.bank.example") == "giant.bank.example"
    assert of(where, "mail.giant.bank.example") == "giant.bank.example"
    assert of(where, "mail.mega.bank.example") == "mega.bank.example"
    assert policy(where, "mail.giant.bank.example") == "giant.bank.example"
    assert policy(where, "mail.mega.bank.example") == "bank.example"


def test_who_is_neither_organization_nor_suffix_does_not_speak_for_those_below() -> None:
    # RFC 9989 section 4.10.1
    where = zone(bank="; psd=y", b_c_bank="")
    assert of(where, "a.b.c.bank") == "c.bank"
    assert policy(where, "a.b.c.bank") == "bank"


def test_no_record_at_all() -> None:
    assert of(Zone(), "a.b.example.com") == "a.b.example.com"
    assert policy(Zone(), "a.b.example.com") is None


def test_several_records_are_none() -> None:
    where = Zone({"_dmarc.example.com": {"TXT": ["v=DMARC1; p=none", "v=DMARC1; p=reject"]}})
    assert policy(where, "example.com") is None


def test_eight_questions_at_most() -> None:
    # RFC 9989 section 4.10
    resolver = FakeResolver(zone(example_com=""))
    walk = TreeWalk(resolver)
    domain = "a.b.c.d.e.f.g.h.i.j.mail.example.com"
    assert Deferred.fromCoroutine(walk.of(domain)).result == "example.com"
    assert [name for _, name in resolver.questions] == [
        f"_dmarc.{name}"
        for name in (
            *(domain, "g.h.i.j.mail.example.com", "h.i.j.mail.example.com"),
            *("i.j.mail.example.com", "j.mail.example.com", "mail.example.com"),
            *("example.com", "com"),
        )
    ]
    Deferred.fromCoroutine(walk.policy(domain))
    assert len(resolver.questions) == 8
    assert of(Zone(), ".".join("abcdefgh")) == "a.b.c.d.e.f.g.h"
    resolver = FakeResolver()
    Deferred.fromCoroutine(TreeWalk(resolver).of(".".join("x" * 120)))
    assert len(resolver.questions) == 8


def test_names_that_no_question_can_carry() -> None:
    assert of(Zone(), "x" * 250) == "x" * 250
    assert of(Zone(), ".".join(["x" * 60] * 4)) == ".".join(["x" * 60] * 4)


@pytest.mark.parametrize(
    ("domain", "organization"),
    [
        ("a.b.example.com", "example.com"),
        ("example.co.uk", "example.co.uk"),
        ("a.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("a.b.github.io", "b.github.io"),
        ("a.xn--55qx5d.cn", "a.xn--55qx5d.cn"),
        ("a.b.unknown-suffix", "b.unknown-suffix"),
        ("localhost", "localhost"),
    ],
)
def test_the_public_suffix_list(domain: str, organization: str) -> None:
    load_suffixes()
    resolver = FakeResolver()
    assert Deferred.fromCoroutine(SuffixList(resolver).of(domain)).result == organization
    assert not resolver.questions


def test_policy_by_the_list_asks_twice() -> None:
    resolver = FakeResolver(zone(example_com=""))
    found = Deferred.fromCoroutine(SuffixList(resolver).policy("a.b.example.com")).result
    assert found is not None and found[0] == "example.com"
    assert [name for _, name in resolver.questions] == [
        "_dmarc.a.b.example.com",
        "_dmarc.example.com",
    ]
