"""Several processes of one site in a simulated world.

    site = SharedSite()
    one = site.join(simulated_world(disk=disk))
    other = site.join(one.at("192.0.2.1"))

Each of them is a `World` with `Siblings` of its own: what one tells, the others hear on the clock's next turn, and what
is counted is counted together, exactly. `leave` does what the main process does when a worker has died.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..siblings import Counts, Listeners, LocalCounts, News
from .world import SimulatedWorld

__all__ = ["SharedSite", "SimulatedSiblings"]


class SharedSite:
    """What joins the processes. `told` are all news, in their order, each its topic and what was told."""

    def __init__(self) -> None:
        self.members: list[SimulatedSiblings] = []
        self.told: list[tuple[str, News]] = []

    def join(self, world: SimulatedWorld) -> SimulatedWorld:
        """The same world, in which the process has siblings: those that join this site."""
        member = SimulatedSiblings(self, world)
        self.members.append(member)
        return replace(world, siblings=member)

    def leave(self, world: SimulatedWorld) -> None:
        """The process of that world is dead: it hears no more, and what it had taken is given back."""
        self.members.remove(world.siblings)  # type: ignore[arg-type]  # `join` made it


class SimulatedSiblings:
    """One process's `Siblings`."""

    def __init__(self, site: SharedSite, world: SimulatedWorld) -> None:
        self._site = site
        self._world = world
        self._listeners = Listeners()
        self.taken: dict[str, LocalCounts] = {}

    def tell(self, topic: str, news: News) -> None:
        self._site.told.append((topic, news))
        for member in self._site.members:
            if member is not self:
                member._world.reactor.callLater(0, member._listen, topic, list(news))

    def hear(self, topic: str, listener: Callable[[News], object]) -> None:
        self._listeners.add(topic, listener)

    def counts(self, name: str) -> Counts:
        self.taken.setdefault(name, LocalCounts())
        return _TogetherCounts(self._site, self, name)

    def _listen(self, topic: str, news: News) -> None:
        for listener in self._listeners.of(topic):
            listener(news)


class _TogetherCounts:
    def __init__(self, site: SharedSite, own: SimulatedSiblings, name: str) -> None:
        self._site = site
        self._own = own
        self._name = name

    def take(self, key: str, most: int) -> bool:
        others = self.count(key) - self._own.taken[self._name].count(key)
        return self._own.taken[self._name].take(key, most - others)

    def give_back(self, key: str) -> None:
        self._own.taken[self._name].give_back(key)

    def count(self, key: str) -> int:
        every = (member.taken.get(self._name) for member in self._site.members)
        return sum(counts.count(key) for counts in every if counts is not None)
