"""What lies between the two ends of a simulated connection: time, and faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.error import ConnectionLost

__all__ = ["Cable", "Clock", "Conditions"]


class Clock(Protocol):
    """What the network needs of a simulated reactor."""

    def seconds(self) -> float: ...
    def callLater(self, delay: float, callable: Any, *args: Any) -> Any: ...


class Conditions(Protocol):
    """What a cable asks the host at one of its ends, again and again: `network.Host`."""

    latency: float
    bytes_per_second: float | None
    silent: bool
    cut_after: int | None
    cables: dict[Cable, None]


class Cable:
    """What lies between the two ends of a connection, with the faults of the hosts there."""

    def __init__(self, clock: Clock, hosts: Sequence[Conditions]) -> None:
        self.clock = clock
        self.ends: list[Any] = []
        """Each a `wire.Wire`."""
        self._hosts = tuple(dict.fromkeys(hosts))  # a host that talks to itself is one
        limits = [host.cut_after for host in self._hosts if host.cut_after is not None]
        self._left = min(limits, default=None)
        self._held: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        for host in self._hosts:
            host.cables[self] = None

    @property
    def latency(self) -> float:
        """Seconds, one way."""
        return sum(host.latency for host in self._hosts)

    @property
    def speed(self) -> float | None:
        """Bytes a second, each way; None: at once."""
        speeds = [host.bytes_per_second for host in self._hosts]
        return min((speed for speed in speeds if speed is not None), default=None)

    @property
    def dark(self) -> bool:
        """Nothing gets through just now."""
        return any(host.silent for host in self._hosts)

    def grant(self, size: int) -> int:
        """How many of `size` bytes still get through before the cable is cut; they count as carried."""
        if self._left is None:
            return size
        size = min(size, self._left)
        self._left -= size
        return size

    @property
    def spent(self) -> bool:
        """It has carried all that it ever will."""
        return self._left == 0

    def tell(self, work: Callable[..., object], *args: object, since: float | None = None) -> None:
        """Run `work`, which the other end is to learn, one latency after `since` (now), or when it is light again."""
        now = self.clock.seconds()
        due = (now if since is None else since) + self.latency
        self.clock.callLater(max(0.0, due - now), self._pass, work, args)

    def _pass(self, work: Callable[..., object], args: tuple[object, ...]) -> None:
        if self.dark:
            self._held.append((work, args))
        else:
            work(*args)

    def light(self) -> None:
        """A host at an end is not silent any more: what was held back goes on."""
        held, self._held = self._held, []
        for work, args in held:
            self.clock.callLater(0, self._pass, work, args)
        for end in self.ends:
            end.schedule()

    def cut(self) -> None:
        """Both ends learn at once that the connection is lost."""
        for end in self.ends:
            end.hang_up(ConnectionLost())

    def forget(self) -> None:
        """Both ends are gone."""
        for host in self._hosts:
            host.cables.pop(self, None)
