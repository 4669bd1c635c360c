"""Who may bring how much: what counts for an account, and what a guesser of addresses hears."""

from __future__ import annotations

import pytest
from guarded import LETTER, Guarded
from mailroom import ALICE
from test_filtered import Scanner

from twisted_mail.address import Address
from twisted_mail.filters import interfaces as filters
from twisted_mail.filters.chain import Chain
from twisted_mail.policy.rates import Limit, Limits, Rates, RateSettings
from twisted_mail.status import MailError

FAR = Address.parse("far@away.example")
NEAR = Address.parse("near@away.example")


class Account:
    name = "alice@example.org"

    def may_send_as(self, address):
        return True


@pytest.fixture
def made(tmp_path):
    sites = []

    def make(**settings):
        site = Guarded(
            tmp_path, parts=lambda site: {"rates": Rates(RateSettings(**settings), site.world.now)}
        )
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.close()


class Senders:
    def __init__(self):
        self.told = []

    def check(self, account, departing=1):
        return None

    def sent(self, account, recipient):
        self.told.append((account, recipient))

    def refused(self, account):
        pass


@pytest.mark.parametrize("gone", [False, True])
def test_what_a_filter_keeps_from_leaving_was_not_sent(tmp_path, gone):
    senders = Senders()
    action = filters.Action.DISCARD if gone else filters.Action.NONE
    opinion = filters.Opinion(action=action, deleted=(FAR,))
    site = Guarded(
        tmp_path,
        parts=lambda site: {
            "senders": senders,
            "submitted": Chain(site.world.reactor, (Scanner(opinion),)),
        },
    )
    try:
        site.come(account=Account()).send(LETTER, FAR, NEAR, ALICE, sender=ALICE)
    finally:
        site.close()
    assert senders.told == ([] if gone else [("alice@example.org", str(NEAR))])


def refusal(caller, *addresses):
    with pytest.raises(MailError) as caught:
        caller.rcpt(*addresses)
    return str(caught.value.code), caught.value.enhanced, caught.value.text


def test_messages_that_stay_here_count_for_nothing(made):
    site = made(account=Limits(messages=Limit(1, 3600)))
    caller = site.come(account=Account())
    for _ in range(3):
        caller.send(LETTER, ALICE, sender=ALICE)
    caller.mail(ALICE)
    caller.rcpt(FAR, ALICE, FAR)
    caller.mail(ALICE)
    caller.rcpt(ALICE)
    assert refusal(caller, FAR)[:2] == ("451", "4.7.1")


def test_a_guesser_who_is_slowed_hears_the_same_of_every_address(made):
    site = made(address=Limits(bad_recipients=Limit(2, 3600)))
    site.store._limits = lambda key: (None, 1) if key == "example.org/alice" else (None, None)
    site.come().send(LETTER, ALICE)
    caller = site.come()
    caller.mail()
    for name in ("no1", "no2"):
        assert refusal(caller, Address.parse(f"{name}@example.org"))[1] == "5.1.1"
    heard = [
        refusal(caller, Address.parse(f"{name}@example.org")) for name in ("bob", "alice", "no")
    ]
    assert len(set(heard)) == 1
    assert heard[0][:2] == ("421", "4.7.1")
