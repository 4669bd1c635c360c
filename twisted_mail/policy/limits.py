"""How much one client may take: values and arithmetic, no network and no clock of their own.

`client_network` is the unit in which clients are counted; `FailureDelays` says how long the next
try of somebody who has failed must wait. Its memory is bounded, whatever clients do. Nothing here
refuses anybody.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from math import inf

__all__ = ["FailureDelays", "client_network"]


@lru_cache(maxsize=1024)
def client_network(ip: str) -> str:
    """The name under which a client's address is counted.

    An IPv4 address is itself, also when it comes mapped into IPv6; an IPv6 address is its /64, the
    least that one subscriber is given (RFC 6177 section 2). What is no address (a UNIX socket's) is
    returned as it is.
    """
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"


class FailureDelays:
    """Exponential back-off for each key: a client's network, an account's name.

    After the n-th failure in a row the next try waits until `base` · 2ⁿ⁻¹ seconds, at most `cap`,
    have passed since that failure. Failures fade: `forget` seconds after the last one nothing is
    left of them, half-way half of their number. At most `size` keys are remembered; the one that
    failed longest ago goes first.

    Who tries much at once gets turns: each of them a wait after the one before, the last one within `patience`.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        base: float = 1.0,
        cap: float = 30.0,
        forget: float = 900.0,
        size: int = 10000,
        patience: float = 60.0,
    ) -> None:
        self._clock = clock
        self._base = base
        self._cap = cap
        self._forget = forget
        self._size = size
        self._patience = patience
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()
        # When the next turn of who has failed is free, at the earliest.
        self._turns: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._failures)

    @property
    def least(self) -> float:
        """The wait after a first failure."""
        return self._base

    def failed(self, key: str) -> None:
        """A try of `key` failed just now."""
        now = self._clock()
        count, last = self._failures.pop(key, (0.0, now))
        # 2⁶⁴ seconds are over any cap; a greater exponent would only overflow
        self._failures[key] = (min(count * self._left(now - last) + 1, 64.0), now)
        if len(self._failures) > self._size:
            self._turns.pop(self._failures.popitem(last=False)[0], None)

    def succeeded(self, key: str) -> None:
        """A try of `key` was right: its failures are forgiven."""
        self._failures.pop(key, None)
        self._turns.pop(key, None)

    def turn(self, key: str, free: int = 0) -> float:
        """Seconds from now until a try of `key` is judged, and that turn is taken: what is tried at once is judged one
        by one. `free` failures are overlooked. `inf`, and no turn is taken, when too many wait already.
        """
        entry = self._failures.get(key)
        if entry is None:
            return 0.0
        count, last = entry
        now = self._clock()
        if now - last >= self._forget:
            self.succeeded(key)
            return 0.0
        if count <= free:
            return 0.0
        wait: float = min(self._cap, self._base * 2.0 ** (count - free - 1))
        taken = self._turns.get(key, now)
        # A clock that was set back must not make anybody wait longer
        if taken - now > self._patience + self._cap:
            taken = now
        at = max(now, min(last, now) + wait, taken)
        if at > now + self._patience:
            return inf
        self._turns[key] = at + wait
        return at - now

    def delay(self, key: str) -> float:
        """Seconds from now before the next try of `key` may be judged; 0: it need not wait."""
        entry = self._failures.get(key)
        if entry is None:
            return 0.0
        count, last = entry
        elapsed = self._clock() - last
        if elapsed >= self._forget:
            self.succeeded(key)
            return 0.0
        penalty: float = min(self._cap, self._base * 2.0 ** (count - 1))
        # a clock that was set back must not make anybody wait for longer than the penalty
        return max(0.0, penalty - max(0.0, elapsed))

    def _left(self, elapsed: float) -> float:
        """How much of a failure count is left after `elapsed` seconds, 0 to 1."""
        return max(0.0, 1.0 - max(0.0, elapsed) / self._forget)
