"""How many connections there may be: in all, and from one client.

One `ConnectionLimits` is shared by all factories of a process. It only counts; who refuses, and in
which words, is `connection.factory`.
"""

from __future__ import annotations

from ..policy.limits import client_network

__all__ = ["ConnectionLimits"]


class ConnectionLimits:
    """At most `total` connections, and `per_address` from one address (IPv6: one /64)."""

    def __init__(self, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._open = 0
        self._by_network: dict[str, int] = {}

    def take(self, ip: str) -> bool:
        """One more connection from `ip`; False, and nothing is counted, when that is too many.

        A client without an address (of a UNIX socket) counts in the total only.
        """
        if self._open >= self._total:
            return False
        if ip:
            network = client_network(ip)
            count = self._by_network.get(network, 0)
            if count >= self._per_address:
                return False
            self._by_network[network] = count + 1
        self._open += 1
        return True

    def give_back(self, ip: str) -> None:
        """A connection that was taken is gone. To be called once for each."""
        self._open -= 1
        if ip:
            network = client_network(ip)
            count = self._by_network[network] - 1
            if count:
                self._by_network[network] = count
            else:
                del self._by_network[network]
