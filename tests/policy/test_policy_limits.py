"""Who is counted as one client, and how long one who failed waits."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_mail.policy.limits import FailureDelays, client_network


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("/run/mail.sock", "/run/mail.sock"),
    ],
)
def test_client_network(ip: str, network: str) -> None:
    assert client_network(ip) == network


def test_each_failure_doubles_the_wait_up_to_the_cap() -> None:
    clock = Clock()
    delays = FailureDelays(clock.seconds, base=1.0, cap=30.0)
    assert delays.delay("192.0.2.7") == 0.0
    waits = []
    for _ in range(8):
        delays.failed("192.0.2.7")
        waits.append(delays.delay("192.0.2.7"))
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert delays.delay("192.0.2.8") == 0.0


def test_the_wait_runs_down_while_the_client_waits() -> None:
    clock = Clock()
    delays = FailureDelays(clock.seconds)
    for _ in range(3):
        delays.failed("alice")
    clock.advance(1.5)
    assert delays.delay("alice") == 2.5
    clock.advance(3)
    assert delays.delay("alice") == 0.0


def test_success_forgives() -> None:
    delays = FailureDelays(Clock().seconds)
    delays.failed("alice")
    delays.succeeded("alice")
    delays.succeeded("bob")
    assert delays.delay("alice") == 0.0


def test_failures_fade() -> None:
    clock = Clock()
    delays = FailureDelays(clock.seconds, forget=900.0)
    for _ in range(4):
        delays.failed("alice")
    clock.advance(450)
    delays.failed("alice")  # half of four, and this one
    assert delays.delay("alice") == 4.0
    clock.advance(900)
    assert delays.delay("alice") == 0.0
    delays.failed("alice")
    assert delays.delay("alice") == 1.0


def test_memory_is_bounded_and_the_oldest_failure_goes_first() -> None:
    delays = FailureDelays(Clock().seconds, size=2)
    delays.failed("a")
    delays.failed("b")
    delays.failed("a")
    delays.failed("c")
    assert [delays.delay(key) for key in "abc"] == [2.0, 0.0, 1.0]


def test_a_clock_set_back_does_not_lengthen_the_wait() -> None:
    now = [1000.0]
    delays = FailureDelays(lambda: now[0])
    delays.failed("alice")
    now[0] = 0.0
    assert delays.delay("alice") == 1.0
    delays.failed("alice")
    assert delays.delay("alice") == 2.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2000)), max_size=200))
def test_never_over_the_cap_never_negative(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    delays = FailureDelays(clock.seconds, cap=30.0, size=2)
    for key, seconds in steps:
        clock.advance(seconds)
        delays.failed(key)
        assert all(0.0 <= delays.delay(other) <= 30.0 for other in "abc")


def test_what_is_tried_at_once_gets_turns() -> None:
    clock = Clock()
    delays = FailureDelays(clock.seconds, cap=30.0, patience=60.0)
    assert [delays.turn("a") for _ in range(3)] == [0.0, 0.0, 0.0]
    for _ in range(10):
        delays.failed("a")
    assert [delays.turn("a") for _ in range(4)] == [30.0, 60.0, inf, inf]
    clock.advance(30)
    # The one that was refused has taken none
    assert [delays.turn("a") for _ in range(2)] == [60.0, inf]
    assert delays.turn("a", free=10) == 0.0
    delays.succeeded("a")
    assert delays.turn("a") == 0.0


def test_turns_after_a_clock_was_set_back() -> None:
    now = [1e6]
    delays = FailureDelays(lambda: now[0], cap=30.0, patience=60.0)
    for _ in range(10):
        delays.failed("a")
    delays.turn("a")
    now[0] = 0.0
    assert delays.turn("a") == 30.0
