"""What the DNS said, kept as long as it may be: `Cache`.

Bounded in entries and in bytes; what was not asked for longest goes first. How long something is kept is its TTL
between a floor and a ceiling; an absence is kept by its SOA, a failure for some seconds, so that a zone whose servers
are dead takes a thread now and then, not all of them always.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .interfaces import Answer

__all__ = ["ABSENCE_CEILING", "CEILING", "FAILURE", "FLOOR", "Cache", "Key", "Outcome"]

Key = tuple[str, str]
"""Kind and name: ``("MX", "example.org")``; the name in lower case without the last dot."""
Outcome = Answer[Any] | str
"""An answer, or the text of the DnsError."""

FLOOR = 5.0
"""Seconds: a TTL of 0 costs no question for every recipient of a message."""
CEILING = 3600.0
"""Seconds: who has mended a record is believed within the hour; the server that we ask keeps it longer."""
ABSENCE_CEILING = 900.0
"""Seconds. RFC 2308 section 5 allows three hours; but mail bounces because of it."""
FAILURE = 15.0
"""Seconds. RFC 9520 section 3.2: at least 1, at most 300."""


class _Kept(NamedTuple):
    outcome: Outcome
    since: float
    until: float
    weight: int


class Cache:
    """Outcomes by question. `clock` gives seconds; `entries` and `size` (bytes, roughly) are the most that is kept."""

    def __init__(
        self, clock: Callable[[], float], *, entries: int = 20_000, size: int = 16 << 20
    ) -> None:
        self._clock = clock
        self._entries = entries
        self._size = size
        self._weight = 0
        self._kept: dict[Key, _Kept] = {}  # in the order of use

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Outcome | None:
        """What is known, the `ttl` being what is left of it; None when it must be asked."""
        kept = self._kept.pop(key, None)
        if kept is None:
            return None
        now = self._clock()
        # A clock that was set back must not make anything last longer.
        if not kept.since <= now < kept.until:
            self._weight -= kept.weight
            return None
        self._kept[key] = kept
        outcome = kept.outcome
        if isinstance(outcome, str):
            return outcome
        return Answer(
            outcome.name, outcome.records, outcome.exists, outcome.secure, kept.until - now
        )

    def put(self, key: Key, outcome: Outcome) -> Outcome:
        """Keep it; returns it with its `ttl` as it is kept."""
        if isinstance(outcome, str):
            ttl = FAILURE
        else:
            ceiling = CEILING if outcome.records else ABSENCE_CEILING
            ttl = min(max(outcome.ttl, FLOOR), ceiling)
            outcome = Answer(outcome.name, outcome.records, outcome.exists, outcome.secure, ttl)
        self._drop(key)
        now = self._clock()
        kept = _Kept(outcome, now, now + ttl, _weigh(key, outcome))
        self._kept[key] = kept
        self._weight += kept.weight
        while len(self._kept) > self._entries or self._weight > self._size:
            self._drop(next(iter(self._kept)))
        return outcome

    def _drop(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._weight -= kept.weight


def _weigh(key: Key, outcome: Outcome) -> int:
    """Bytes that it takes in memory, within a factor of two."""
    weight = 500 + len(key[1])
    if isinstance(outcome, str):
        return weight + len(outcome)
    for record in outcome.records:
        # What has no fixed length is the record itself (str, bytes) or the last part of it (Mx, Tlsa).
        weight += 150 + len(record if isinstance(record, str | bytes) else record[-1])
    return weight
