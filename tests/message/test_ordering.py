"""Sorting in slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message import ordering


def finished(
    order: Sequence[int], key: Callable[[int], Any], reverse: bool = False
) -> tuple[list[int], int]:
    """What it gives, and how often it yields."""
    steps, turns = ordering.sorted_in_turns(order, key, reverse), 0
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value, turns
        turns += 1


@given(
    st.lists(st.integers(0, 9), max_size=80) | st.lists(st.sampled_from(["", "a", "ab", "B"])),
    st.booleans(),
    st.integers(1, 9),
    st.integers(2, 4),
)
def test_as_sorted(values: list[Any], reverse: bool, run: int, ways: int) -> None:
    before = ordering.RUN, ordering.WAYS
    ordering.RUN, ordering.WAYS = run, ways  # type: ignore[misc]
    try:
        found, _ = finished(range(len(values)), values.__getitem__, reverse)
    finally:
        ordering.RUN, ordering.WAYS = before  # type: ignore[misc]
    assert found == sorted(range(len(values)), key=values.__getitem__, reverse=reverse)


@pytest.mark.parametrize(
    "key",
    [lambda n: n, lambda n: -n, lambda _: 0, lambda n: n * 7919 % 99_991, lambda n: str(n % 100)],
)
def test_pieces_are_small(key: Callable[[int], Any]) -> None:
    compared = most = 0

    def counting(at: int) -> Any:
        nonlocal compared
        compared += 1
        return key(at)

    steps = ordering.sorted_in_turns(range(100_000), counting)
    for _ in steps:
        most, compared = max(most, compared), 0
    assert 0 < max(most, compared) < 8 * ordering.RUN
    assert finished(range(100_000), key)[0] == sorted(range(100_000), key=key)


def test_little_is_sorted_at_once() -> None:
    assert finished([3, 1, 2], lambda n: n) == ([1, 2, 3], 0)
