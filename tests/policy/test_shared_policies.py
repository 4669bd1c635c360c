"""What one process of a site learns of clients and accounts, the others go by."""

from __future__ import annotations

from typing import Any

from twisted_mail.address import Address
from twisted_mail.policy.greylist import Greylist, GreylistSettings
from twisted_mail.policy.rates import Limit, Limits, Rates, RateSettings
from twisted_mail.policy.senders import Alarm, Senders, SenderSettings
from twisted_mail.testing import SimulatedWorld, simulated_world
from twisted_mail.testing.siblings import SharedSite

CLIENT = "192.0.2.77"
ADA, BEN = Address.parse("ada@example.net"), Address.parse("ben@example.org")


class Two:
    """Two processes of one site."""

    def __init__(self) -> None:
        self.site = SharedSite()
        first = self.site.join(simulated_world())
        self.worlds: list[SimulatedWorld] = [first, self.site.join(first.at("192.0.2.1"))]

    def advance(self, seconds: float = 0) -> None:
        self.worlds[0].reactor.advance(seconds)

    def joined(self, make: Any) -> Any:
        """What `make` gives for each process, joined."""
        for world in self.worlds:
            one = make(world)
            one.join(world.siblings)
            yield one


def test_what_one_process_takes_is_gone_at_the_other() -> None:
    two = Two()
    hourly = RateSettings(Limits(messages=Limit(3, 3600)), account=Limits(recipients=Limit(9, 60)))
    one, other = two.joined(lambda world: Rates(hourly, world.now))
    assert one.mail(CLIENT) is None
    two.advance()
    assert other.mail(CLIENT) is None
    two.advance()
    assert one.mail(CLIENT) is None
    two.advance()
    for rates in (one, other):
        slowed = rates.mail(CLIENT)
        assert slowed is not None
        assert slowed.wait == 1200
    # An account's recipients count as many as they lead to
    assert one.rcpt(CLIENT, "", "ada", 8) is None
    two.advance()
    assert other.rcpt(CLIENT, "", "ada", 2) is not None
    assert other.rcpt(CLIENT, "", "ada", 1) is None


def test_unknown_recipients_count_everywhere() -> None:
    two = Two()
    settings = RateSettings(Limits(bad_recipients=Limit(2, 3600)))
    one, other = two.joined(lambda world: Rates(settings, world.now))
    one.bad_rcpt(CLIENT)
    one.bad_rcpt(CLIENT)
    assert other.may_try(CLIENT) is None
    two.advance()
    assert other.may_try(CLIENT) is not None


def test_at_once_each_gives_a_burst_and_all_owe_it() -> None:
    two = Two()
    one, other = two.joined(
        lambda world: Rates(RateSettings(Limits(messages=Limit(2, 2))), world.now)
    )
    taken = [rates.mail(CLIENT) for rates in (one, other) for _ in range(2)]
    assert taken == [None] * 4
    two.advance()
    for rates in (one, other):
        slowed = rates.mail(CLIENT)
        assert slowed is not None
        assert slowed.wait == 3


def test_what_another_process_took_is_remembered_by_who_keeps_the_file() -> None:
    two = Two()
    one, other = (
        Rates(RateSettings(), world.now, remembers=keeps)
        for world, keeps in zip(two.worlds, (True, False), strict=True)
    )
    one.join(two.worlds[0].siblings)
    other.join(two.worlds[1].siblings)
    other.mail(CLIENT, "", "ada")
    two.advance()
    assert [key for _, key, _, _ in one.take()] == [b"messages ada"]
    assert other.take() == []


def test_a_limit_that_only_one_of_them_has_yet() -> None:
    two = Two()
    one = Rates(RateSettings(Limits(messages=Limit(2, 2))), two.worlds[0].now)
    other = Rates(RateSettings(), two.worlds[1].now)
    one.join(two.worlds[0].siblings)
    other.join(two.worlds[1].siblings)
    one.mail(CLIENT)
    two.advance()
    assert len(other) == 0


def test_the_second_visit_may_come_to_another_process() -> None:
    two = Two()
    settings = GreylistSettings(delay=300, learn=2)
    one, other = two.joined(lambda world: Greylist(settings, world.now, b"salt"))
    assert one.check(CLIENT, ADA, BEN).wait == 300
    two.advance(100)
    assert other.check(CLIENT, ADA, BEN).wait == 200
    two.advance(200)
    assert other.check(CLIENT, ADA, BEN).wait == 0
    two.advance()
    assert "came again before" in one.check(CLIENT, ADA, BEN).why
    assert len(one) == len(other) == 2
    third = Address.parse("cy@example.org")
    one.check(CLIENT, ADA, third)
    two.advance(300)
    other.check(CLIENT, ADA, third)
    two.advance()
    # Both have learned: the network is known
    assert "mail from that network" in one.check(CLIENT, ADA, Address.parse("di@example.org")).why


