"""Lists in the DNS: what is asked, what counts, and what is no answer of a list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.policy.dnsbl import (
    NOTHING,
    DnsList,
    DnsLists,
    Hit,
    Listing,
    _fields,
    _fits,
    parse_list,
    query_name,
)
from twisted_mail.testing import simulated_world
from twisted_mail.testing.dns import FakeResolver, Zone


class Site:
    """Lists asked about clients, in a DNS of the test's own."""

    def __init__(self, *lists, zone=None, late=None, seconds=5.0):
        self.world = simulated_world()
        self.zone = Zone(zone or {})
        self.resolver = FakeResolver(self.zone, clock=self.world.reactor, late=late)
        self.told = []
        parsed = [one if isinstance(one, DnsList) else parse_list(one) for one in lists]
        self.lists = DnsLists(
            self.resolver, self.world.reactor, parsed, seconds=seconds, tell=self.told.append
        )

    def client(self, ip="203.0.113.7"):
        return self.world.run(self.lists.client(ip))


LISTED = "7.113.0.203.bl.example"


@pytest.mark.parametrize(
    ("ip", "name"),
    [
        ("203.0.113.7", "7.113.0.203"),
        ("::ffff:203.0.113.7", "7.113.0.203"),
        # RFC 5782 section 2.4
        (
            "2001:db8:1:2:3:4:567:89ab",
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2",
        ),
        ("127.0.0.2", "2.0.0.127"),
        ("10.1.2.3", None),
        ("192.168.1.1", None),
        ("fe80::1%eth0", None),
        ("fd00::1", None),
        ("/run/mail.sock", None),
        ("", None),
    ],
)
def test_what_is_asked_of_an_address(ip, name):
    assert query_name(ip) == name


def test_a_listed_client_has_the_lists_points():
    site = Site("bl.example*3", "other.example", zone={LISTED: {"A": ["127.0.0.2"]}})
    assert site.client() == Listing(3.0, (Hit("bl.example", "127.0.0.2", 3.0, LISTED),))
    assert site.client("203.0.113.8") == NOTHING
    assert site.told == []


def test_an_ipv6_client_is_asked_by_nibbles():
    name = query_name("2001:db8::7") + ".bl.example"
    site = Site("bl.example", zone={name: {"A": ["127.0.0.2"]}})
    assert site.client("2001:db8::7").score == 1.0


def test_private_clients_are_not_asked_about():
    site = Site("bl.example")
    assert site.client("192.168.0.7") is NOTHING
    assert site.resolver.questions == []


@pytest.mark.parametrize(
    ("pattern", "fitting", "other"),
    [
        ("127.0.0.2", ["127.0.0.2"], ["127.0.0.3", "127.0.1.2"]),
        ("127.0.0.[4..8]", ["127.0.0.4", "127.0.0.8"], ["127.0.0.3", "127.0.0.9"]),
        ("127.0.0.[2,9..11]", ["127.0.0.2", "127.0.0.10"], ["127.0.0.3"]),
        ("127.0.0.[2;9]", ["127.0.0.9"], ["127.0.0.3"]),
        ("127.0.[0..255].[1..3]", ["127.0.9.1"], ["127.0.9.0", "127.1.9.1"]),
        ("127.0.*.2", ["127.0.200.2"], ["127.1.200.2"]),
        ("127.0.0.&4", ["127.0.0.4", "127.0.0.14"], ["127.0.0.3", "127.0.0.8"]),
        ("127.0.0.8/30", ["127.0.0.8", "127.0.0.11"], ["127.0.0.7", "127.0.0.12"]),
        ("127.0.0.0/8", ["127.9.9.9"], []),
    ],
)
def test_patterns(pattern, fitting, other):
    fields = _fields(pattern)
    assert all(_fits(fields, tuple(map(int, one.split(".")))) for one in fitting)
    assert not any(_fits(fields, tuple(map(int, one.split(".")))) for one in other)


@given(st.text(alphabet="127.0[]*;,&/8") | st.text())
def test_no_pattern_and_no_list_makes_more_of_it_than_a_value_error(text):
    for make in (_fields, parse_list, lambda one: parse_list(f"bl.example={one}")):
        try:
            make(text)
        except ValueError as error:
            assert str(error).isprintable()


