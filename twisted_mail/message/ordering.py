"""Sorting much in slices: what `sorted` gives, but others may have a turn in between. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

__all__ = ["sorted_in_turns"]

RUN: Final = 4096
"""Elements that are sorted in one go: some ms."""
WAYS: Final = 16
"""Runs that are merged at once."""


def sorted_in_turns(
    order: Sequence[int], key: Callable[[int], Any], reverse: bool = False
) -> Generator[None, None, list[int]]:
    """As ``sorted(order, key=key, reverse=reverse)``, stable; `key` is cheap. Yields where others may have a turn."""
    if reverse:
        order = order[::-1]
    runs = []
    for start in range(0, len(order), RUN):
        runs.append(sorted(order[start : start + RUN], key=key))
        if len(order) > RUN:
            yield
    while len(runs) > 1:
        joined = []
        for at in range(0, len(runs), WAYS):
            joined.append((yield from _merged(runs[at : at + WAYS], key)))
        runs = joined
    out = runs[0] if runs else []
    if reverse:
        out.reverse()
    return out


def _merged(runs: list[list[int]], key: Callable[[int], Any]) -> Generator[None, None, list[int]]:
    """A piece at a time: what of each run is surely before the rest of all, sorted (for `sorted` that is merging)."""
    share = max(RUN // len(runs), 1)
    begins = [0] * len(runs)
    left = list(range(len(runs)))
    out: list[int] = []
    done = 0
    while len(left) > 1:
        # The least of what ends the next share of a run; of equal ones the first run's
        which, bound = -1, None
        for at in left:
            end = begins[at] + share
            if end < len(runs[at]):
                last = key(runs[at][end - 1])
                if which < 0 or last < bound:
                    which, bound = at, last
        piece: list[int] = []
        for at in left:
            run, begin = runs[at], begins[at]
            end = min(begin + share, len(run))
            if which >= 0 and at != which:
                # Equals stay in the order of their runs
                cut = bisect_right if at < which else bisect_left
                end = cut(run, bound, begin, end, key=key)
            piece += run[begin:end]
            begins[at] = end
        piece.sort(key=key)
        out += piece
        left = [at for at in left if begins[at] < len(runs[at])]
        if len(out) - done >= RUN:
            done = len(out)
            yield
    for at in left:
        out += runs[at][begins[at] :]
    return out
