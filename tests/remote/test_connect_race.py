"""Two address families on a clock: who is tried when, and who wins."""

from __future__ import annotations

from typing import Any

import pytest
from remote_fakes import failure_of, result_of, start
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from twisted_mail.remote.connect import Connected, NoneAnswers, connect_one
from twisted_mail.smtp.client.interfaces import SessionError

FOUR, FOUR2, SIX, SIX2 = "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"


class Won:
    """A conversation, as far as this needs one."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Network:
    """Address → seconds until it answers, negative: until it refuses, None: never."""

    def __init__(self, answers: dict[str, float | None]) -> None:
        self.clock = Clock()
        self.answers = answers
        self.tried: list[tuple[float, str]] = []
        self.cancelled: list[str] = []
        self.won: dict[str, Won] = {}

    def dial(self, address: str) -> Any:
        self.tried.append((self.clock.seconds(), address))
        answer = self.answers[address]
        done: Deferred[Won] = Deferred(lambda _: self.cancelled.append(address))
        if answer is None:
            return done

        def end() -> None:
            if done.called:
                return
            if answer > 0:
                self.won[address] = Won()
                done.callback(self.won[address])
            else:
                done.errback(SessionError(f"{address} refused"))

        if abs(answer) < 0.0001:
            end()
        else:
            self.clock.callLater(abs(answer), end)
        return done

    def go(self, *addresses: str, head_start: float = 0.25) -> Deferred[Connected]:
        return start(connect_one(addresses, self.dial, self.clock, head_start))

    def pump(self, seconds: float) -> None:
        self.clock.pump([0.01] * round(seconds * 100))


def test_one_family_one_after_the_other() -> None:
    network = Network({FOUR: -0.5, FOUR2: 1.0})
    going = network.go(FOUR, FOUR2)
    network.pump(2)
    found = result_of(going)
    assert found.address == FOUR2 and list(found.failures) == [FOUR]
    assert [address for _, address in network.tried] == [FOUR, FOUR2]
    assert network.tried[1][0] == pytest.approx(0.5)


def test_the_first_family_wins_when_it_is_quick() -> None:
    network = Network({SIX: 0.2, FOUR: 0.01})
    going = network.go(SIX, FOUR)
    network.pump(1)
    assert result_of(going).address == SIX
    assert [address for _, address in network.tried] == [SIX]
    assert network.clock.getDelayedCalls() == []


def test_the_second_one_starts_after_the_head_start() -> None:
    network = Network({SIX: None, FOUR: 0.1})
    going = network.go(SIX, FOUR)
    network.pump(1)
    assert result_of(going).address == FOUR
    assert network.tried[1][0] == pytest.approx(0.25)
    assert network.cancelled == [SIX]


def test_a_refusal_starts_the_second_one_at_once() -> None:
    network = Network({SIX: -0.05, SIX2: 0.5, FOUR: 0.1})
    going = network.go(SIX, SIX2, FOUR)
    network.pump(1)
    assert result_of(going).address == FOUR
    assert network.tried == [
        (0.0, SIX),
        (pytest.approx(0.05), FOUR),
        (pytest.approx(0.05), SIX2),
    ]
    assert network.cancelled == [SIX2]


def test_a_refusal_before_anything_else_happens() -> None:
    network = Network({SIX: -0.0, FOUR: 0.1})
    going = network.go(SIX, FOUR)
    network.pump(1)
    found = result_of(going)
    assert found.address == FOUR and list(found.failures) == [SIX]


def test_within_a_family_nothing_overlaps() -> None:
    network = Network({SIX: None, SIX2: 0.1, FOUR: None, FOUR2: 0.1})
    going = network.go(SIX, SIX2, FOUR, FOUR2)
    network.pump(10)
    assert [address for _, address in network.tried] == [SIX, FOUR]
    going.cancel()
    assert failure_of(going, CancelledError)
    assert sorted(network.cancelled) == sorted([SIX, FOUR])
    assert network.clock.getDelayedCalls() == []


def test_who_connects_second_is_let_go() -> None:
    network = Network({SIX: 0.5, FOUR: 0.25})
    going = network.go(SIX, FOUR)
    network.clock.advance(0.25)
    network.clock.advance(0.25)
    found = result_of(going)
    assert sum(not one.aborted for one in network.won.values()) == 1
    assert not network.won[found.address].aborted


def test_two_at_the_same_instant() -> None:
    network = Network({SIX: -0.0, SIX2: 0.00001, FOUR: 0.00001})
    found = result_of(network.go(SIX, SIX2, FOUR))
    assert found.address == FOUR
    assert [address for address, one in network.won.items() if not one.aborted] == [FOUR]


def test_nobody_answers() -> None:
    network = Network({SIX: -0.1, SIX2: -0.1, FOUR: -0.4, FOUR2: -0.1})
    going = network.go(SIX, SIX2, FOUR, FOUR2)
    network.pump(5)
    error = failure_of(going, NoneAnswers)
    assert list(error.failures) == [SIX, SIX2, FOUR, FOUR2]


def test_a_fault_of_ours_comes_out() -> None:
    clock = Clock()

    async def dial(address: str) -> Any:
        raise RuntimeError("x")

    for addresses in ([FOUR], [SIX, FOUR]):
        assert failure_of(start(connect_one(addresses, dial, clock, 0.25)), RuntimeError)
        assert clock.getDelayedCalls() == []
