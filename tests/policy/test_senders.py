"""Accounts that turn into a source of spam, and the message their owners get."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_mail.policy.rates import Limit
from twisted_mail.policy.senders import BITS, Alarm, Senders, SenderSettings, _distinct
from twisted_mail.policy.warning import compose_warning

DAY = 86_400


class Site:
    """A site on a clock; it is its own teller."""

    def __init__(self, clock=None, **settings):
        self.clock = clock or Clock()
        if clock is None:
            self.clock.advance(1_800_000_000 // DAY * DAY)
        self.told = []
        settings = SenderSettings(slow=Limit(2, 600), slowed_seconds=DAY)._replace(**settings)
        self.senders = Senders(settings, self.clock.seconds, self)

    def slowed(self, alarm):
        self.told.append(alarm)

    def send(self, count, account="alice", every=1):
        """To `count` recipients, as fast as it may; how many were taken."""
        taken = 0
        for number in range(count):
            if self.senders.check(account) is None:
                taken += 1
                self.senders.sent(account, f"r{number // every}@example.net")
        return taken


def test_who_sends_as_ever_is_not_slowed():
    site = Site()
    for _ in range(60):
        assert site.send(200) == 200
        site.clock.advance(DAY)
    assert site.told == []


def test_many_refused_recipients_slow_an_account_and_its_owner_is_told_once():
    site = Site(refused=10)
    site.send(12)
    for _ in range(9):
        site.senders.refused("alice")
    assert site.senders.slowed("alice") == ""
    for _ in range(5):
        site.senders.refused("alice")
    assert len(site.told) == 1
    assert site.told[0].account == "alice"
    assert site.told[0].refused == 10
    assert "refused" in site.senders.slowed("alice")
    assert site.send(100) == 2
    error = site.senders.check("alice")
    assert (error.code, error.enhanced) == (451, "4.7.1")
    assert "try again in 5 minutes" in error.text
    assert site.senders.check("bob") is None
    site.clock.advance(300)
    assert site.send(100) == 1


def test_a_newsletter_with_some_dead_addresses_is_not_slowed():
    site = Site(refused=10, refused_share=0.25)
    site.send(200)
    for _ in range(40):
        site.senders.refused("alice")
    assert site.told == []


def test_refusals_fade():
    site = Site(refused=10, window=3600)
    for _ in range(100):
        site.senders.refused("alice")
        site.clock.advance(1800)
    assert site.told == []


def test_too_many_different_recipients():
    site = Site(distinct=500)
    assert site.send(2000, every=10) == 2000
    assert site.told == []
    site.clock.advance(DAY)
    taken = site.send(2000)
    assert 450 < taken < 560
    assert "different recipients" in site.told[0].cause


def test_a_sudden_rise_above_its_own_habit():
    site = Site(rise=10, rise_least=100)
    for _ in range(5):
        site.send(20)
        site.clock.advance(DAY)
    taken = site.send(1000, every=1000)
    assert taken == 201 + 2  # up to the first one that is too much, and what `slow` allows
    (alarm,) = site.told
    assert alarm.habit == pytest.approx(20)
    assert "other days" in alarm.cause


def test_what_is_new_has_no_habit_yet():
    site = Site(rise=10, rise_least=100)
    assert site.send(600, every=600) == 600
    assert site.told == []


def test_a_holiday_is_no_habit():
    site = Site(rise=10, rise_least=100)
    for _ in range(5):
        site.send(50)
        site.clock.advance(DAY)
    site.clock.advance(30 * DAY)
    assert site.send(300, every=300) == 300


def test_a_slow_account_is_free_again_in_time_and_told_anew_when_it_starts_anew():
    site = Site(refused=5)
    for _ in range(5):
        site.senders.refused("alice")
    site.clock.advance(DAY + 1)
    assert site.senders.check("alice") is None
    assert site.send(50) == 50
    for _ in range(20):
        site.senders.refused("alice")
    assert len(site.told) == 2


def test_an_administrator_forgives():
    site = Site(rise=10, rise_least=100, distinct=150)
    for _ in range(5):
        site.send(5)
        site.clock.advance(DAY)
    site.send(200)
    assert site.senders.slowed("alice")
    site.senders.forgive("alice")
    site.senders.forgive("nobody")
    assert site.senders.slowed("alice") == ""
    assert site.send(100) == 100


def test_who_is_forgiven_for_many_recipients_may_go_on():
    site = Site(distinct=100)
    for number in range(200):
        site.senders.sent("alice", f"a{number}@example.net")
    assert site.senders.check("alice")
    site.senders.forgive("alice")
    for number in range(80):
        site.senders.sent("alice", f"b{number}@example.net")
    assert site.senders.check("alice") is None
    # Slow once more, it has all that the slow may have
    for _ in range(80):
        site.senders.refused("alice")
    assert site.senders.slowed("alice")
    assert site.send(10) == 2


def test_a_restart_forgets_nothing():
    site = Site(refused=5, rise=10, rise_least=100)
    for _ in range(5):
        site.send(20)
        site.clock.advance(DAY)
    site.send(60, "bøb")
    for _ in range(5):
        site.senders.refused("carol")
    assert len(site.told) == 1
    rows = site.senders.take()
    assert {row[1].decode() for row in rows} == {"alice", "bøb", "carol"}
    assert site.senders.take() == []
    again = Site(site.clock, refused=5, rise=10, rise_least=100)
    again.senders.load(rows)
    assert again.senders.slowed("carol") == site.senders.slowed("carol") != ""
    again.senders.refused("carol")
    assert again.told == []
    again.send(1000, every=1000)
    assert [alarm.account for alarm in again.told] == ["alice"]
    assert again.senders._accounts["bøb"].distinct == site.senders._accounts["bøb"].distinct


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_rows_that_are_damaged_are_passed_over(key, value):
    site = Site()
    site.senders.load([("sender", key, 0.0, value), ("rate", key, 0.0, value)])
    site.send(1)
    (row,) = site.senders.take()
    damaged = bytearray(row[3])
    damaged[1:9] = b"\xff" * 8
    again = Site()
    again.senders.load([(row[0], row[1], row[2], bytes(damaged))])
    assert len(again.senders) == 0


def test_memory_is_bounded():
    site = Site(size=100)
    for number in range(3000):
        site.senders.sent(f"a{number}", "r@example.net")
        site.senders.refused(f"b{number}")
    assert len(site.senders) <= 100
    assert len(site.senders._changed) <= 100
    assert len(site.senders.take(10_000)) <= 100


@pytest.mark.parametrize("count", [1, 10, 100, 1000, 5000])
def test_different_ones_are_counted_well_enough(count):
    site = Site(distinct=0, rise=0)
    site.send(count * 2, every=2)
    assert _distinct(site.senders._accounts["alice"].distinct) == pytest.approx(count, rel=0.06)


def test_more_different_ones_than_can_be_counted():
    assert _distinct((1 << BITS) - 1) == 20_000


def alarm(**more):
    return Alarm(
        **{
            "account": "alice@example.org",
            "cause": "it wrote to 900 recipients today",
            "since": 1_800_000_000.0,
            "until": 1_800_086_400.0,
            "slow": Limit(20, 3600),
            "sent": 900,
            "distinct": 850,
            "refused": 3,
            "habit": 12.0,
        }
        | more
    )


def composed(one, owner=True, to="alice@example.org"):
    return compose_warning(
        one,
        to=to,
        sender="postmaster@example.org",
        hostname="mx.example.org",
        unique="1800000000.ab",
        now=1_800_000_000.0,
        owner=owner,
    )


def test_the_owner_reads_what_happened_and_what_to_do():
    content = composed(alarm())
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert message["To"] == "alice@example.org"
    assert message["Auto-Submitted"] == "auto-generated"
    text = message.get_content()
    words = " ".join(text.split())
    assert "20 recipients in an hour" in words
    assert "it wrote to 900 recipients today" in words
    assert "Change it now" in words
    assert max(map(len, text.splitlines())) <= 78
    assert content.endswith(b"\n")
    assert b"\r" not in content


def test_the_administrator_reads_something_else():
    text = composed(alarm(), owner=False, to="postmaster@example.org").decode()
    assert "Change it now" not in text
    assert "mailctl user forgive" in text


@given(st.text(), st.text(), st.text())
def test_nothing_in_it_begins_a_line(account, cause, to):
    content = composed(alarm(account=account, cause=cause), to=to)
    header, _, body = content.partition(b"\n\n")
    assert [line.partition(b":")[0] for line in header.split(b"\n")] == [
        b"Date",
        b"From",
        b"To",
        b"Subject",
        b"Message-ID",
        b"Auto-Submitted",
        b"MIME-Version",
        b"Content-Type",
        b"Content-Transfer-Encoding",
    ]
    assert body.isascii() or b"Transfer-Encoding: 8bit" in header
    assert all(len(line) <= 998 for line in content.split(b"\n"))
