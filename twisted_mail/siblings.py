"""The other processes of the same site, as one more thing outside: what is counted and remembered together.

A site on many cores is served by several processes that share nothing but the disk. Two things they must know of
each other at once: how many connections a client has in all of them (`Counts`), and what one has learned of somebody,
such as a wrong password (`tell`, `hear`). Who serves alone has `Alone`: nobody to tell, and plain counts.

What is told is news, not truth: it comes soon, mostly within some milliseconds, each at most once, and not at all when
a process dies. Nothing that must not be lost goes this way; that is on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

__all__ = ["Alone", "Counts", "LocalCounts", "News", "Siblings"]

News = Sequence[str | int | float]
"""What is told: a few values that JSON knows."""


class Counts(Protocol):
    """How many of something there are for each key, in all processes together."""

    def take(self, key: str, most: int) -> bool:
        """One more for `key`; False, and nothing is counted, when that would be more than `most`."""

    def give_back(self, key: str) -> None:
        """One that this process has taken is gone. To be called once for each."""

    def count(self, key: str) -> int:
        """How many there are."""


class Siblings(Protocol):
    """The processes of a site, seen from one of them. Reactor thread."""

    def tell(self, topic: str, news: News) -> None:
        """Have the others hear it, soon."""

    def hear(self, topic: str, listener: Callable[[News], object]) -> None:
        """Have `listener`, which does not raise, called with what others tell."""

    def counts(self, name: str) -> Counts:
        """The counts that all processes call `name`."""


class LocalCounts:
    """Counts of one process."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def take(self, key: str, most: int) -> bool:
        count = self._counts.get(key, 0)
        if count >= most:
            return False
        self._counts[key] = count + 1
        return True

    def give_back(self, key: str) -> None:
        count = self._counts[key] - 1
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]

    def count(self, key: str) -> int:
        return self._counts.get(key, 0)


class Alone:
    """`Siblings` of the only process of a site."""

    def tell(self, topic: str, news: News) -> None:
        """Nobody hears it."""

    def hear(self, topic: str, listener: Callable[[News], object]) -> None:
        """Nothing is told."""

    def counts(self, name: str) -> Counts:
        return LocalCounts()
