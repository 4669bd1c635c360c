"""How many connections there may be: in all, and from one client.

One `ConnectionLimits` is shared by all factories of a process; given the site's counts, all processes count together.
It only counts; who refuses, and in which words, is `connection.factory`.
"""

from __future__ import annotations

from ..policy.limits import client_network
from ..siblings import Counts, LocalCounts

__all__ = ["ConnectionLimits"]


class ConnectionLimits:
    """At most `total` connections, and `per_address` from one address (IPv6: one /64). `counts` None: of this
    process."""

    def __init__(self, total: int, per_address: int, counts: Counts | None = None) -> None:
        self._total = total
        self._per_address = per_address
        self._counts = LocalCounts() if counts is None else counts

    def take(self, ip: str) -> bool:
        """One more connection from `ip`; False, and nothing is counted, when that is too many.

        A client without an address (of a UNIX socket) counts in the total only.
        """
        counts = self._counts
        if not counts.take("", self._total):
            return False
        if ip and not counts.take(client_network(ip), self._per_address):
            counts.give_back("")
            return False
        return True

    def give_back(self, ip: str) -> None:
        """A connection that was taken is gone. To be called once for each."""
        self._counts.give_back("")
        if ip:
            self._counts.give_back(client_network(ip))
