"""Many clients on one loop: a bounded time in each of its rounds, and nobody is passed over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from twisted_mail.turns import SLICE, TURN, Pace, Turns


class Loop:
    """What is called in a round may ask for the next; `work` takes its time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[Callable[[], object]] = []
        self.done: list[int] = []

    def seconds(self) -> float:
        return self.now

    def callLater(self, delay: float, call: Callable[[], object]) -> None:
        assert not delay
        self.calls.append(call)

    def work(self, number: int, seconds: float = TURN * 0.26) -> None:
        self.now += seconds
        self.done.append(number)

    def round(self) -> list[int]:
        before = len(self.done)
        calls, self.calls = self.calls, []
        assert len(calls) < 2, "one timer for all"
        for call in calls:
            call()
        return self.done[before:]


def test_a_round_ends_when_its_time_is_used_up_and_the_next_goes_on() -> None:
    loop = Loop()
    turns = Turns(loop)
    for number in range(12):
        turns.later(lambda n=number: loop.work(n))  # type: ignore[misc]
    assert loop.done == []
    rounds = [loop.round() for _ in range(3)]
    assert rounds == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    loop.round()
    assert not turns.full and not loop.calls


def test_who_asks_again_is_heard_behind_the_others() -> None:
    loop = Loop()
    turns = Turns(loop)

    def again() -> None:
        loop.work(0, 0)
        turns.later(again)

    turns.later(again)
    turns.later(lambda: loop.work(1, 0))
    assert loop.round() == [0, 1]
    assert loop.round() == [0]


def test_little_goes_before_much_but_not_for_ever() -> None:
    loop = Loop()
    turns = Turns(loop)
    for number in range(8):
        turns.later(lambda n=number: loop.work(n))  # type: ignore[misc]
        turns.ask(lambda n=number: loop.work(100 + n))  # type: ignore[misc]
    assert loop.round() == [100, 101, 0, 1]
    assert loop.round() == [102, 103, 2, 3]


def test_what_is_done_at_once_is_counted_and_costs_no_timer_before_it_is_much() -> None:
    loop = Loop()
    turns = Turns(loop)
    turns.count(TURN / 2)
    assert not turns.full and not loop.calls
    turns.count(TURN)
    assert turns.full
    loop.round()
    assert not turns.full


def test_a_failure_costs_nobody_else_his_turn() -> None:
    loop = Loop()
    turns = Turns(loop)

    def broken() -> None:
        raise RuntimeError("broken")

    turns.later(broken)
    turns.later(lambda: loop.work(1))
    with pytest.raises(RuntimeError):
        loop.round()
    assert loop.round() == [1]


def test_one_client_gives_way_after_a_slice_or_when_all_is_used_up() -> None:
    loop = Loop()
    turns = Turns(loop)
    pace = Pace(turns)
    assert not pace.due()
    loop.now += SLICE * 1.5
    assert pace.due()
    resting = Deferred.fromCoroutine(pace.rest())
    results: list[Any] = []
    resting.addBoth(results.append)
    assert not results
    loop.round()
    assert results == [None] and not pace.due()
    turns.count(TURN * 2)
    assert pace.due()


def test_several_who_breathe_have_their_steps_in_turn() -> None:
    loop = Loop()
    turns = Turns(loop)

    async def work(number: int) -> None:
        pace = Pace(turns)
        for _ in range(4):
            loop.work(number, SLICE * 0.6)
            await pace.breathe()

    for number in range(2):
        Deferred.fromCoroutine(work(number))
    # A slice is over with the second step, and nobody waits before
    assert loop.done == [0, 0, 1, 1]
    assert loop.round() == [0, 0, 1, 1]
    loop.round()
    assert not loop.calls


def test_a_breath_that_is_cancelled_is_over() -> None:
    loop = Loop()
    turns = Turns(loop)
    breath = turns.breath()
    breath.addErrback(lambda failure: None)
    turns.later(lambda: loop.work(1))
    breath.cancel()
    assert loop.round() == [1]
    assert not loop.calls
