"""Greylisting: who is put off, who is known; against a naive model on a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_mail.address import Address
from twisted_mail.policy.greylist import PER_NETWORK, Greylist, GreylistSettings, sender_key
from twisted_mail.policy.rates import wider_network

IP = "203.0.113.7"
BOB = Address.parse("bob@example.net")
ALICE = Address.parse("alice@example.org")
DELAY, WINDOW, LIFETIME = 300, 7200, 320_000
SETTINGS = GreylistSettings(delay=DELAY, window=WINDOW, lifetime=LIFETIME, learn=3)


class Site:
    def __init__(self, clock=None, **settings):
        self.clock = clock or Clock()
        if clock is None:
            self.clock.advance(1_800_000_000)
        self.grey = Greylist(SETTINGS._replace(**settings), self.clock.seconds)

    def wait(self, ip=IP, sender=BOB, recipient=ALICE, **more):
        return self.grey.check(ip, sender, recipient, **more).wait

    def passes(self, ip=IP, sender=BOB, recipient=ALICE, **more):
        """Come, and come again in time."""
        if self.wait(ip, sender, recipient, **more):
            self.clock.advance(DELAY)
            assert self.wait(ip, sender, recipient, **more) == 0


def to(number):
    return Address(f"r{number}", "example.org")


def test_the_first_time_is_put_off_and_the_next_passes():
    site = Site()
    grey = site.grey.check(IP, BOB, ALICE)
    assert grey.wait == DELAY
    assert (grey.error.code, grey.error.enhanced) == (451, "4.7.1")
    assert "try again in 5 minutes" in grey.error.text
    site.clock.advance(100)
    assert site.wait() == 200
    site.clock.advance(200)
    assert site.wait() == 0
    assert site.wait() == 0
    # From the same network
    assert site.wait("203.0.113.99") == 0
    assert site.wait("203.0.114.7") == DELAY
    assert site.wait(sender=Address.parse("eve@example.net")) == DELAY
    assert site.wait(recipient=to(2)) == DELAY


@pytest.mark.parametrize(
    ("delay", "told"),
    [(1, "1 second"), (90, "90 seconds"), (300, "5 minutes"), (1800, "30 minutes")],
)
def test_who_is_put_off_is_told_the_whole_time(delay, told):
    error = Site(delay=delay).grey.check(IP, BOB, ALICE).error
    assert error.text.endswith(f"; try again in {told}")


def test_an_ipv6_network_is_a_64():
    site = Site()
    site.passes("2001:db8:1:2::7")
    assert site.wait("2001:db8:1:2:ffff::8") == 0
    assert site.wait("2001:db8:1:3::7") == DELAY


def test_who_comes_again_too_late_is_new():
    site = Site()
    site.wait()
    site.clock.advance(WINDOW + 1)
    assert site.wait() == DELAY
    site.clock.advance(WINDOW)
    assert site.wait() == 0


def test_a_triplet_lives_as_long_as_it_is_used():
    site = Site()
    site.passes()
    for _ in range(5):
        site.clock.advance(LIFETIME - 1)
        assert site.wait() == 0
    site.clock.advance(LIFETIME)
    assert site.wait() == DELAY


def test_a_clock_that_is_set_back_puts_nobody_off_for_ever():
    site = Site()
    site.wait()
    site.clock.advance(-100_000)
    assert site.wait() == DELAY
    site.clock.advance(DELAY)
    assert site.wait() == 0


def test_a_network_that_has_passed_often_enough_is_known():
    site = Site()
    for number in range(3):
        assert site.wait(recipient=to(number)) == DELAY
        site.passes(recipient=to(number))
    assert site.wait(recipient=to(99), sender=Address.parse("x@other.example")) == 0
    site.clock.advance(LIFETIME)
    assert site.wait(recipient=to(100)) == DELAY


def test_the_same_triplet_again_and_again_teaches_nothing():
    site = Site()
    for _ in range(20):
        site.passes()
    assert site.wait(recipient=to(9)) == DELAY


def test_a_domain_that_spf_vouches_for_becomes_known_wherever_it_sends_from():
    site = Site()
    for number in range(3):
        site.passes(f"198.51.{number}.1", recipient=to(number), spf_domain="example.net")
    assert site.wait("192.0.2.200", recipient=to(50), spf_domain="example.net") == 0
    assert site.wait("192.0.2.200", recipient=to(50)) == DELAY
    assert site.wait("192.0.2.200", recipient=to(50), spf_domain="example.com") == DELAY


def test_a_networks_name_is_no_domains():
    site = Site()
    for number in range(3):
        site.passes(recipient=to(number))
    assert site.wait("192.0.2.200", spf_domain="203.0.113.0/24") == DELAY


def test_what_is_known_stays_known_as_long_as_it_sends():
    site = Site()
    for number in range(3):
        site.passes(recipient=to(number))
    for number in range(10, 15):
        site.clock.advance(LIFETIME - 1)
        assert site.wait(recipient=to(number)) == 0
    assert [row[0] for row in site.grey.take()].count("grey-known") == 1


def test_nothing_is_learned_when_nothing_is_to_be_learned():
    site = Site(learn=0)
    for number in range(20):
        site.passes(recipient=to(number))
    assert site.wait(recipient=to(99)) == DELAY


def test_allowed_clients_and_bounces_are_not_put_off():
    site = Site()
    assert site.wait(allowed=True) == 0
    assert site.wait(sender=None) == 0
    assert len(site.grey) == 0
    site = Site(bounces=True)
    assert site.wait(sender=None) == DELAY


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bounce-4711-7f3a@lists.example", "bounce-4712-0c@lists.example"),
        ("list+alice=example.org@lists.example", "list+bob=example.org@lists.example"),
        ("prvs=3047fa1b2c=bob@example.net", "prvs=9958aa0b2d=bob@example.net"),
        ("prvs=bob/3047fa1b2c@example.net", "bob@example.net"),
        ("btv1==aa11bb22==bob@example.net", "btv1==00==bob@example.net"),
        (
            "SRS0=ABCDEF=XY=example.com=bob@fwd.example",
            "SRS0=QWERTY=ZZ=example.com=bob@fwd.example",
        ),
        (
            "SRS1=ABCDEF=first.example==AAA=XY=example.com=bob@fwd.example",
            "SRS1=QWERTY=first.example==BBB=ZZ=example.com=bob@fwd.example",
        ),
        (
            "0100018f2a3b4c5d-0a1b2c3d-dead-4e5f-8a9b-c0ffee123456-000000@ses.example",
            "010001902b3c4d5e-ffffffff-0000-abcd-beef-fedcba654321-000000@ses.example",
        ),
        ("Bob@Example.Net", "bob@example.net"),
    ],
)
def test_what_changes_from_message_to_message_is_left_out(one, other):
    assert sender_key(Address.parse(one)) == sender_key(Address.parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bob@example.net", "alice@example.net"),
        ("bob@example.net", "bob@example.com"),
        ("prvs=3047fa1b2c=bob@example.net", "prvs=3047fa1b2c=eve@example.net"),
        ("SRS0=ABCDEF=XY=a.example=bob@fwd.example", "SRS0=ABCDEF=XY=b.example=bob@fwd.example"),
        ("list-owner@lists.example", "list-bounces@lists.example"),
    ],
)
def test_what_is_different_stays_different(one, other):
    assert sender_key(Address.parse(one)) != sender_key(Address.parse(other))


def test_a_tag_is_the_sender_itself():
    assert sender_key(Address.parse("prvs=3047fa1b2c=bob@example.net")) == "bob@example.net"
    assert sender_key(Address.parse("bounce-4711-7f3a@lists.example")) == "bounce-#@lists.example"


@given(st.text(max_size=64))
def test_any_sender_has_a_key(local):
    try:
        address = Address(local, "example.net")
    except ValueError:
        return
    assert sender_key(address).endswith("@example.net")
    Site().wait(sender=address)


class Model:
    """The same, written down without any care for time and memory."""

    def __init__(self):
        self.waiting, self.passed, self.known = {}, {}, {}

    def wait(self, now, ip, sender, recipient, spf_domain):
        network = wider_network(ip, 24, 64)
        names = [network] + (["@" + spf_domain] if spf_domain else [])
        for name in names:
            count, last = self.known.get(name, (0, now))
            if now - last >= LIFETIME:
                del self.known[name]
            elif count >= SETTINGS.learn:
                if now - last > LIFETIME / 32:
                    self.known[name] = count, now
                return 0
        key = network, sender.key, recipient.key
        if key in self.passed:
            if now - self.passed[key] < LIFETIME:
                if now - self.passed[key] > LIFETIME / 32:
                    self.passed[key] = now
                return 0
            del self.passed[key]
        if key in self.waiting:
            elapsed = now - self.waiting[key]
            if elapsed < DELAY:
                return DELAY - elapsed
            del self.waiting[key]
            if elapsed <= WINDOW:
                self.passed[key] = now
                for name in names:
                    self.known[name] = self.known.get(name, (0, 0))[0] + 1, now
                return 0
        self.waiting[key] = now
        return DELAY


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 100, DELAY, DELAY + 1, 5000, WINDOW + 1, 20_000, LIFETIME]),
            st.sampled_from(["203.0.113.7", "203.0.113.8", "198.51.100.1", "2001:db8::1"]),
            st.sampled_from([BOB, Address.parse("eve@example.com")]),
            st.sampled_from([to(1), to(2), to(3), to(4)]),
            st.sampled_from(["", "example.net"]),
            st.booleans(),
        ),
        max_size=80,
    )
)
def test_it_does_what_the_model_does_also_over_restarts(events):
    site, model = Site(), Model()
    kept = {}
    for seconds, ip, sender, recipient, spf_domain, restart in events:
        site.clock.advance(seconds)
        if restart:
            for row in site.grey.take(10_000):
                kept[row[:2]] = row
            site = Site(site.clock)
            now = site.clock.seconds()
            rows = [row for row in kept.values() if row[2] > now]
            site.grey.load(sorted(rows, key=lambda row: row[2]))
        wait = site.wait(ip, sender, recipient, spf_domain=spf_domain)
        assert wait == model.wait(site.clock.seconds(), ip, sender, recipient, spf_domain)


def test_a_flood_of_keys_keeps_memory_bounded():
    site = Site(size=200)
    for number in range(20_000):
        site.wait(f"2001:db8:{number:x}::1", recipient=to(number))
        if number % 7 == 0:
            site.clock.advance(1)
    assert len(site.grey._waiting) <= 200
    assert len(site.grey._crowd) <= 200
    assert len(site.grey._changed) <= 600
    for number in range(2000):
        site.passes(f"2001:db8:{number:x}::1", recipient=to(number), spf_domain=f"{number}.example")
    assert len(site.grey) <= 600
    assert len(site.grey._changed) <= 600
    assert len(site.grey.take(100_000)) <= 600


def test_a_flood_from_one_network_puts_off_itself_only():
    site = Site(size=2000)
    site.wait("192.0.2.1")
    for number in range(20_000):
        site.wait(recipient=to(number))
    assert len(site.grey) == PER_NETWORK + 2
    site.clock.advance(DELAY)
    assert site.wait("192.0.2.1") == 0


def test_what_is_over_is_forgotten():
    site = Site()
    for number in range(100):
        site.wait(f"2001:db8:{number:x}::1")
    site.clock.advance(WINDOW + 1)
    for number in range(60):
        site.wait(f"2001:db9:{number:x}::1")
    assert len(site.grey) == 60
    assert len(site.grey._crowd) == 60


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["grey-wait", "grey-pass", "grey-known", "x"]),
            st.binary(),
            st.floats(),
            st.binary(),
        )
    )
)
def test_rows_that_are_damaged_are_passed_over(rows):
    site = Site()
    site.grey.load(rows)
    future = site.clock.seconds() * 2
    site.grey.load([("grey-pass", b"k" * 16, future, b"\xff" * 16)])
    assert site.wait("192.0.2.77") == DELAY


def test_the_salt_makes_keys_that_nobody_guesses():
    clock = Clock()
    one, other = (
        Greylist(SETTINGS, clock.seconds, b"one"),
        Greylist(SETTINGS, clock.seconds, b"two"),
    )
    for grey in (one, other):
        grey.check(IP, BOB, ALICE)
    assert one.take()[0][1] != other.take()[0][1]
