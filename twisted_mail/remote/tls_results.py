"""What became of TLS with destinations, counted by day, domain and policy: the stuff of RFC 8460's reports.

`TlsResults` is where deliveries note it. `TlsCounter` keeps it in memory, bounded: a few days, so many domains a day;
where reports are sent, `reports.counting.TlsCounts` takes its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from .tls_policy import Kind

__all__ = ["Failure", "Summary", "TlsCounter", "TlsResults"]

DAYS: Final = 3
MAX_DOMAINS: Final = 5_000
MAX_FAILURES: Final = 50
_DAY: Final = 86_400


class Failure(NamedTuple):
    """`result`: of RFC 8460 section 4.3; `host`: the MX, "" when none was reached; `address`: where it is."""

    result: str
    host: str = ""
    address: str = ""


class TlsResults(Protocol):
    """Where it is noted."""

    def success(self, domain: str, kind: Kind, policy: Sequence[str] = ()) -> None:
        """A session began as the policy wants it. `policy`: its lines (RFC 8460 section 4.4, policy-string)."""

    def failure(
        self, domain: str, kind: Kind, failure: Failure, policy: Sequence[str] = ()
    ) -> None:
        """One did not."""


@dataclass(slots=True)
class Summary:
    """One policy of one domain on one day."""

    successes: int = 0
    failures: Counter[Failure] = field(default_factory=Counter)
    omitted: int = 0
    """Failures that found no place in `failures`."""


class TlsCounter:
    """`clock` gives seconds since 1970."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._days: dict[int, dict[tuple[str, Kind], Summary]] = {}

    def success(self, domain: str, kind: Kind, policy: Sequence[str] = ()) -> None:
        if (summary := self._summary(domain, kind)) is not None:
            summary.successes += 1

    def failure(
        self, domain: str, kind: Kind, failure: Failure, policy: Sequence[str] = ()
    ) -> None:
        if (summary := self._summary(domain, kind)) is None:
            return
        if failure in summary.failures or len(summary.failures) < MAX_FAILURES:
            summary.failures[failure] += 1
        else:
            summary.omitted += 1

    def day(self, number: int) -> dict[tuple[str, Kind], Summary]:
        """What is known of a day (days since 1970, UTC)."""
        return self._days.get(number, {})

    def _summary(self, domain: str, kind: Kind) -> Summary | None:
        today = int(self._clock()) // _DAY
        day = self._days.get(today)
        if day is None:
            day = self._days[today] = {}
            for old in [one for one in self._days if not today - DAYS < one <= today]:
                del self._days[old]
        summary = day.get((domain, kind))
        if summary is None and len(day) < MAX_DOMAINS:
            summary = day[(domain, kind)] = Summary()
        return summary
