"""How many connections there may be, and how fast they may come: in all, and from one client.

One `ConnectionLimits` is shared by all factories of a process; given the site's counts, all processes count together.
Who refuses, and in which words, is `connection.factory`.

When there is little room left, strangers make place: those who have neither logged in nor named a recipient, the one
that has been here longest first, for each one that comes. The last places are for clients from where somebody is at
home. So whoever holds many connections open keeps nobody out who has been here before, and others only for a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..policy.limits import client_network
from ..policy.rates import Buckets, Limit
from ..siblings import Counts, LocalCounts

__all__ = ["ConnectionLimits"]

FULL: Final = 7 / 8
"""The part of all places from which on strangers make place, …"""
KEPT: Final = 1 / 16
"""… and the part that is kept for who is familiar."""
GRACE: Final = 5.0
"""Seconds that a stranger has in any case, to log in; except when somebody familiar comes."""


class ConnectionLimits:
    """At most `total` connections, and `per_address` from one address (IPv6: one /64). `counts` None: of this
    process.

    `own`: at most in this process (0: as many). `fresh`: how fast new ones may come from one address, to this process;
    `exempts` says whom that does not concern. `familiar`: whether somebody is at home at an address; None: nobody
    ever is, and no places are kept. `now`: seconds.
    """

    def __init__(
        self,
        total: int,
        per_address: int,
        counts: Counts | None = None,
        *,
        own: int = 0,
        fresh: Limit | None = None,
        exempts: Callable[[str], bool] = lambda ip: False,
        familiar: Callable[[str], bool] | None = None,
        now: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._total = total
        self._per_address = per_address
        self._counts = LocalCounts() if counts is None else counts
        self._own = own or total
        self._here = 0
        self._fresh = None if fresh is None else Buckets(fresh, now)
        self._exempts = exempts
        self._familiar = familiar or (lambda ip: False)
        self._now = now
        self._crowded = min(int(total * FULL), int(self._own * FULL))
        self._kept = 0 if familiar is None else int(total * KEPT)
        # In the order in which they came, each with when.
        self._strangers: dict[Any, float] = {}

    def take(self, ip: str) -> bool:
        """One more connection from `ip`; False, and nothing is counted, when that is too many, or too fast.

        A client without an address (of a UNIX socket) counts in the total only.
        """
        if ip and not self._exempts(ip) and self._too_fast(ip):
            return False
        counts = self._counts
        most = self._total
        if max(counts.count(""), self._here) >= self._crowded:
            familiar = not ip or self._familiar(ip)
            self._make_room(at_once=familiar)
            if not familiar:
                most -= self._kept
        if self._here >= self._own or not counts.take("", most):
            return False
        if ip and not counts.take(client_network(ip), self._per_address):
            counts.give_back("")
            return False
        self._here += 1
        return True

    def give_back(self, ip: str) -> None:
        """A connection that was taken is gone. To be called once for each."""
        self._here -= 1
        self._counts.give_back("")
        if ip:
            self._counts.give_back(client_network(ip))

    @property
    def count(self) -> int:
        """How many there are, in all."""
        return self._counts.count("")

    def add_stranger(self, connection: Any) -> None:
        """Until `remove_stranger`, `connection.send_away(reason)` may be called, once."""
        self._strangers[connection] = self._now()

    def remove_stranger(self, connection: Any) -> None:
        """It is none any more, or gone."""
        self._strangers.pop(connection, None)

    def _too_fast(self, ip: str) -> bool:
        return self._fresh is not None and self._fresh.take(client_network(ip)) > 0

    def _make_room(self, at_once: bool) -> None:
        if not self._strangers:
            return
        oldest, since = next(iter(self._strangers.items()))
        if at_once or self._now() - since >= GRACE:
            del self._strangers[oldest]
            oldest.send_away("made room for others")
