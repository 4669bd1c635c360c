"""What a client hears, and its story tells, that is refused for what lists in the DNS have against it."""

from __future__ import annotations

import pytest
from guarded import LETTER, ZONE, Guarded
from mailroom import ALICE, BOB

from twisted_mail.policy.dnsbl import DnsLists, parse_list
from twisted_mail.status import MailError

WORDS = "Spam source, see http://bad.example/7"
LISTED = {"7.2.0.192.bad.example": {"A": ["127.0.0.2"], "TXT": [WORDS]}}


@pytest.fixture
def made(tmp_path):
    sites = []

    def make(*lists, **options):
        def parts(site):
            found = [parse_list(one) for one in lists]
            return {"lists": DnsLists(site.resolver, site.world.reactor, found)}

        zone = {**ZONE, **LISTED, "7.2.0.192.worse.example": {"A": ["127.0.0.2"]}}
        site = Guarded(tmp_path, zone=zone, parts=parts, **options)
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.close()


def asked(site):
    return site.resolver.questions.count(("TXT", "7.2.0.192.bad.example"))


@pytest.mark.parametrize("lists", [("bad.example*15",), ("bad.example*3", "worse.example*12")])
def test_at_rcpt_it_hears_the_words_of_the_list_and_they_are_told(made, lists):
    site = made(*lists)
    caller = site.come()
    caller.mail()
    for recipient in (ALICE, BOB):
        with pytest.raises(MailError) as caught:
            caller.rcpt(recipient)
        assert caught.value.code == 550
        assert caught.value.text.endswith(f"listed by bad.example (127.0.0.2): {WORDS}")
    assert ("worse.example" in caught.value.text) == (len(lists) > 1)
    caller.leave()
    assert f"listed by bad.example (127.0.0.2): {WORDS}" in site.lines()
    assert asked(site) == 1


def test_the_same_once_the_message_has_come(made):
    site = made("bad.example*14.5")
    forged = LETTER.replace(b"elsewhere", b"client")
    site.resolver.zone["_dmarc.client.example"] = {"TXT": ["v=DMARC1; p=none"]}
    site.resolver.zone["elsewhere.example"] = {"TXT": ["v=spf1 ~all"]}
    with pytest.raises(MailError) as caught:
        site.come().send(forged, ALICE)
    assert caught.value.text.startswith("Too many signs of spam: listed by bad.example")
    assert WORDS in caught.value.text
    assert f"listed by bad.example (127.0.0.2): {WORDS}" in site.lines()
    assert sum("listed by bad.example" in line for line in site.lines()) == 3


def test_nobody_asks_for_words_that_are_not_told(made):
    site = made("bad.example*3")
    site.come().send(LETTER, ALICE)
    assert asked(site) == 0
