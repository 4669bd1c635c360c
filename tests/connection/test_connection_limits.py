"""Connections are counted, in all and by client."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.connection.limits import ConnectionLimits
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
