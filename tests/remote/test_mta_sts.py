"""MTA-STS: what records and policies say, and what is remembered for how long. RFC 8461."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from remote_fakes import result_of, start
from twisted.internet.defer import Deferred

from twisted_mail.remote.mta_sts import (
    MAX_AGE,
    FetchError,
    Finding,
    Mode,
    Stored,
    StsPolicies,
    StsPolicy,
    parse_policy,
    parse_record,
)
from twisted_mail.remote.sts_store import SqliteStsStore
from twisted_mail.testing import simulated_world
from twisted_mail.testing.dns import FakeResolver, Zone

POLICY = "version: STSv1\r\nmode: enforce\r\nmx: *.example.org\r\nmax_age: 604800\r\n"


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ((b"v=STSv1; id=20160831085700Z;",), "20160831085700Z"),
        ((b"v=STSv1; id=1",), "1"),
        ((b"v=STSv1;id=1;",), "1"),
        ((b"v=STSv1 ; id=1 ; ext=value;",), "1"),
        ((b"v=spf1 -all", b"v=STSv1; id=1;"), "1"),
        ((b"v=STSv1; id=1;", b"v=STSv1; id=2;"), None),
        ((b"v=STSv1; id=;",), None),
        ((b"v=STSv1; id=" + b"x" * 33 + b";",), None),
        ((b"v=STSv1; id=a-b;",), None),
        ((b"v=STSv2; id=1;",), None),
        ((b"id=1; v=STSv1;",), None),
        ((), None),
    ],
)
def test_records(records: tuple[bytes, ...], found: str | None) -> None:
    assert parse_record(records) == found


def test_a_policy() -> None:
    text = "version: STSv1\nmode: testing\nmx: mail.example.com\nmx: *.Example.net\nmax_age:60\n"
    policy = parse_policy(text)
    assert policy == StsPolicy(Mode.TESTING, ("mail.example.com", "*.example.net"), 60)
    assert policy.names("mail.example.com") and policy.names("mx.example.net")
    assert not policy.names("example.net") and not policy.names("a.b.example.net")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("\r\n", "\n"), (Mode.ENFORCE, 604800)),
        (("max_age: 604800", "future: x\r\nmax_age: 604800"), (Mode.ENFORCE, 604800)),
        (("max_age: 604800", "max_age: 604800\r\nmax_age: 1"), (Mode.ENFORCE, 604800)),
        (("mode: enforce", "mode: enforce\r\nmode: none"), (Mode.ENFORCE, 604800)),
        (("604800", "9999999999"), (Mode.ENFORCE, MAX_AGE)),
        (("enforce\r\nmx: *.example.org", "none"), (Mode.NONE, 604800)),
    ],
)
def test_policies_that_hold(change: tuple[str, str], expected: tuple[Mode, int]) -> None:
    policy = parse_policy(POLICY.replace(*change))
    assert (policy.mode, policy.max_age) == expected


@pytest.mark.parametrize(
    "change",
    [
        ("STSv1", "STSv2"),
        ("version: STSv1\r\n", ""),
        ("enforce", "enforced"),
        ("mode: enforce\r\n", ""),
        ("mx: *.example.org\r\n", ""),
        ("mx: *.example.org", "mx: "),
        ("mx: *.example.org", "mx: a..b"),
        ("mx: *.example.org", "mx: a*.example.org"),
        ("mx: *.example.org", "mx: *.*.org"),
        ("max_age: 604800", "max_age: -1"),
        ("max_age: 604800", "max_age: soon"),
        ("max_age: 604800", "max_age: 99999999999"),
        ("max_age: 604800\r\n", ""),
        ("max_age: 604800", "max_age 604800"),
        ("mx: *.example.org\r\n", "mx: a.example\r\n" * 501),
    ],
)
def test_policies_that_do_not(change: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="policy"):
        parse_policy(POLICY.replace(*change))


@given(st.text() | st.lists(st.sampled_from(POLICY.split("\r\n"))).map("\n".join))
def test_no_text_makes_it_raise_anything_else(text: str) -> None:
    try:
        parse_policy(text)
    except ValueError:
        pass


@given(st.binary() | st.binary().map(lambda rest: b"v=STSv1; id=" + rest))
def test_no_record_makes_it_raise(record: bytes) -> None:
    parse_record((record,))


# What is remembered


@dataclass
class Outside:
    """A domain that publishes a policy, and a clock."""

    now: float = 1_800_000_000.0
    zone: Zone = field(
        default_factory=lambda: Zone({"_mta-sts.example.org": {"TXT": ["v=STSv1; id=1;"]}})
    )
    body: str = POLICY
    error: Exception | None = None
    fetched: list[str] = field(default_factory=list)
    pause: Deferred[None] | None = None

    async def fetch(self, domain: str) -> str:
        self.fetched.append(domain)
        if self.pause is not None:
            await self.pause
        if self.error is not None:
            raise self.error
        return self.body

    def publish(self, id: str, body: str | None = None) -> None:
        self.zone["_mta-sts.example.org"] = {"TXT": [f"v=STSv1; id={id};"]}
        self.body = body or self.body

    def policies(self, store: Any = None) -> StsPolicies:
        return StsPolicies(FakeResolver(self.zone), self.fetch, lambda: self.now, store)


def ask(policies: StsPolicies, domain: str = "example.org") -> Finding:
    return result_of(policies.of(domain))


def mode_of(policies: StsPolicies) -> Mode | None:
    policy = ask(policies).policy
    return policy.mode if policy else None


def test_fetched_once() -> None:
    outside = Outside()
    policies = outside.policies()
    assert [mode_of(policies) for _ in range(3)] == [Mode.ENFORCE] * 3
    assert outside.fetched == ["example.org"]


def test_without_a_record_nothing_is_fetched() -> None:
    outside = Outside(zone=Zone({}))
    assert ask(outside.policies()) == Finding(None) and not outside.fetched


def test_another_id_is_another_policy() -> None:
    outside = Outside()
    policies = outside.policies()
    mode_of(policies)
    outside.publish("2", POLICY.replace("enforce", "testing"))
    assert mode_of(policies) is Mode.TESTING and len(outside.fetched) == 2


def no_record(outside: Outside) -> None:
    outside.zone["_mta-sts.example.org"] = {"TXT": []}


def no_dns(outside: Outside) -> None:
    outside.zone.failing.add("_mta-sts.example.org")


def no_https(outside: Outside) -> None:
    outside.publish("2")
    outside.error = FetchError("down")


def nonsense(outside: Outside) -> None:
    outside.publish("2", "nonsense")


@pytest.mark.parametrize("attack", [no_record, no_dns, no_https, nonsense])
def test_what_is_valid_stays_whatever_is_disturbed(attack: Callable[[Outside], None]) -> None:
    outside = Outside()
    policies = outside.policies()
    mode_of(policies)
    attack(outside)
    outside.now += 604_000
    assert mode_of(policies) is Mode.ENFORCE
    outside.now += 1_000
    assert mode_of(policies) is None


def test_a_failed_fetch_is_not_tried_again_for_five_minutes() -> None:
    outside = Outside(error=FetchError("down"))
    policies = outside.policies()
    assert ask(policies) == Finding(None, "sts-policy-fetch-error")
    outside.error = None
    outside.now += 299
    assert ask(policies) == Finding(None, "sts-policy-fetch-error")
    assert len(outside.fetched) == 1
    outside.now += 1
    assert mode_of(policies) is Mode.ENFORCE


def test_an_invalid_policy_is_reported_as_that() -> None:
    outside = Outside(body="nonsense")
    assert ask(outside.policies()) == Finding(None, "sts-policy-invalid")


def test_what_breaks_in_us_is_no_policy() -> None:
    outside = Outside(error=RuntimeError("x"))
    assert ask(outside.policies()).result == "sts-policy-fetch-error"


def test_a_policy_in_use_is_renewed_daily() -> None:
    outside = Outside()
    policies = outside.policies()
    for day in range(1, 30):
        assert mode_of(policies) is Mode.ENFORCE
        assert len(outside.fetched) == day
        outside.now += 86_400


def test_a_policy_without_age_is_not_fetched_for_every_message() -> None:
    outside = Outside(body=POLICY.replace("604800", "0"))
    policies = outside.policies()
    for _ in range(10):
        mode_of(policies)
    assert len(outside.fetched) == 1


def test_one_fetch_for_all_who_ask_meanwhile() -> None:
    outside = Outside(pause=Deferred())
    policies = outside.policies()
    asking = [start(policies.of("example.org")) for _ in range(3)]
    assert len(outside.fetched) == 1
    asking[0].addErrback(lambda _: None)
    asking[0].cancel()  # who began it is gone, the others still wait
    pause, outside.pause = outside.pause, None
    assert pause is not None
    pause.callback(None)
    for one in asking[1:]:
        policy = result_of(one).policy
        assert policy is not None and policy.mode is Mode.ENFORCE
    assert len(outside.fetched) == 1


# What outlives a restart


def test_a_restart_remembers(tmp_path: Path) -> None:
    world = simulated_world()
    reactor: Any = world.reactor
    outside = Outside()
    path = tmp_path / "sts.sqlite3"

    def asked() -> Finding:
        policies = outside.policies(SqliteStsStore(world.threads, path))
        running = start(policies.of("example.org"))
        reactor.settle()
        return result_of(running)

    assert asked().policy == parse_policy(POLICY)
    no_dns(outside)
    assert asked().policy == parse_policy(POLICY)
    assert len(outside.fetched) == 1
    outside.now += 604_801
    assert asked().policy is None


@pytest.mark.parametrize("spoil", [lambda p: p.write_bytes(b"rubbish" * 200), lambda p: p.mkdir()])
def test_a_broken_file_is_as_none(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    path = tmp_path / "sts.sqlite3"
    spoil(path)
    world = simulated_world()
    reactor: Any = world.reactor
    running = start(Outside().policies(SqliteStsStore(world.threads, path)).of("example.org"))
    reactor.settle()
    policy = result_of(running).policy
    assert policy is not None and policy.mode is Mode.ENFORCE


def test_the_file_is_bounded(tmp_path: Path) -> None:
    world = simulated_world()
    reactor: Any = world.reactor
    store = SqliteStsStore(world.threads, tmp_path / "sts.sqlite3", limit=3)
    for n in range(6):
        store.put(Stored(f"d{n}.example", "1", POLICY, 100.0 + n, 1000.0))
    store.put(Stored("old.example", "1", POLICY, 50.0, 60.0))
    loading: Any = store.load(200.0, 10)
    reactor.settle()
    assert [one.domain for one in result_of(loading)] == ["d3.example", "d4.example", "d5.example"]