@pytest.mark.parametrize(
    "text",
    ["", "bl", "bl..example", "bl.example=", "bl.example*x", "bl.example=10.0.0.1", "a b.example"]
    + [f"bl.example={p}" for p in ("127.0.0", "127.0.0.256", "127.0.0.[9..4]", "127.0.0.[]")]
    + [f"bl.example={p}" for p in ("127.0.0.1.2", "127.0.0.1x", "127.0.0.&0", "127.0.0.1/40")],
)
def test_what_is_no_list(text):
    with pytest.raises(ValueError, match=r"."):
        parse_list(text)


def test_a_list_as_postfix_writes_it():
    assert parse_list("Zen.Example.=127.0.0.[4..8]*2.5") == DnsList(
        "zen.example", 2.5, (("127.0.0.[4..8]", 2.5),)
    )
    assert parse_list("wl.example*-4") == DnsList("wl.example", -4.0)


def test_codes_have_points_of_their_own_and_the_strongest_counts():
    codes = (("127.0.0.2", 4.0), ("127.0.0.[10..11]", 1.5))
    site = Site(
        DnsList("bl.example", 9.0, codes),
        zone={
            LISTED: {"A": ["127.0.0.10", "127.0.0.2"]},
            "8.113.0.203.bl.example": {"A": ["127.0.0.11"]},
            "9.113.0.203.bl.example": {"A": ["127.0.0.4"]},
        },
    )
    assert site.client().score == 4.0
    assert site.client("203.0.113.8").score == 1.5
    assert site.client("203.0.113.9") == NOTHING


def test_lists_of_one_zone_are_asked_once_and_add_up():
    site = Site(
        "bl.example=127.0.0.2*2",
        "bl.example=127.0.0.10*1",
        zone={LISTED: {"A": ["127.0.0.10", "127.0.0.2"]}},
    )
    assert site.client().score == 3.0
    assert site.resolver.questions.count(("A", LISTED)) == 1


def test_lists_of_the_good_count_against_lists_of_the_bad():
    site = Site(
        "bl.example*3",
        "wl.example*-5",
        zone={
            LISTED: {"A": ["127.0.0.2"]},
            "7.113.0.203.wl.example": {"A": ["127.0.5.1"]},
            "8.113.0.203.wl.example": {"A": ["127.0.5.1"]},
        },
    )
    both = site.client()
    assert (both.score, both.allowed) == (-2.0, False)
    assert site.client("203.0.113.8").allowed
    assert not site.client("203.0.113.9").allowed
    assert [one.points for one in both.scores] == [3.0, -5.0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("203.0.113.99", "lies"),
        ("127.255.255.254", "refuses"),
        ("127.255.255.255", "refuses"),
        ("127.0.0.1", "refuses"),
        ("127.0.0.255", "refuses"),
    ],
)
def test_what_is_no_answer_of_a_list_counts_nothing_and_is_told_once(answer, words):
    site = Site("bl.example*-3", zone={LISTED: {"A": [answer]}})
    for _ in range(3):
        listing = site.client()
        assert (listing.score, listing.hits) == (0.0, ())
        assert words in listing.errors[0]
    assert len(site.told) == 1
    assert words in site.told[0]


def test_an_answer_beside_one_that_is_none_counts():
    site = Site("bl.example", zone={LISTED: {"A": ["127.255.255.254", "127.0.0.3"]}})
    assert [hit.code for hit in site.client().hits] == ["127.0.0.3"]


def test_a_pattern_for_just_this_answer_makes_it_one():
    site = Site("bl.example=127.0.0.1*2", zone={LISTED: {"A": ["127.0.0.1"]}})
    assert site.client().score == 2.0
    site = Site("bl.example=127.0.0.[1..9]*2", zone={LISTED: {"A": ["127.0.0.1"]}})
    assert site.client().score == 0.0


@pytest.mark.parametrize("ip", ["203.0.113.7", "2001:db8::7"])
def test_a_list_that_has_everybody_counts_nothing(ip):
    site = Site("bl.example*9", zone={"*.bl.example": {"A": ["127.0.0.2"]}})
    listing = site.client(ip)
    assert listing == Listing(0.0, (), ("bl.example: it lists everybody",))
    site.client(ip)
    assert len(site.told) == 1


