"""Which filters fail, for the log: a line when one begins to, now and then while it goes on, and when it works again.

Mail goes on without a filter that fails under ``on_failure = "accept"``: nobody would see it anywhere else.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.logger import Logger

__all__ = ["Health"]

_log = Logger()
EVERY: Final = 60.0
"""Seconds between two lines on the failures of one filter."""


class _Trouble:
    """`unsaid` failures since the line `said` (in seconds), `failures` since it worked; `told`: the log knows."""

    __slots__ = ("failures", "said", "told", "unsaid")

    def __init__(self) -> None:
        self.failures = self.unsaid = 0
        self.said: float | None = None
        self.told = False


class Health:
    """Of the filters of a site, by name. `clock`: IReactorTime."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._troubles: dict[str, _Trouble] = {}

    def failed(self, name: str, why: str, then: str) -> None:
        """It could not be asked, or answered nonsense. `then`: what became of it (accept, tempfail, reject)."""
        # As many as filters: their names are the site's.
        trouble = self._troubles.get(name)
        if trouble is None:
            trouble = self._troubles[name] = _Trouble()
        trouble.failures += 1
        trouble.unsaid += 1
        now = self._clock.seconds()
        if trouble.said is not None and now - trouble.said < EVERY:
            return
        _log.warn("filter fails", filter=name, error=why, failures=trouble.unsaid, then=then)
        trouble.said, trouble.unsaid, trouble.told = now, 0, True

    def works(self, name: str) -> None:
        """It has answered."""
        trouble = self._troubles.get(name)
        if trouble is None or not trouble.failures:
            return
        if trouble.told:
            _log.warn("filter works again", filter=name, failures=trouble.failures)
            trouble.told = False
            trouble.unsaid = 0
        trouble.failures = 0