def test_greylists_that_forget_forget_together() -> None:
    two = Two()
    settings = GreylistSettings(delay=300, window=1000, lifetime=5000, learn=1)
    one, other = two.joined(lambda world: Greylist(settings, world.now, b"salt"))
    one.check(CLIENT, ADA, BEN)
    two.advance(2000)
    assert one.check(CLIENT, ADA, BEN).wait == 300
    two.advance(150)
    assert other.check(CLIENT, ADA, BEN).wait == 150
    two.advance(150)
    assert one.check(CLIENT, ADA, BEN).wait == 0
    two.advance()
    assert "network" in other.check(CLIENT, ADA, Address.parse("cy@example.org")).why
    two.advance(6000)
    assert one.check(CLIENT, ADA, BEN).wait == 300
    two.advance()
    assert other.check(CLIENT, ADA, BEN).wait == 300
    assert one._crowd == other._crowd


def test_who_keeps_the_file_remembers_what_others_put_off() -> None:
    two = Two()
    settings = GreylistSettings(delay=300)
    keeper = Greylist(settings, two.worlds[0].now, b"salt")
    worker = Greylist(settings, two.worlds[1].now, b"salt", remembers=False)
    keeper.join(two.worlds[0].siblings)
    worker.join(two.worlds[1].siblings)
    worker.check(CLIENT, ADA, BEN)
    two.advance()
    rows = keeper.take()
    assert [row[0] for row in rows] == ["grey-wait"]
    assert worker.take() == []
    # A process that starts now reads them
    late = Greylist(settings, two.worlds[0].now, b"salt", remembers=False)
    late.load(rows)
    two.advance(300)
    assert late.check(CLIENT, ADA, BEN).wait == 0


def test_of_two_first_times_the_earlier_one_counts() -> None:
    two = Two()
    one, other = two.joined(lambda world: Greylist(GreylistSettings(), world.now, b"salt"))
    one.check(CLIENT, ADA, BEN)
    two.worlds[0].reactor.rightNow += 100
    assert other.check(CLIENT, ADA, BEN).wait == 300  # it has not heard of the first time yet
    two.advance()
    assert one.check(CLIENT, ADA, BEN).wait == 200
    assert other.check(CLIENT, ADA, BEN).wait == 200


def test_a_greylist_is_bounded_whatever_it_hears() -> None:
    two = Two()
    settings = GreylistSettings(delay=300, learn=1, size=50)
    one, other = two.joined(lambda world: Greylist(settings, world.now, b"salt"))
    small = Greylist(settings._replace(size=3), two.worlds[1].now, b"salt")
    small.join(two.worlds[1].siblings)
    for turn in range(2):
        for number in range(20):
            one.check(f"198.51.{number}.1", ADA, BEN, spf_domain=f"{number}.example")
            two.advance()
        two.advance(300 * (1 - turn))
    assert len(one._passed) == len(one._known) // 2 == 20
    assert len(one) == len(other)
    assert max(map(len, (small._waiting, small._passed, small._known))) <= 3


class Ear:
    def __init__(self) -> None:
        self.alarms: list[Alarm] = []

    def slowed(self, alarm: Alarm) -> None:
        self.alarms.append(alarm)


def test_refusals_in_several_processes_slow_an_account_in_all_and_one_tells() -> None:
    two = Two()
    ear = Ear()
    settings = SenderSettings(refused=10)
    main = Senders(settings, two.worlds[0].now, ear)
    worker = Senders(settings, two.worlds[1].now)
    main.join(two.worlds[0].siblings)
    worker.join(two.worlds[1].siblings)
    for number in range(10):
        worker.sent("ada", f"{number}@example.com")
        (main if number % 2 else worker).refused("ada")
        two.advance()
    assert [alarm.account for alarm in ear.alarms] == ["ada"]
    assert ear.alarms[0].refused == 10
    for senders in (main, worker):
        assert "refused" in senders.slowed("ada")
    # While it is slowed, it has one allowance in all processes
    for _ in range(10):
        worker.sent("ada", "x@example.com")
        main.sent("ada", "y@example.com")
    two.advance(1)
    for senders in (main, worker):
        assert senders.check("ada") is not None
        senders.forgive("ada")
        assert senders.check("ada") is None


def test_different_recipients_are_counted_together() -> None:
    two = Two()
    ear = Ear()
    one, other = two.joined(lambda world: Senders(SenderSettings(distinct=100), world.now, ear))
    for number in range(120):
        (one if number % 2 else other).sent("ada", f"{number}@example.com")
        two.advance()
    assert "different recipients" in one.slowed("ada")
    assert "different recipients" in other.slowed("ada")
