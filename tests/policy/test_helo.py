"""What a client calls itself and what the DNS calls it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.policy.helo import (
    Helo,
    Pointer,
    Shape,
    check_helo,
    check_pointer,
    helo_scores,
    helo_shape,
    is_generic,
    pointer_scores,
)
from twisted_mail.policy.scores import Weights, early_talker, total
from twisted_mail.testing import simulated_world
from twisted_mail.testing.dns import FakeResolver, Zone

OWN = frozenset({"mx.example.org", "example.org", "192.0.2.1", "2001:db8::1"})


@pytest.mark.parametrize(
    ("helo", "shape"),
    [
        ("mail.example.net", Shape.DOMAIN),
        ("MAIL.example.net.", Shape.DOMAIN),
        ("my_host.example.net", Shape.DOMAIN),
        ("bücher.example", Shape.DOMAIN),
        ("localhost", Shape.BARE),
        ("WIN-7QK2", Shape.BARE),
        ("[203.0.113.7]", Shape.LITERAL),
        ("[203.0.113.8]", Shape.FOREIGN_LITERAL),
        ("[IPv6:2001:db8::7]", Shape.FOREIGN_LITERAL),
        ("203.0.113.7", Shape.ADDRESS),
        ("2001:db8::7", Shape.ADDRESS),
        ("mx.example.org", Shape.OWN),
        ("MX.Example.ORG", Shape.OWN),
        ("[192.0.2.1]", Shape.OWN),
        ("192.0.2.1", Shape.OWN),
        ("[IPv6:2001:db8::1]", Shape.OWN),
        ("", Shape.MALFORMED),
        (".", Shape.MALFORMED),
        ("a..b", Shape.MALFORMED),
        ("[203.0.113.7", Shape.MALFORMED),
        ("[mail.example.net]", Shape.MALFORMED),
        ("mail example net", Shape.MALFORMED),
        ("203.0.113", Shape.MALFORMED),
        ("-.example.net", Shape.MALFORMED),
        ("x" * 300, Shape.MALFORMED),
    ],
)
def test_shapes(helo, shape):
    assert helo_shape(helo, "203.0.113.7", OWN) is shape


def test_an_ipv6_client_names_itself():
    assert helo_shape("[IPv6:2001:DB8::7]", "2001:db8::7") is Shape.LITERAL
    assert helo_shape("[192.0.2.9]", "::ffff:192.0.2.9") is Shape.LITERAL
    assert helo_shape("[::1]", "::1") is Shape.MALFORMED


@given(st.text(), st.text())
def test_any_text_has_a_shape(helo, ip):
    assert isinstance(helo_shape(helo, ip, OWN), Shape)


class Site:
    def __init__(self, zone=None, **more):
        self.world = simulated_world()
        self.zone = Zone(zone or {}, **more)
        self.resolver = FakeResolver(self.zone)

    def helo(self, name, ip="203.0.113.7"):
        return self.world.run(check_helo(self.resolver, self.world.reactor, name, ip, OWN))

    def pointer(self, ip="203.0.113.7"):
        return self.world.run(check_pointer(self.resolver, self.world.reactor, ip))


@pytest.mark.parametrize(
    ("zone", "leads"),
    [
        ({"mail.example.net": {"A": ["203.0.113.7"]}}, "pass"),
        ({"mail.example.net": {"A": ["203.0.113.8"]}}, "fail"),
        ({"mail.example.net": {"AAAA": ["2001:db8::7"]}}, "fail"),
        ({"mail.example.net": {"MX": [(10, "mx.example.net")]}}, "none"),
        ({}, "none"),
    ],
)
def test_where_a_helo_leads(zone, leads):
    assert Site(zone).helo("mail.example.net") == Helo("mail.example.net", Shape.DOMAIN, leads)


def test_a_helo_that_cannot_be_looked_up_says_nothing():
    site = Site(failing=["mail.example.net"])
    helo = site.helo("mail.example.net")
    assert helo.leads == "temperror"
    assert helo_scores(helo, Weights()) == ()
    site = Site(silent=["mail.example.net"])
    began = site.world.now()
    assert site.helo("mail.example.net").leads == "temperror"
    assert site.world.now() - began == 5.0


def test_only_domains_are_looked_up():
    site = Site()
    for helo in ("localhost", "[203.0.113.7]", "a..b", "mx.example.org", "203.0.113.7"):
        site.helo(helo)
    assert site.resolver.questions == []


POINTED = "7.113.0.203.in-addr.arpa"


def test_a_pointer_that_leads_back():
    site = Site(
        {POINTED: {"PTR": ["mail.example.net"]}, "mail.example.net": {"A": ["203.0.113.7"]}}
    )
    assert site.pointer() == Pointer("pass", "mail.example.net")
    assert site.pointer("::ffff:203.0.113.7").result == "pass"
    assert pointer_scores(site.pointer(), Weights()) == ()


def test_one_of_several_pointers_that_leads_back_is_enough():
    names = ["a.example.net", "b.example.net", "c.example.net"]
    site = Site({POINTED: {"PTR": names}, "b.example.net": {"A": ["203.0.113.7"]}})
    site.zone.failing.add("a.example.net")
    assert site.pointer().name == "b.example.net"


def test_a_pointer_that_leads_elsewhere():
    site = Site(
        {POINTED: {"PTR": ["mail.bank.example"]}, "mail.bank.example": {"A": ["192.0.2.9"]}}
    )
    pointer = site.pointer()
    assert (pointer.result, pointer.name) == ("fail", "mail.bank.example")
    assert [one.rule for one in pointer_scores(pointer, Weights())] == ["pointer_mismatch"]


def test_no_pointer():
    pointer = Site().pointer()
    assert pointer.result == "permerror"
    assert [one.rule for one in pointer_scores(pointer, Weights())] == ["no_pointer"]
    assert Site({POINTED: {"PTR": ["a b\r\nX: y"]}}).pointer().result == "permerror"


def test_a_pointer_that_cannot_be_looked_up():
    assert Site(failing=[POINTED]).pointer().result == "temperror"
    site = Site({POINTED: {"PTR": ["mail.example.net"]}}, failing=["mail.example.net"])
    assert site.pointer().result == "temperror"
    site = Site(silent=[POINTED])
    assert site.pointer().result == "temperror"
    assert pointer_scores(site.pointer(), Weights()) == ()


def test_not_more_than_ten_pointers_are_followed():
    site = Site({POINTED: {"PTR": [f"n{number}.example.net" for number in range(50)]}})
    assert site.pointer().result == "fail"
    assert len([one for one in site.resolver.questions if one[0] == "A"]) == 10


@pytest.mark.parametrize(
    ("name", "ip"),
    [
        ("203-0-113-7.example.net", "203.0.113.7"),
        ("7.113.0.203.example.net", "203.0.113.7"),
        ("host-113-0-203.isp.example.net", "203.0.113.7"),
        ("203.000.113.007.lines.example.net", "203.0.113.7"),
        ("203000113007.lines.example.net", "203.0.113.7"),
        ("cb007107.lines.example.net", "203.0.113.7"),
        ("p17.dip.dyn.example.net", "203.0.113.7"),
        ("adsl-99.example.net", "203.0.113.7"),
        ("ppp7.city.example.net", "203.0.113.7"),
        ("2001-db8-0-1-a-b-c-d.v6.example.net", "2001:db8:0:1:a:b:c:d"),
        ("20010db800000001000a000b000c000d.v6.example.net", "2001:db8:0:1:a:b:c:d"),
        ("2001-db8--7.v6.example.net", "2001:db8::7"),
    ],
)
def test_generic_names(name, ip):
    assert is_generic(name, ip)


@pytest.mark.parametrize(
    "name",
    [
        "mail.example.net",
        "mx7.example.net",
        "mail-203-0-113-7.example.net",
        "203-0-113-7.mail.example.net",
        "a113-7.smtp-out.example.net",
        "o1.host7.example.net",
        "web113-7.example.net",
        "example.net",
        "dyn.example",
        "cablemaker.example.net",
        "dynamo.host.example.net",
    ],
)
def test_names_of_mail_servers(name):
    assert not is_generic(name, "203.0.113.7")


@given(st.text(), st.ip_addresses().map(str))
def test_no_name_breaks_the_guess(name, ip):
    assert is_generic(name, ip) in (True, False)


@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        (Shape.MALFORMED, "helo_malformed"),
        (Shape.OWN, "helo_own"),
        (Shape.BARE, "helo_bare"),
        (Shape.ADDRESS, "helo_address"),
        (Shape.LITERAL, "helo_literal"),
        (Shape.FOREIGN_LITERAL, "helo_foreign_literal"),
    ],
)
def test_each_shape_has_its_weight(shape, rule):
    weights = Weights()._replace(**{rule: 7.0})
    (score,) = helo_scores(Helo("x\r\ny", shape), weights)
    assert (score.rule, score.points) == (rule, 7.0)
    assert score.reason.isprintable()
    assert helo_scores(Helo("x", shape), weights._replace(**{rule: 0.0})) == ()


def test_a_helo_that_leads_elsewhere_has_no_points_by_itself():
    helo = Helo("mail.example.net", Shape.DOMAIN, "fail")
    assert helo_scores(helo, Weights()) == ()
    assert total(helo_scores(helo, Weights(helo_mismatch=1.0))) == 1.0
    assert total(helo_scores(helo._replace(leads="none"), Weights())) == 1.5


def test_who_speaks_too_early_has_points():
    assert total(early_talker(Weights(early_talker=2.0))) == 2.0
    assert early_talker(Weights(early_talker=0.0)) == ()
