"""Token buckets: who may how often, against a naive model; bounded whatever comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_mail.policy.rates import (
    Buckets,
    Limit,
    Limits,
    Rates,
    RateSettings,
    Slowed,
    wider_network,
)

IP = "203.0.113.7"


class NaiveBucket:
    """Tokens, and when they were counted."""

    def __init__(self, count, seconds, burst):
        self.rate, self.burst, self.tokens, self.at = count / seconds, burst, burst, 0.0

    def take(self, now, amount):
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens + 1e-5 < min(amount, self.burst):
            return False
        self.tokens = max(self.tokens - amount, -self.burst)
        return True


@given(
    st.integers(1, 5),
    st.integers(1, 8),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6), st.integers(1, 10)), max_size=60),
)
def test_buckets_are_what_a_naive_bucket_is(count, burst, events):
    clock = Clock()
    buckets = Buckets(Limit(count, 4.0, burst), clock.seconds)
    naive = {key: NaiveBucket(count, 4.0, burst) for key in "ab"}
    for key, seconds, amount in events:
        clock.advance(seconds)
        wait = buckets.take(key, amount)
        assert (wait == 0.0) == naive[key].take(clock.seconds(), amount)
        if wait:
            clock.advance(wait)
            assert buckets.wait(key, amount) == 0.0
            naive[key].take(clock.seconds(), 0)


def test_as_many_as_a_burst_at_once_then_one_by_one():
    clock = Clock()
    buckets = Buckets(Limit(60, 60, 3), clock.seconds)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 1.0]
    assert buckets.left("a") == 0.0
    clock.advance(1)
    assert buckets.take("a") == 0
    assert buckets.take("a") == 1.0
    assert buckets.take("b") == 0


def test_a_clock_that_is_set_back_makes_nobody_wait():
    clock = Clock()
    clock.advance(100_000)
    buckets = Buckets(Limit(10, 10, 2), clock.seconds)
    buckets.force("a", 2)
    buckets.force("b", 1)
    clock.advance(-90_000)
    assert buckets.wait("a") == buckets.take("b") == 0.0
    buckets.force("b", 1)
    assert buckets.wait("b", 1) > 0.0
    clock.advance(10)
    assert buckets.left("b") == 2.0


def test_debts_end_at_a_burst():
    clock = Clock()
    buckets = Buckets(Limit(1, 10, 3), clock.seconds)
    for _ in range(1000):
        buckets.force("a")
    assert buckets.wait("a") == 40.0


@pytest.mark.parametrize("limit", [Limit(0, 1), Limit(1, 0), Limit(5, 1, 0.5), Limit(-1, 1)])
def test_a_limit_that_allows_nothing_is_none(limit):
    with pytest.raises(ValueError, match="at least"):
        Buckets(limit, float)


def test_a_flood_of_keys_finds_a_bounded_number_of_buckets():
    clock = Clock()
    buckets = Buckets(Limit(1, 1000), clock.seconds, size=100)
    for number in range(10_000):
        buckets.take(f"key {number}")
        assert len(buckets) <= 100
    # The one used longest ago went first
    assert buckets.take("key 9999") > 0
    assert buckets.take("key 0") == 0


def test_full_buckets_go_by_themselves():
    clock = Clock()
    buckets = Buckets(Limit(1, 1), clock.seconds)
    for number in range(10_000):
        buckets.take(f"key {number}")
        clock.advance(0.5)
    assert len(buckets) < 10


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        (IP, "203.0.113.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("::1", "::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", ""),
        ("/run/mail.sock", "/run/mail.sock"),
    ],
)
def test_wider_network(ip, network):
    assert wider_network(ip) == network


def test_greylisting_has_a_network_of_its_own():
    assert wider_network("2001:db8:1:2:3:4:5:6", 24, 64) == "2001:db8:1:2::/64"
    assert wider_network("203.0.113.7", 32) == "203.0.113.7/32"


def rates(clock=None, size=1000, **limits):
    nothing = {scope: Limits() for scope in ("address", "network", "domain", "account")}
    return Rates(RateSettings(**(nothing | limits), size=size), (clock or Clock()).seconds)


def test_addresses_networks_domains_and_accounts_have_limits_of_their_own():
    one = Limit(1, 60)
    site = rates(address=Limits(messages=one))
    assert site.mail(IP) is None
    assert site.mail(IP) == Slowed("address", IP, "messages", 60.0)
    assert site.mail("203.0.113.8") is None
    assert site.mail("2001:db8::1") is None
    assert site.mail("2001:db8::2") is not None

    site = rates(network=Limits(connections=one))
    assert site.connect(IP) is None
    assert site.connect("203.0.113.8").key == "203.0.113.0/24"
    assert site.connect("203.0.114.8") is None

    site = rates(domain=Limits(messages=one))
    assert site.mail(IP, "example.net") is None
    assert site.mail("192.0.2.9", "example.net").scope == "domain"
    assert site.mail("192.0.2.9", "") is None
    assert site.mail("192.0.2.9", "") is None

    site = rates(account=Limits(messages=one))
    assert site.mail(IP, account="alice") is None
    assert site.mail("192.0.2.9", account="alice").scope == "account"
    assert site.mail("192.0.2.9", account="bob") is None
    assert site.mail("192.0.2.9") is None


def test_nothing_is_taken_from_anybody_when_one_is_too_fast():
    site = rates(address=Limits(messages=Limit(5, 60)), domain=Limits(messages=Limit(1, 3600)))
    site.mail(IP, "spam.example")
    for _ in range(50):
        assert site.mail(IP, "spam.example").scope == "domain"
    assert [site.mail(IP, f"good{n}.example") for n in range(4)] == [None] * 4
    assert site.mail(IP, "other.example").scope == "address"


def test_mail_for_people_here_is_not_counted_against_an_account():
    site = rates(account=Limits(recipients=Limit(10, 3600)))
    for _ in range(100):
        assert site.rcpt(IP, "example.org", "alice", departing=0) is None
    assert site.rcpt(IP, "example.org", "alice", departing=9) is None
    assert site.rcpt(IP, "example.org", "alice", departing=1) is None
    assert site.rcpt(IP, "example.org", "alice", departing=1).what == "recipients"
    assert site.rcpt(IP, "example.org", "alice", departing=0) is None


def test_who_tries_out_addresses_is_stopped():
    clock = Clock()
    site = rates(clock, address=Limits(bad_recipients=Limit(3, 60)))
    for _ in range(3):
        assert site.may_try(IP) is None
        assert site.bad_rcpt(IP) is None
    assert site.may_try(IP).wait == 20.0
    # Whoever goes on nonetheless waits the longer
    assert site.bad_rcpt(IP) is not None
    assert site.may_try(IP).wait == 40.0
    assert site.may_try("203.0.113.8") is None
    clock.advance(40)
    assert site.may_try(IP) is None


def test_what_the_client_is_told():
    error = Slowed("account", "alice@example.org", "recipients", 3599.2).error
    assert (
        str(error.reply.lines[0])
        == "Too many recipients from your account; try again in 60 minutes"
    )
    assert (error.code, error.enhanced) == (451, "4.7.1")
    assert "alice@example.org" in str(error.cause)
    assert Slowed("address", IP, "connections", 0.2).error.code == 421
    assert "unknown recipients from your network; try again in 5 seconds" in (
        Slowed("network", "x\r\ny", "bad_recipients", 5).error.text
    )


def test_the_log_names_the_key_of_the_configuration():
    assert Slowed("address", IP, "bad_recipients", 5).error.cause == f"address_unknown of {IP}"
    assert Slowed("account", "a@b", "messages", 5).error.cause == "account_messages of a@b"


def test_accounts_are_kept_over_a_restart():
    clock = Clock()
    clock.advance(1_800_000_000)
    limits = Limits(messages=Limit(1, 60), recipients=Limit(10, 60))
    site = rates(clock, account=limits, address=Limits(messages=Limit(100, 60)))
    site.mail(IP, account="alice")
    site.rcpt(IP, account="alice", departing=10)
    site.mail(IP, account="bøb")
    rows = site.take()
    assert len(rows) == 3
    assert site.take() == []
    again = rates(clock, account=limits, address=Limits(messages=Limit(100, 60)))
    again.load(rows)
    assert again.mail(IP, account="alice").scope == "account"
    assert again.mail(IP, account="bøb").scope == "account"
    assert again.rcpt(IP, account="alice", departing=1).wait == pytest.approx(6)
    clock.advance(60)
    assert again.mail(IP, account="alice") is None
    again.forgive("alice")
    assert again.mail(IP, account="alice") is None


@given(st.lists(st.tuples(st.sampled_from(["rate", "x"]), st.binary(), st.floats(), st.binary())))
def test_rows_that_are_damaged_are_passed_over(rows):
    site = rates(account=Limits(messages=Limit(1, 60)))
    site.load(rows)
    site.load([("rate", b"messages alice", 0.0, b"\0\0\0\0\0\0\xf8\x7f")])
    assert site.mail(IP, account="alice") is None


def test_a_flood_from_everywhere_keeps_everything_bounded():
    every = Limits(*[Limit(1, 3600)] * 4)
    site = rates(size=50, address=every, network=every, domain=every, account=every)
    for number in range(3000):
        ip = f"2001:db8:{number:x}::1"
        site.connect(ip)
        site.mail(ip, f"{number}.example", f"a{number}")
        site.rcpt(ip, f"{number}.example", f"a{number}", 1)
        site.bad_rcpt(ip, f"{number}.example", f"a{number}")
    assert len(site) <= 50 * 15


def test_who_sends_much_that_arrives_may_name_some_that_are_gone() -> None:
    clock = Clock()
    rates = Rates(RateSettings(), clock.seconds)
    for _ in range(200):
        clock.advance(0.1)
        assert rates.may_try(IP) is None
        assert rates.bad_rcpt(IP) is None
        rates.taken(IP, "example.net", 9)
    # One message forgives as many as it had recipients, not all
    for _ in range(50):
        rates.bad_rcpt("203.0.113.99")
    rates.taken("203.0.113.99", "example.net", 2)
    assert [rates.bad_rcpt("203.0.113.99") is None for _ in range(3)] == [True, True, False]
    # Who is told so, begins again
    slowed = rates.may_try("203.0.113.99")
    assert slowed is not None and slowed.error.code == 421
