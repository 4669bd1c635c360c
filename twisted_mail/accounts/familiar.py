"""Who is at home where, and which wrong passwords have been tried: what tells real users from guessers.

`Familiar` knows which accounts have logged in from which networks lately, `Mistakes` the last wrong passwords of each
account: a telephone that has kept an old one tries it for weeks, a guesser never tries one twice. Both are bounded. Of
passwords there is a short hash under a key of the site, in memory only.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from ..siblings import News

__all__ = ["Familiar", "Mistakes", "Row"]

KIND: Final = "login"
DAYS: Final = 30
_DAY: Final = 86_400.0

Row = tuple[str, bytes, float, bytes]
"""Kind, key, until when it means something (seconds since 1970; 0: forget it), value. For `storage.reputation`."""


class Familiar:
    """Pairs of a network and an account, as texts, that have been right within `DAYS` days; at most `size`, the one
    that was right longest ago goes first. `now`: seconds since 1970."""

    def __init__(
        self, now: Callable[[], float], size: int = 20_000, *, remembers: bool = False
    ) -> None:
        self._now = now
        self._size = size
        self._right: OrderedDict[str, float] = OrderedDict()
        self._networks: dict[str, int] = {}
        self._changed: dict[str, None] | None = {} if remembers else None

    def __len__(self) -> int:
        return len(self._right)

    def __contains__(self, pair: str) -> bool:
        last = self._right.get(pair)
        return last is not None and self._now() - last < DAYS * _DAY

    def has_network(self, network: str) -> bool:
        """Whether somebody is at home in `network`."""
        return network in self._networks

    def add(self, pair: str) -> bool:
        """It was right just now. A pair begins with its network and a space. True when that is worth telling others: it
        is new, or another day."""
        now = self._now()
        last = self._right.get(pair)
        if last is not None and abs(now - last) < _DAY:
            self._right.move_to_end(pair)
            return False
        self._put(pair, now)
        if self._changed is not None:
            self._changed[pair] = None
        return True

    def hear(self, news: News) -> None:
        """What an `Authenticator` of another process tells: client, account, home, …."""
        self.add(str(news[2]))

    def take(self, most: int = 1000) -> list[Row]:
        """What is new since it was last taken, at most `most` rows."""
        if not self._changed:
            return []
        pairs = list(self._changed)[:most]
        for pair in pairs:
            del self._changed[pair]
        return [
            (KIND, pair.encode("utf-8", "surrogateescape"), last + DAYS * _DAY, b"")
            for pair in pairs
            if (last := self._right.get(pair)) is not None
        ]

    def load(self, rows: Iterable[Row]) -> None:
        """What was kept; rows of others are passed over."""
        for kind, key, until, _ in rows:
            pair = key.decode("utf-8", "surrogateescape")
            if kind == KIND and pair not in self._right:
                self._put(pair, until - DAYS * _DAY)

    def _put(self, pair: str, when: float) -> None:
        right, networks = self._right, self._networks
        if right.pop(pair, None) is None:
            network = pair.partition(" ")[0]
            networks[network] = networks.get(network, 0) + 1
        right[pair] = when
        if len(right) > self._size:
            gone, _ = right.popitem(last=False)
            network = gone.partition(" ")[0]
            if networks[network] > 1:
                networks[network] -= 1
            else:
                del networks[network]


class Mistakes:
    """The last `EACH` wrong passwords of each account, at most `size` accounts. All processes of a site have the same
    `key`, so that they can tell each other."""

    EACH: Final = 8

    def __init__(self, key: bytes, size: int = 10_000) -> None:
        self._key = key
        self._size = size
        self._made: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._made)

    def digest(self, account: str, password: bytes) -> str:
        """64 bits that tell it from others; with the key they would not tell what it was."""
        text = account.encode(errors="surrogatepass") + b"\0" + password
        return hashlib.blake2b(text, key=self._key, digest_size=8).hexdigest()

    def again(self, account: str, digest: str) -> bool:
        """Take note of a wrong password of `account`; whether it was one of the last ones already."""
        made = self._made.pop(account, None)
        if made is None:
            made = OrderedDict()
        self._made[account] = made
        if len(self._made) > self._size:
            self._made.popitem(last=False)
        known = digest in made
        made[digest] = None
        made.move_to_end(digest)
        if len(made) > self.EACH:
            made.popitem(last=False)
        return known

    def forget(self, account: str) -> None:
        """Begin anew with it."""
        self._made.pop(account, None)
