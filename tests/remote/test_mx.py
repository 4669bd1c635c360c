"""RFC 5321 section 5.1 as a table: what the DNS says, and which hosts are tried."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from remote_fakes import failure_of, result_of, start
from twisted.internet.defer import CancelledError

from twisted_mail.queue.interfaces import DestinationError
from twisted_mail.remote.mx import Host, addresses_of, find
from twisted_mail.remote.settings import DeliverySettings
from twisted_mail.testing.dns import FakeResolver, Zone

SETTINGS = DeliverySettings("mail.ours.example", own_addresses=frozenset({"203.0.113.9"}))


def hosts_of(
    zone: Any,
    domain: str = "example.org",
    settings: DeliverySettings = SETTINGS,
    entropy: Callable[[int], bytes] | None = None,
) -> list[list[Host]]:
    resolver = zone if isinstance(zone, FakeResolver) else FakeResolver(zone)

    async def all() -> list[list[Host]]:
        hosts = await find(resolver, domain, settings, entropy or Random(1).randbytes)
        groups = []
        while group := await hosts.following():
            groups.append(list(group))
        return groups

    return result_of(all())


def names_of(zone: Any, **named: Any) -> list[list[str]]:
    return [[host.name for host in group] for group in hosts_of(zone, **named)]


def error_of(zone: Any, **named: Any) -> DestinationError:
    with pytest.raises(DestinationError) as caught:
        hosts_of(zone, **named)
    return caught.value


A = {"A": ["192.0.2.1"]}


def zone_of(*records: tuple[int, str], **named: Any) -> Zone:
    hosts = {host: A for _, host in records if host}
    return Zone({**hosts, "example.org": {"MX": list(records)}}, **named)


def test_lower_preferences_first() -> None:
    zone = zone_of((20, "b.example"), (10, "a.example"), (30, "c.example"))
    assert names_of(zone) == [["a.example"], ["b.example"], ["c.example"]]


def test_equal_preferences_are_shuffled() -> None:
    zone = zone_of(*((10, f"mx{n}.example") for n in range(4)))
    seen = {tuple(names_of(zone, entropy=Random(seed).randbytes)[0]) for seed in range(40)}
    assert len(seen) > 10
    assert all(sorted(one) == [f"mx{n}.example" for n in range(4)] for one in seen)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcdef")), min_size=1, max_size=8),
    st.integers(0, 5),
)
def test_every_host_once_at_its_lowest_preference(
    records: list[tuple[int, str]], seed: int
) -> None:
    zone = zone_of(*((preference, f"{host}.example") for preference, host in records))
    least = {host: min(p for p, other in records if other == host) for _, host in records}
    groups = names_of(zone, entropy=Random(seed).randbytes)
    assert [{name[0] for name in group} for group in groups] == [
        {host for host in least if least[host] == preference}
        for preference in sorted(set(least.values()))
    ]


def test_no_mx_is_the_domain_itself() -> None:
    assert hosts_of({"example.org": A}) == [
        [Host("example.org", ("192.0.2.1",), "example.org", False)]
    ]


def test_no_mx_and_our_own_name() -> None:
    error = error_of({"mail.ours.example": A}, domain="mail.ours.example")
    assert (error.permanent, error.enhanced) == (True, "5.4.6")


def test_an_mx_without_usable_hosts_does_not_fall_back_to_the_domain() -> None:
    zone = Zone({"example.org": {"MX": [(10, "gone.example")], **A}})
    error = error_of(zone)
    assert (error.permanent, error.enhanced) == (True, "5.4.4")


def test_ipv6_comes_before_ipv4() -> None:
    zone = {"example.org": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]}}
    assert hosts_of(zone)[0][0].addresses == ("2001:db8::1", "192.0.2.1")


@pytest.mark.parametrize(
    ("families", "addresses", "asked"),
    [("ipv4", ("192.0.2.1",), {"A"}), ("ipv6", ("2001:db8::1",), {"AAAA"})],
)
def test_one_family_only(families: Any, addresses: tuple[str, ...], asked: set[str]) -> None:
    resolver = FakeResolver({"example.org": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]}})
    found = hosts_of(resolver, settings=replace(SETTINGS, families=families))
    assert found[0][0].addresses == addresses
    assert {kind for kind, _ in resolver.questions} - {"MX"} == asked


REFUSALS: dict[str, tuple[Zone, bool, str, int]] = {
    "no such domain": (Zone({}), True, "5.1.2", 0),
    "null MX": (zone_of((0, "")), True, "5.1.10", 556),
    "no address at all": (Zone({"example.org": {"TXT": ["x"]}}), True, "5.4.4", 0),
    "DNS is down": (zone_of((10, "a.example"), failing=["example.org"]), False, "4.4.3", 0),
    "addresses of the domain are not told": (
        Zone({"example.org": A}, failing=["A example.org"]),
        False,
        "4.4.3",
        0,
    ),
    "hosts without names": (
        zone_of((10, "192.0.2.1"), (20, "localhost"), (30, "-x-.example")),
        True,
        "5.4.4",
        0,
    ),
    "hosts without addresses": (
        Zone({"example.org": {"MX": [(1, "a.example"), (2, "b.example")]}}),
        True,
        "5.4.4",
        0,
    ),
    "one is not told": (
        Zone(
            {"example.org": {"MX": [(1, "a.example"), (2, "b.example")]}},
            failing=["a.example"],
        ),
        False,
        "4.4.3",
        0,
    ),
    "our own name alone": (zone_of((10, "mail.ours.example")), True, "5.4.6", 0),
    "our own name first": (
        zone_of((10, "mail.ours.example"), (20, "b.example")),
        True,
        "5.4.6",
        0,
    ),
    "our own address": (
        Zone({"example.org": {"MX": [(5, "x.example")]}, "x.example": {"A": ["203.0.113.9"]}}),
        True,
        "5.4.6",
        0,
    ),
    "this machine": (
        Zone({"example.org": {"MX": [(5, "x.example")]}, "x.example": {"A": ["127.0.0.1"]}}),
        True,
        "5.4.6",
        0,
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_destinations_without_hosts(case: str) -> None:
    zone, permanent, enhanced, code = REFUSALS[case]
    error = error_of(zone)
    assert (error.permanent, error.enhanced, error.code) == (permanent, enhanced, code)
    assert error.text and not error.said


def test_our_name_cuts_what_is_not_before_us() -> None:
    zone = zone_of(
        (5, "a.example"), (10, "mail.ours.example"), (10, "b.example"), (20, "c.example")
    )
    assert names_of(zone) == [["a.example"]]


def test_our_address_cuts_what_is_not_before_us() -> None:
    zone = zone_of((5, "a.example"), (10, "alias.example"), (10, "b.example"), (20, "c.example"))
    zone["alias.example"] = {"A": ["203.0.113.9"]}
    assert names_of(zone) == [["a.example"]]


def test_hosts_without_addresses_are_passed_over() -> None:
    zone = zone_of((5, "a.example"), (10, "b.example"), (20, "c.example"))
    zone["a.example"] = {"TXT": ["x"]}
    zone.failing.add("b.example")
    assert names_of(zone) == [["c.example"]]


def test_what_is_before_us_and_not_told_is_waited_for() -> None:
    zone = zone_of((5, "a.example"), (10, "alias.example"), failing=["a.example"])
    zone["alias.example"] = {"A": ["203.0.113.9"]}
    error = error_of(zone)
    assert (error.permanent, error.enhanced) == (False, "4.4.3")


def test_a_null_mx_beside_others_is_ignored() -> None:
    assert names_of(zone_of((0, ""), (10, "a.example"))) == [["a.example"]]


def test_aliases_are_followed() -> None:
    zone = Zone(
        {
            "example.org": {"CNAME": ["real.example"]},
            "real.example": {"MX": [(10, "mx.example")]},
            "mx.example": {"CNAME": ["host.example"]},
            "host.example": A,
        }
    )
    assert hosts_of(zone) == [[Host("mx.example", ("192.0.2.1",), "host.example", False)]]


def test_what_is_behind_is_not_looked_up_before_it_is_wanted() -> None:
    resolver = FakeResolver(zone_of((5, "a.example"), (10, "b.example")))
    hosts = result_of(find(resolver, "example.org", SETTINGS, Random(1).randbytes))
    result_of(hosts.following())
    assert "b.example" not in {name for _, name in resolver.questions}


def test_hosts_and_addresses_are_bounded() -> None:
    zone = Zone({"example.org": {"MX": [(n, f"mx{n}.example") for n in range(60)]}})
    for n in range(60):
        zone[f"mx{n}.example"] = {"A": [f"192.0.{n}.{i}" for i in range(1, 4)]}
    groups = hosts_of(zone)
    assert len(groups) == 6 and sum(len(group[0].addresses) for group in groups) == 16
    zone = zone_of(*((n, f"mx{n}.example") for n in range(60)))
    assert len(hosts_of(zone)) == 8


def test_loopback_when_the_configuration_trusts_the_resolver() -> None:
    zone = {"example.org": {"A": ["127.0.0.2"]}}
    settings = replace(SETTINGS, loopback=True)
    assert hosts_of(zone, settings=settings)[0][0].addresses == ("127.0.0.2",)


def test_bad_addresses_beside_good_ones_are_left_out() -> None:
    zone = {"example.org": {"A": ["127.0.0.1", "0.0.0.0", "224.0.0.1", "192.0.2.7"]}}
    assert hosts_of(zone)[0][0].addresses == ("192.0.2.7",)


@pytest.mark.parametrize(
    ("literal", "address"),
    [("[192.0.2.1]", "192.0.2.1"), ("[IPv6:2001:db8::1]", "2001:db8::1")],
)
def test_address_literals(literal: str, address: str) -> None:
    resolver = FakeResolver()
    assert hosts_of(resolver, domain=literal) == [[Host(literal, (address,), literal, False)]]
    assert resolver.questions == []


@pytest.mark.parametrize("literal", ["[127.0.0.1]", "[203.0.113.9]", "[IPv6:::1]", "[0.0.0.0]"])
def test_literals_of_ours_are_a_loop(literal: str) -> None:
    error = error_of({}, domain=literal)
    assert (error.permanent, error.enhanced) == (True, "5.4.6")


def test_a_literal_of_the_other_family() -> None:
    settings = replace(SETTINGS, families="ipv4")
    error = error_of({}, domain="[IPv6:2001:db8::1]", settings=settings)
    assert error.permanent


def test_security_is_told() -> None:
    zone = zone_of((10, "mx.example.org"), (20, "other.example"), secure=["example.org"])

    async def look() -> tuple[bool, list[Host]]:
        hosts = await find(FakeResolver(zone), "example.org", SETTINGS, Random(1).randbytes)
        return hosts.secure, [*await hosts.following(), *await hosts.following()]

    secure, found = result_of(look())
    assert secure and [host.secure for host in found] == [True, False]


def test_a_failing_family_does_not_make_the_other_insecure() -> None:
    zone = Zone({"example.org": A}, secure=[""], failing=["AAAA example.org"])
    assert hosts_of(zone)[0][0].secure


def test_a_cancelled_look_up_stops() -> None:
    zone = zone_of((10, "a.example"))
    zone.silent.add("a.example")

    async def look() -> object:
        hosts = await find(FakeResolver(zone), "example.org", SETTINGS, Random(1).randbytes)
        return await hosts.following()

    running = start(look())
    running.cancel()
    assert failure_of(running, CancelledError)


@pytest.mark.parametrize(
    ("name", "zone", "addresses"),
    [
        ("relay.example", {"relay.example": {**A, "MX": [(1, "mx.example")]}}, ("192.0.2.1",)),
        ("127.0.0.1", {}, ("127.0.0.1",)),
        ("2001:db8::2", {}, ("2001:db8::2",)),
        ("localhost", {"localhost": {"A": ["127.0.0.1"]}}, ("127.0.0.1",)),
    ],
)
def test_routes_take_the_host_as_it_stands(
    name: str, zone: dict[str, Any], addresses: tuple[str, ...]
) -> None:
    assert result_of(addresses_of(FakeResolver(zone), name, SETTINGS)).addresses == addresses


@pytest.mark.parametrize("failing", [[], ["relay.example"]])
def test_a_route_that_is_not_found_is_temporary(failing: list[str]) -> None:
    resolver = FakeResolver(Zone({}, failing=failing))
    error = failure_of(addresses_of(resolver, "relay.example", SETTINGS), DestinationError)
    assert not error.permanent and error.enhanced[0] == "4"


def test_addresses_are_addresses() -> None:
    for host in hosts_of({"example.org": {"AAAA": ["2001:DB8:0::1"]}})[0]:
        assert host.addresses == (str(ipaddress.ip_address("2001:db8::1")),)
