"""What a visit asks of the DNS: answers are there as often as they are needed, and questions are bounded."""

from __future__ import annotations

import gc

import pytest
from guarded import LETTER, ZONE, Guarded
from mailroom import ALICE
from twisted.logger import globalLogPublisher

from twisted_mail.address import Address
from twisted_mail.policy.dnsbl import DnsLists, parse_list
from twisted_mail.policy.greylist import Greylist, GreylistSettings
from twisted_mail.status import MailError


@pytest.fixture
def made(tmp_path):
    sites = []

    def make(**options):
        path = tmp_path / str(len(sites))
        path.mkdir()
        site = Guarded(path, **options)
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.close()


def greylist(site):
    return {"greylist": Greylist(GreylistSettings(delay=1), site.world.now)}


def lists(*texts):
    def of(site):
        found = tuple(parse_list(text, kind) for kind, text in texts)
        return {"lists": DnsLists(site.resolver, site.world.reactor, found)}

    return of


def test_what_greylisting_waited_for_is_known_when_it_is_decided(made):
    site = made(delay=1.0, parts=greylist)
    caller = site.come()
    caller.mail()
    with pytest.raises(MailError):
        caller.rcpt(ALICE)
    site.world.reactor.advance(10)
    caller = site.come()
    caller.mail()
    # Both wait for SPF; without it, DMARC refuses what follows.
    caller.rcpt(ALICE)
    caller.data()
    (text,) = site.inbox()
    assert b"smtp.mailfrom=sender@elsewhere.example" in text
    assert b"dmarc=pass" in text


def test_the_second_message_of_a_connection_is_judged_as_the_first(made):
    site = made(delay=1.0)
    caller = site.come()
    caller.send(LETTER, ALICE)
    caller.send(LETTER, ALICE)
    for text in site.inbox():
        assert b"smtp.mailfrom=sender@elsewhere.example" in text
        assert b"smtp.helo=client.example" in text
        assert b"iprev=pass" in text


def test_another_helo_asks_about_itself_alone(made):
    zone = {**ZONE, "7.2.0.192.bad.example": {"A": ["127.0.0.2"]}}
    site = made(delay=1.0, zone=zone, parts=lists(("client", "bad.example*3")))
    caller = site.come()
    caller.send(LETTER, ALICE)
    caller.helo("elsewhere.example")
    caller.send(LETTER, ALICE)
    assert site.resolver.questions.count(("A", "7.2.0.192.bad.example")) == 1
    assert len(site.inbox()) == 2


def test_a_list_that_has_the_sender_does_not_have_the_next_one(made):
    zone = {**ZONE, "elsewhere.example.bad.example": {"A": ["127.0.0.2"]}}
    site = made(zone=zone, parts=lists(("sender", "bad.example*7")))
    caller = site.come()
    caller.send(LETTER, ALICE)
    assert any("+7" in line for line in site.lines())
    caller.send(LETTER.replace(b"elsewhere", b"client"), ALICE, sender=None)
    assert not any("+7" in line for line in site.lines())


@pytest.mark.parametrize("what", ["HELO", "MAIL"])
def test_who_says_it_again_and_again_asks_a_bounded_number_of_questions(made, what):
    site = made(parts=lists(("helo", "bad.example"), ("sender", "bad.example")))
    names = [f"n{number}.example.com" for number in range(500)]
    site.resolver.zone.silent |= {*names, *(f"{name}.bad.example" for name in names)}
    caller = site.come()
    for name in names:
        if what == "HELO":
            caller.helo(name)
        else:
            caller.mail(Address.parse(f"x@{name}"))
    assert len(site.resolver.questions) < 200
    assert caller.visit.asking < 10
    caller.leave()
    assert caller.visit.asking == 0
    assert len(site.told.all[-1].lines) < 60


def test_a_question_that_fails_is_nobodys_when_nobody_waits(made):
    site = made()

    async def fails(name):
        raise RuntimeError("the resolver is broken")

    site.resolver.txt = fails
    logged = []
    globalLogPublisher.addObserver(logged.append)
    try:
        caller = site.come()
        caller.mail()
        caller.helo("other.example")
        caller.mail()
        caller.leave()
        del caller
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert not [event for event in logged if "log_failure" in event]


def test_who_leaves_while_it_is_asked_ends_the_questions(made):
    site = made(delay=1.0)
    caller = site.come()
    caller.mail()
    caller.leave()
    assert caller.visit.asking == 0
