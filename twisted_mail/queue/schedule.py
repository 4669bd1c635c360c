"""When what is tried: arithmetic over settings, times and random numbers that are given. Pure.

A recipient waits longer after each try (`next_try`), a destination after each failure of its own (`pause`). Neither is
put off past its end: the last try of a recipient is at the expiry of its message. `Health` is what is known of one
destination, and how many connections that is good for; `Bucket` keeps a rate.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Bucket", "Health", "Settings", "Standing", "next_try", "pause"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be configured. Times are seconds.

    `jitter` 0.1 means: from 10 % earlier to 10 % later, so that what failed together is not tried together.
    `warn_after` 0: nobody is warned. `rate`: messages a minute to one destination, 0: as many as go.
    `window`: recipients in memory, whatever the queue's size. `connections` that get on, over all destinations;
    `slow_connections`: so many more for those that do not: probes of destinations that failed the last time (half of
    them at most), and what has not been opened within `patience` (a third of it while others wait for a place), or not
    got a message across within `deliver_patience`. When all of these are taken, and others wait, who has been silent
    for `hurry` since the first connection to it began is cut off and backed off like any that fails; as a probe it
    gets its full time. More than `open_limit` and `deliver_limit` nobody gets. So with `d` destinations that nothing
    is known of, and do not answer, the others wait for about ``d / slow_connections * hurry`` seconds at most.
    `recipients` in a transaction, `messages` on a connection, which is kept for `idle` without one. `poll`: how often
    other processes' changes are looked for, `look`: how often for everything else; `acquire`: how often a second
    process asks whether it may run the queue. What is over is remembered for `remember`, and `remember_most` messages
    of it.
    """

    first_retry: float = 300
    factor: float = 2
    cap: float = 4 * 3600
    jitter: float = 0.1
    lifetime: float = 5 * 86400
    warn_after: float = 4 * 3600
    window: int = 1000
    concurrency: int = 20
    connections: int = 100
    slow_connections: int = 200
    patience: float = 3
    hurry: float = 10
    deliver_patience: float = 30
    rate: float = 0
    recipients: int = 100
    messages: int = 100
    idle: float = 5
    open_limit: float = 1800
    deliver_limit: float = 4 * 3600
    drain: float = 10
    poll: float = 0.5
    acquire: float = 3
    look: float = 60
    remember: float = 7 * 86400
    remember_most: int = 100_000

    def __post_init__(self) -> None:
        for name in (
            *("first_retry", "cap", "lifetime", "patience", "hurry", "open_limit"),
            "deliver_limit",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0")
        for name in ("window", "concurrency", "connections", "slow_connections", "messages"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.factor < 1 or not 0 <= self.jitter < 1 or self.rate < 0:
            raise ValueError(
                "factor must be at least 1, jitter from 0 to under 1, rate not below 0"
            )
        # RFC 5321 section 4.5.3.1.8: a server may refuse more
        if not 1 <= self.recipients <= 100:
            raise ValueError("recipients must be 1 to 100")

    # Shares of the window, so that no kind of destination fills it.

    @property
    def share(self) -> int:
        """Recipients in memory of a destination that is well."""
        return max(1, self.window // 4)

    @property
    def new_share(self) -> int:
        """Of one that nothing is known of."""
        return max(1, min(10, self.window // 20))

    @property
    def probe_share(self) -> int:
        """Of one that failed: the few messages of a probe."""
        return max(1, min(5, self.window // 50))

    @property
    def new_window(self) -> int:
        """Of all that nothing is known of."""
        return max(1, self.window // 2)

    @property
    def probe_window(self) -> int:
        """Of all that failed."""
        return max(1, self.window // 4)


def next_try(
    settings: Settings, now: float, tries: int, expires: float, random: float
) -> float | None:
    """When a recipient is tried again after its `tries`-th try (from 1) just now; None: its time is over.

    `random` from 0 to under 1. The last try is at `expires`.
    """
    if now >= expires:
        return None
    return min(now + pause(settings, tries, random), expires)


def pause(settings: Settings, failures: int, random: float) -> float:
    """Seconds that a destination is left alone after `failures` in a row (from 1)."""
    # 2^64 times anything is over any cap; a greater exponent would only overflow.
    exponent = min(max(failures, 1) - 1, 64)
    wait = min(settings.first_retry * settings.factor**exponent, settings.cap)
    return wait * (1 + settings.jitter * (2 * random - 1))


class Bucket:
    """A token bucket: `rate` a minute, and as many at once as come in a second, at least one."""

    __slots__ = ("_at", "_per_second", "_tokens", "size")

    def __init__(self, rate: float, now: float) -> None:
        self._per_second = rate / 60
        self.size = max(1.0, self._per_second)
        self._tokens = self.size
        self._at = now

    def take(self, now: float) -> float:
        """0 when one was taken, else the seconds until there is one."""
        # A clock that was set back gives nothing, and takes nothing away.
        self._tokens = min(self.size, self._tokens + max(0.0, now - self._at) * self._per_second)
        self._at = now
        # Waiting for exactly what is missing must end: rounding may leave a hair.
        if self._tokens >= 1 - 1e-6:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._per_second


class Standing(enum.IntEnum):
    """What is known of a destination."""

    WELL = 0
    """It has answered."""
    NEW = 1
    """Nothing yet: one connection, until it answers."""
    FAILING = 2
    """It failed the last time: backed off, or, when its time has come, probed by one connection."""


class Health:
    """One destination, as its connections fare. `limit`: how many of them it is good for just now.

    ======== ============ =====================================================
    from     event        to
    ======== ============ =====================================================
    NEW      opened       WELL, limit 2
    FAILING  opened       FAILING: a greeting is no delivery yet
    any      delivered    WELL; limit grows by one, to the most (slow start)
    any      answered     WELL: it does not want this message, but talks
    any      refused      the same, limit falls to what stands, while others stand; `AGAIN` messages later it may grow
    any      failed       FAILING, limit 1, one failure more
    any      setback      like failed at the third in a row, else the same
    ======== ============ =====================================================
    """

    __slots__ = (
        "_ceiling",
        "_setbacks",
        "_settings",
        "_since_refused",
        "failures",
        "limit",
        "since",
        "standing",
        "text",
        "until",
    )

    SETBACKS = 3
    """Connections in a row that break down with nothing delivered: it is the destination then, not the message."""

    AGAIN = 100
    """Messages after which one connection more than were to be had is tried for again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ceiling = settings.concurrency
        self._since_refused = 0
        self._setbacks = 0
        self.standing = Standing.NEW
        self.limit = 1
        self.failures = 0
        self.until = 0.0
        self.since = 0.0
        self.text = ""

    def opened(self) -> None:
        """A connection stands."""
        if self.standing is Standing.NEW:
            self.standing = Standing.WELL
            self.limit = min(2, self._ceiling)

    def delivered(self) -> bool:
        """A message was taken. True when the destination had failed before."""
        if self._ceiling < self._settings.concurrency:
            self._since_refused += 1
            if self._since_refused >= self.AGAIN:
                self._since_refused = 0
                self._ceiling += 1
        if self.limit < self._ceiling:
            self.limit += 1
        return self.answered()

    def answered(self) -> bool:
        """A message was refused or put off by a peer that goes on talking. True as above."""
        self._setbacks = 0
        if self.standing is Standing.WELL:
            return False
        recovered = self.standing is Standing.FAILING
        self.standing = Standing.WELL
        self.failures, self.until, self.since, self.text = 0, 0.0, 0.0, ""
        return recovered

    def refused(self, standing: int) -> None:
        """A connection more was not to be had, while `standing` others (1 or more) work: so many it is, for a while."""
        self._since_refused = 0
        self._ceiling = self.limit = max(1, min(standing, self._ceiling))

    def setback(self) -> bool:
        """A connection broke down with nothing delivered on it. True: back the destination off (`failed`)."""
        self._setbacks += 1
        return self._setbacks >= self.SETBACKS

    def failed(self, now: float, random: float, text: str) -> None:
        """Nothing can be handed over there just now: `until` is when to try again."""
        self.failures += 1
        if self.failures == 1:
            self.since = now
        self.until = now + pause(self._settings, self.failures, random)
        self.text = text
        self.standing = Standing.FAILING
        self.limit = 1
        self._ceiling = self._settings.concurrency
        self._setbacks = 0

    def learn(self, failures: int, since: float, until: float, text: str) -> None:
        """What the spool remembers of it."""
        if self.standing is Standing.NEW and failures:
            self.standing = Standing.FAILING
            self.failures, self.since, self.until, self.text = failures, since, until, text
