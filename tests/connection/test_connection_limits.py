"""Connections are counted, in all and by client."""

from __future__ import annotations

import resource

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_mail.connection.limits import GRACE, ConnectionLimits
from twisted_mail.descriptors import MOST, for_connections, raise_limit
from twisted_mail.policy.rates import Limit
from twisted_mail.testing import simulated_world
from twisted_mail.testing.siblings import SharedSite


def test_in_all() -> None:
    limits = ConnectionLimits(2, 9)
    assert [limits.take(f"192.0.2.{n}") for n in range(3)] == [True, True, False]
    limits.give_back("192.0.2.0")
    assert limits.take("192.0.2.7")
    assert not limits.take("192.0.2.8")


def test_by_address() -> None:
    limits = ConnectionLimits(9, 2)
    assert [limits.take("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert limits.take("192.0.2.2")
    limits.give_back("192.0.2.1")
    assert limits.take("::ffff:192.0.2.1")
    assert not limits.take("192.0.2.1")


def test_ipv6_by_its_64() -> None:
    limits = ConnectionLimits(9, 1)
    assert limits.take("2001:db8::1")
    assert not limits.take("2001:db8::ffff:0:0:2")
    assert limits.take("2001:db8:0:1::1")


def test_clients_without_an_address_count_in_all() -> None:
    limits = ConnectionLimits(2, 1)
    assert [limits.take("") for _ in range(3)] == [True, True, False]
    limits.give_back("")
    assert limits.take("192.0.2.1")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["a", "b", ""]))))
def test_never_more_than_allowed_and_nothing_is_forgotten(steps: list[tuple[bool, str]]) -> None:
    limits = ConnectionLimits(4, 2)
    connected: list[str] = []
    for arrives, ip in steps:
        if not arrives and ip in connected:
            limits.give_back(ip)
            connected.remove(ip)
        elif arrives:
            room = len(connected) < 4 and (not ip or connected.count(ip) < 2)
            assert limits.take(ip) is room
            if room:
                connected.append(ip)


def test_with_the_sites_counts_all_processes_count_together() -> None:
    site = SharedSite()
    first = site.join(simulated_world())
    worlds = [first, site.join(first.at("192.0.2.1"))]
    one, two = (ConnectionLimits(4, 2, world.siblings.counts("connections")) for world in worlds)
    assert one.take("192.0.2.1")
    assert two.take("192.0.2.1")
    assert not one.take("192.0.2.1")
    assert one.take("192.0.2.2")
    assert two.take("")
    assert not one.take("")
    assert not two.take("192.0.2.3")
    two.give_back("192.0.2.1")
    assert one.take("192.0.2.1")
    site.leave(worlds[1])
    assert one.take("192.0.2.3")


# How fast they come


def test_a_client_may_come_so_often() -> None:
    clock = Clock()
    limits = ConnectionLimits(
        10_000,
        10_000,
        fresh=Limit(60, 60, 20),
        exempts=lambda ip: ip == "127.0.0.1",
        now=clock.seconds,
    )
    assert sum(limits.take("192.0.2.1") for _ in range(1000)) == 20
    assert not limits.take("::ffff:192.0.2.1")
    assert limits.take("192.0.2.2") and limits.take("")
    assert all(limits.take("127.0.0.1") for _ in range(1000))
    clock.advance(3)
    assert sum(limits.take("192.0.2.1") for _ in range(1000)) == 3
    # What was refused was not counted
    assert limits.count == 20 + 2 + 1000 + 3


# When there is little room


class Client:
    def __init__(self, limits: ConnectionLimits, ip: str, stranger: bool = True) -> None:
        self.limits, self.ip = limits, ip
        self.why: str | None = None
        self.let_in = limits.take(ip)
        if self.let_in and stranger:
            limits.add_stranger(self)

    def send_away(self, reason: str) -> None:
        """As a connection does: its place is free a moment later."""
        assert self.why is None
        self.why = reason


def settle(limits: ConnectionLimits, clients: list[Client]) -> None:
    for client in tuple(clients):
        if client.why is not None:
            clients.remove(client)
            limits.remove_stranger(client)
            limits.give_back(client.ip)


def test_strangers_make_room_the_oldest_first() -> None:
    clock = Clock()
    limits = ConnectionLimits(160, 1000, now=clock.seconds)
    strangers = [Client(limits, "203.0.113.1") for _ in range(140)]
    first, second = strangers[:2]
    limits.remove_stranger(first)  # it has logged in
    assert all(one.why is None for one in strangers)
    fresh = Client(limits, "192.0.2.1")
    assert fresh.let_in and second.why is None
    clock.advance(GRACE)
    another = Client(limits, "192.0.2.1")
    assert another.let_in and (first.why, second.why) == (None, "made room for others")


def test_who_holds_all_places_keeps_nobody_out_who_has_been_here_before() -> None:
    clock = Clock()
    limits = ConnectionLimits(
        160, 1000, familiar=lambda ip: ip.startswith("192.0.2."), now=clock.seconds
    )
    flood: list[Client] = []
    for n in range(1000):
        client = Client(limits, f"203.0.113.{n % 250}")
        if client.let_in:
            flood.append(client)
        settle(limits, flood)
    assert len(flood) == 150
    # Each of them takes a place, and has one of the strangers go at once
    users = [Client(limits, f"192.0.2.{n}", stranger=False) for n in range(10)]
    assert all(user.let_in for user in users)
    settle(limits, flood)
    assert len(flood) == 140
    more = [Client(limits, f"192.0.2.{n}", stranger=False) for n in range(10)]
    assert all(user.let_in for user in more)


def test_others_come_in_while_strangers_hold_all_places() -> None:
    """Who only holds connections open loses them to those who come."""
    clock = Clock()
    limits = ConnectionLimits(160, 1000, now=clock.seconds)
    flood = [Client(limits, "203.0.113.1") for _ in range(160)]
    flood = [one for one in flood if one.let_in]
    clock.advance(GRACE)
    tries = 0
    for _ in range(20):
        client = Client(limits, "192.0.2.9")
        tries += 1
        if client.let_in:
            break
        settle(limits, flood)
    assert tries == 2


def test_one_process_takes_what_it_has_files_for() -> None:
    limits = ConnectionLimits(1000, 1000, own=8)
    assert sum(limits.take(f"192.0.2.{n}") for n in range(20)) == 8
    limits.give_back("192.0.2.1")
    assert limits.take("192.0.2.1")


def test_files_for_connections() -> None:
    assert for_connections(1024) == 672
    assert for_connections(0) == 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert raise_limit() == raise_limit() >= min(soft, MOST)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == hard
