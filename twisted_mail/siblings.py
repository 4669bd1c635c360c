"""The other processes of the same site, as one more thing outside: what is counted and remembered together.

A site on many cores is served by several processes that share nothing but the disk. Two things they must know of
each other at once: how many connections a client has in all of them (`Counts`), and what one has learned of somebody,
such as a wrong password (`tell`, `hear`). Who serves alone has `Alone`: nobody to tell, and plain counts.

What is told is news, not truth: it comes soon, mostly within some milliseconds, each at most once, and not at all when
a process dies. Nothing that must not be lost goes this way; that is on the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MethodType
from typing import Protocol
from weakref import WeakMethod

__all__ = ["Alone", "Counts", "Listeners", "LocalCounts", "News", "Siblings"]

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
        """Have `listener`, which does not raise, called with what others tell.

        A method is called for as long as its object is there, and does not keep it: a server that goes on with another
        configuration has new ones.
        """

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


class Listeners:
    """Who hears what, as `Siblings.hear` has it."""

    __slots__ = ("_by_topic",)

    def __init__(self) -> None:
        self._by_topic: dict[str, list[Callable[[], Callable[[News], object] | None]]] = {}

    def add(self, topic: str, listener: Callable[[News], object]) -> None:
        weak = isinstance(listener, MethodType) and not isinstance(listener.__self__, type)
        kept = WeakMethod(listener) if weak else lambda: listener
        self._by_topic.setdefault(topic, []).append(kept)

    def of(self, topic: str) -> list[Callable[[News], object]]:
        """Those who are there."""
        kept = self._by_topic.get(topic)
        if kept is None:
            return []
        found = [listener for one in kept if (listener := one()) is not None]
        if len(found) < len(kept):
            self._by_topic[topic] = [one for one in kept if one() is not None]
        return found


class Alone:
    """`Siblings` of the only process of a site."""

    def tell(self, topic: str, news: News) -> None:
        """Nobody hears it."""

    def hear(self, topic: str, listener: Callable[[News], object]) -> None:
        """Nothing is told."""

    def counts(self, name: str) -> Counts:
        return LocalCounts()
