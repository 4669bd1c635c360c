"""How long a run may take, and how that is shared: each suite has a part of what is left, and repeats its rounds while
another one fits.

The first round of a suite is always done, so that every case has a figure; what a slow machine loses is repetitions.
What a suite does not use is there for those after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

__all__ = ["Budget", "Turns"]

_Clock = Callable[[], float]
_SLACK = 1.1
"""How much longer than the last round the next one may take."""


class Turns:
    """The numbers of a suite's rounds, from 0: at most `most`, and no further one that would end after `deadline` (of
    the clock) if it took as long as the one before.
    """

    def __init__(self, most: int, deadline: float, clock: _Clock = time.monotonic) -> None:
        self._most = most
        self._deadline = deadline
        self._clock = clock
        self.done = 0

    @property
    def cut(self) -> bool:
        """Whether there was no time for all."""
        return self.done < self._most

    def __iter__(self) -> Iterator[int]:
        for number in range(self._most):
            began = self._clock()
            yield number
            self.done = number + 1
            now = self._clock()
            if now + (now - began) * _SLACK > self._deadline:
                return


class Budget:
    """`seconds` for the suites of `shares`, from now on, in proportion; what is left goes to the next ones."""

    def __init__(
        self, seconds: float, shares: Mapping[str, float], clock: _Clock = time.monotonic
    ) -> None:
        self._clock = clock
        self._end = clock() + seconds
        self._shares = dict(shares)

    def turns(self, suite: str, most: int) -> Turns:
        """Rounds of the suite that begins now. Suites are asked for in the order in which they are measured."""
        now = self._clock()
        left = max(0.0, self._end - now)
        whole = sum(self._shares.values())
        share = self._shares.pop(suite)
        return Turns(most, now + left * share / whole, self._clock)
