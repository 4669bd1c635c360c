"""How many sessions each account has open; one object for all listeners."""

from __future__ import annotations

__all__ = ["Seats"]


class Seats:
    """At most `most` of one account."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: dict[str, int] = {}

    def take(self, account: str) -> bool:
        """False when there is none left."""
        taken = self._taken.get(account, 0)
        if taken >= self._most:
            return False
        self._taken[account] = taken + 1
        return True

    def give_back(self, account: str) -> None:
        """What `take` gave."""
        left = self._taken[account] - 1
        if left:
            self._taken[account] = left
        else:
            del self._taken[account]