def test_everybody_is_somebody_else_in_ipv6():
    # RFC 5782 section 5
    mapped = "1.0.0.0.0.0.f.7.f.f.f.f" + ".0" * 20
    for nobody, score in (("1.0.0.127", 1.0), (mapped, 0.0)):
        listed = f"{query_name('2001:db8::7')}.bl.example"
        site = Site(
            "bl.example",
            zone={listed: {"A": ["127.0.0.2"]}, f"{nobody}.bl.example": {"A": ["127.0.0.2"]}},
        )
        assert site.client("2001:db8::7").score == score


def test_lists_are_asked_at_once_and_none_keeps_the_others_waiting():
    site = Site(
        "slow.example*3",
        "silent.example*3",
        "broken.example*3",
        "bl.example",
        zone={LISTED: {"A": ["127.0.0.2"]}, "7.113.0.203.slow.example": {"A": ["127.0.0.2"]}},
        late={"7.113.0.203.slow.example": 4.0},
    )
    site.zone.silent.add("7.113.0.203.silent.example")
    site.zone.failing.add("7.113.0.203.broken.example")
    began = site.world.now()
    listing = site.client()
    assert site.world.now() - began == 5.0
    assert listing.score == 4.0
    assert [error.partition(":")[0] for error in listing.errors] == [
        "silent.example",
        "broken.example",
    ]
    assert "within 5 seconds" in listing.errors[0]


def test_who_stops_waiting_stops_the_questions():
    from twisted.internet.defer import Deferred

    site = Site("a.example", "b.example")
    site.zone.silent |= {"7.113.0.203.a.example", "7.113.0.203.b.example"}
    waiting = Deferred.fromCoroutine(site.lists.client("203.0.113.7"))
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    assert site.world.reactor.getDelayedCalls() == []


def test_reasons_are_fetched_for_the_bad_only_and_harmless():
    text = b"see http://bl.example/?ip=203.0.113.7\r\nSubject: \xff\x1b[31m" + b"x" * 500
    site = Site(
        "bl.example*3",
        "wl.example*-1",
        zone={
            LISTED: {"A": ["127.0.0.2"], "TXT": [text]},
            "7.113.0.203.wl.example": {"A": ["127.0.0.2"], "TXT": ["good"]},
        },
    )
    listing = site.client()
    assert all(kind == "A" for kind, _ in site.resolver.questions)
    told = site.world.run(site.lists.reasons(listing))
    assert [kind for kind, _ in site.resolver.questions].count("TXT") == 1
    reason = told.hits[0].reason
    assert reason.startswith("see http://bl.example/?ip=203.0.113.7")
    assert reason.isascii()
    assert reason.isprintable()
    assert len(reason) <= 200
    assert told.score == listing.score
    assert reason[:20] in told.scores[0].reason


def test_a_reason_that_cannot_be_had_is_none():
    site = Site("bl.example", zone={LISTED: {"A": ["127.0.0.2"]}})
    listing = site.client()
    site.zone.silent.add(f"TXT {LISTED}")
    assert site.world.run(site.lists.reasons(listing)) == listing


def test_domains_of_helo_and_sender_are_asked_of_their_own_lists():
    site = Site(
        DnsList("dbl.example", 2.0, of="sender"),
        DnsList("hbl.example", 3.0, of="helo"),
        zone={
            "spam.example.net.dbl.example": {"A": ["127.0.1.2"]},
            "spam.example.net.hbl.example": {"A": ["127.0.1.2"]},
        },
    )
    assert site.client() == NOTHING
    assert site.world.run(site.lists.sender("Spam.example.net")).score == 2.0
    helo = site.world.run(site.lists.helo("spam.example.net"))
    assert helo.score == 3.0
    assert helo.joined(site.world.run(site.lists.sender("spam.example.net"))).score == 5.0


@pytest.mark.parametrize(
    "domain",
    [
        "",
        "localhost",
        "[192.0.2.1]",
        "192.0.2.1",
        "a b.example",
        "a..example",
        "x" * 64 + ".example",
        "exa\nmple.org",
        ".".join(["abcdefgh"] * 40),
    ],
)
def test_what_is_no_domain_is_not_asked(domain):
    site = Site(DnsList("dbl.example", of="sender"))
    assert site.world.run(site.lists.sender(domain)) == NOTHING
    assert site.resolver.questions == []


def test_a_list_of_domains_that_has_all_of_them_counts_nothing():
    site = Site(DnsList("dbl.example", of="sender"), zone={"*.dbl.example": {"A": ["127.0.0.2"]}})
    assert site.world.run(site.lists.sender("example.org")).score == 0.0
