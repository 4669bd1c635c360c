"""A run ends in the time it says: rounds are repeated while there is time, the first is always done."""

from __future__ import annotations

from budget import Budget, Turns


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def spent(turns: Turns, clock: Clock, seconds: float) -> list[int]:
    """The rounds that are done when each takes so long."""
    done = []
    for turn in turns:
        clock.now += seconds
        done.append(turn)
    return done


def test_all_rounds_when_there_is_time():
    clock = Clock()
    turns = Turns(3, 100, clock)
    assert spent(turns, clock, 10) == [0, 1, 2]
    assert not turns.cut


def test_no_round_that_would_end_too_late():
    clock = Clock()
    turns = Turns(5, 100, clock)
    assert spent(turns, clock, 40) == [0, 1]
    assert turns.cut
    assert turns.done == 2


def test_the_first_round_is_always_done():
    clock = Clock()
    assert spent(Turns(3, 1, clock), clock, 50) == [0]


def test_time_is_shared_and_what_is_left_goes_on():
    clock = Clock()
    budget = Budget(100, {"a": 1, "b": 1, "c": 2}, clock)
    # 25 of 100
    assert spent(budget.turns("a", 9), clock, 10) == [0, 1]
    clock.now = 10
    # 30 of the 90 that are left
    assert spent(budget.turns("b", 9), clock, 9) == [0, 1, 2]
    # all that is left: 63
    assert spent(budget.turns("c", 9), clock, 20) == [0, 1, 2]
    assert clock.now <= 100
