"""When a certificate is renewed, and when a CA that said no is asked again. Pure: times in, times out.

All times are seconds since 1970, or seconds; `chance` is a number from 0 up to 1 that somebody drew.

Promises: a CA is never asked more often than every few minutes for a certificate, whatever it says and however often we
are restarted; it is asked once a day at least, whatever it says; and no word of a CA makes us renew later than five
sixths of a certificate's life.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .interfaces import Window

__all__ = [
    "ARI_MAX",
    "ARI_MIN",
    "Lifetime",
    "alarm_at",
    "bounded_wait",
    "next_check",
    "pause",
    "planned",
    "renew_at",
    "suggested",
]

_DAY: Final = 86_400.0

# Let's Encrypt counts five failed validations of a name in an hour.
_FIRST_PAUSE: Final = 900.0
_LAST_PAUSE: Final = 6 * 3600.0
_LONGEST_PAUSE: Final = _DAY

ARI_MIN: Final = 3600.0
ARI_USUAL: Final = 6 * 3600.0
ARI_MAX: Final = _DAY
_FRESH: Final = 6 * 3600.0
"""A certificate younger than this is not renewed for a window: a CA that always says "now" would be asked for ever."""


class Lifetime(NamedTuple):
    """From when until when a certificate is valid."""

    start: float
    end: float

    @property
    def length(self) -> float:
        return max(0.0, self.end - self.start)


def renew_at(life: Lifetime, chance: float) -> float:
    """Two thirds of the lifetime, or up to a thirtieth of it earlier: who began together does not come together."""
    return life.start + life.length * (2 / 3 - chance / 30)


def suggested(window: Window, chance: float) -> float | None:
    """A moment in the CA's window, each as likely as any other (RFC 9773 section 4.2); None for no window at all."""
    if not 0 <= window.start < window.end:  # RFC 9773 section 4.2: "MUST treat ... as an error"
        return None
    return window.start + (window.end - window.start) * chance


def planned(life: Lifetime, chance: float, wish: float | None) -> float:
    """When to renew. `wish`: the moment in the CA's window, if it gave one; it counts within bounds."""
    if wish is None:
        return renew_at(life, chance)
    earliest = life.start + min(_FRESH, life.length / 2)
    return min(max(wish, earliest), life.start + life.length * 5 / 6)


def pause(failures: int, chance: float, asked: float | None) -> float:
    """How long to wait after so many failures in a row (from 1 on): 15 minutes, doubled, to 6 hours, roughly.

    `asked`: the CA's Retry-After, which may make it a day.
    """
    length: float = min(_FIRST_PAUSE * 2.0 ** min(max(failures, 1) - 1, 10), _LAST_PAUSE)
    length *= 0.8 + 0.4 * chance
    if asked is None or not asked > length:
        return length
    return min(asked, _LONGEST_PAUSE)


def bounded_wait(until: float, now: float) -> float:
    """`until` as it was written down, unless a clock was wrong then: never further away than the longest pause."""
    return min(until, now + _LONGEST_PAUSE) if until == until else now


def next_check(now: float, asked: float | None) -> float:
    """When the CA's window is asked for again (RFC 9773 section 4.3.1); `asked`: its Retry-After."""
    wait = ARI_USUAL if asked is None or asked != asked else asked
    return now + min(max(wait, ARI_MIN), ARI_MAX)


def alarm_at(life: Lifetime, days: int) -> float:
    """From when on a certificate that is not renewed is a matter for somebody to look at."""
    return life.end - min(days * _DAY, life.length / 6)
