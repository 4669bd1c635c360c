"""What a process has done so far, as plain numbers that its rooms count up: for `mailctl status`.

Counting costs an addition; nothing is counted twice, and nothing is worked out before somebody asks. Reactor thread.
Totals are since the process began.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Protocol
from weakref import WeakSet

__all__ = ["TOTALS", "Counters", "Counting", "Served"]

TOTALS: Final = (
    "accepted",
    "messages_in",
    "octets_in",
    "delivered",
    "logins",
    "login_failures",
    "bytes_in",
    "bytes_out",
)
"""The names of what `Counters.totals` gives: connections; messages taken, and their octets; recipients elsewhere that
have taken a message; logins; bytes from and to clients, without TLS."""


class Counting(Protocol):
    """A connection that counts its bytes."""

    @property
    def bytes_read(self) -> int: ...
    @property
    def bytes_written(self) -> int: ...


class Served(Protocol):
    """A protocol's factory: its name, and who is connected now."""

    name: str

    @property
    def connections(self) -> Collection[Counting]: ...


class Counters:
    """Of one process. The numbers are `TOTALS`; `bytes_in` and `bytes_out` of connections that are over."""

    __slots__ = ("__weakref__", "_served", *TOTALS)

    def __init__(self) -> None:
        self.accepted = 0
        self.messages_in = 0
        self.octets_in = 0
        self.delivered = 0
        self.logins = 0
        self.login_failures = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self._served: WeakSet[Any] = WeakSet()

    def serve(self, factory: Served) -> None:
        """Its connections count for as long as it is there."""
        self._served.add(factory)

    def connections(self) -> dict[str, int]:
        """How many are open, by protocol; those that have none are not named."""
        found: dict[str, int] = {}
        for factory in self._served:
            if count := len(factory.connections):
                found[factory.name] = found.get(factory.name, 0) + count
        return dict(sorted(found.items()))

    def totals(self) -> tuple[int, ...]:
        """The numbers of `TOTALS`, those of open connections included: some tenths of a microsecond for each."""
        read = written = 0
        for factory in self._served:
            for connection in factory.connections:
                read += connection.bytes_read
                written += connection.bytes_written
        return (
            self.accepted,
            self.messages_in,
            self.octets_in,
            self.delivered,
            self.logins,
            self.login_failures,
            self.bytes_in + read,
            self.bytes_out + written,
        )
