"""How many sessions each account has open; one object for all listeners, given the site's counts for all processes."""

from __future__ import annotations

from ..siblings import Counts, LocalCounts

__all__ = ["Seats"]


class Seats:
    """At most `most` of one account. `counts` None: of this process."""

    def __init__(self, most: int, counts: Counts | None = None) -> None:
        self._most = most
        self._counts = LocalCounts() if counts is None else counts

    def take(self, account: str) -> bool:
        """False when there is none left."""
        return self._counts.take(account, self._most)

    def give_back(self, account: str) -> None:
        """What `take` gave."""
        self._counts.give_back(account)
