"""How often somebody may: token buckets for client addresses, networks, sender domains and accounts.

    rates = Rates(RateSettings(), world.now)
    if (slowed := rates.mail("203.0.113.7", "example.net")) is not None:
        raise slowed.error

A bucket holds `burst` tokens and gets one every `seconds / most`; kept as one number, the time at which it is full
again (the "virtual scheduling" form of ITU-T I.371, known as GCRA). Either all buckets that an event concerns have what
it costs, or nothing is taken from any.

Bounded: `size` keys a limit, about 200 bytes each: 4 MB for each limit that is set, of 16. The key that was used
longest ago goes first; full buckets go before that, as they say nothing. Who has many addresses can make us forget
some; each network is counted as a whole for that, and those are fewer.

Only accounts are worth remembering over a restart: `Rates.take` gives what changed, `Rates.load` takes it back.

Where several processes serve a site (`Rates.join`), each has all buckets and hears what is taken from the others'. Who
comes to all at once, before they have heard of it, may take a burst from each; it becomes a debt in all of them.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from math import ceil
from typing import Final, NamedTuple

from ..siblings import News, Siblings
from ..status import MailError
from .limits import client_network

__all__ = [
    "Buckets",
    "Limit",
    "Limits",
    "RateSettings",
    "Rates",
    "Row",
    "Slowed",
    "time_text",
    "wider_network",
]

KIND: Final = "rate"
TAKEN: Final = "rate"
"""News: scope, what, key, amount."""
_NUMBER = struct.Struct("<d")

Row = tuple[str, bytes, float, bytes]
"""Kind, key, until when it means something (seconds since 1970; 0: forget it), value. For `storage.reputation`."""


class Limit(NamedTuple):
    """`most` in `seconds`, and not more than `burst` of them at once (None: `most`)."""

    most: float
    seconds: float
    burst: float | None = None


class Buckets:
    """One bucket for each key, at most `size`. `now`: seconds. A clock that is set back makes nobody wait longer.

    Raises ValueError for a limit that allows nothing.
    """

    __slots__ = ("_burst", "_changed", "_full", "_interval", "_now", "_size")

    def __init__(self, limit: Limit, now: Callable[[], float], size: int = 20_000) -> None:
        burst = limit.most if limit.burst is None else limit.burst
        if not (limit.most > 0 and limit.seconds > 0 and burst >= 1):
            raise ValueError("a limit must allow one at least, in some time")
        self._interval = limit.seconds / limit.most
        self._burst = burst * self._interval
        self._now = now
        self._size = size
        self._full: dict[str, float] = {}  # when it is full again; in the order of use
        self._changed: dict[str, None] | None = None

    def __len__(self) -> int:
        return len(self._full)

    def wait(self, key: str, amount: float = 1.0) -> float:
        """Seconds until `amount` may be taken; 0: now. More than a burst may be taken when the bucket is full."""
        now = self._now()
        ahead = self._ahead(key, now)
        # A rounding error of a microsecond must not make anybody wait
        late = ahead + min(amount * self._interval, self._burst) - self._burst
        return late if late > 1e-6 else 0.0

    def take(self, key: str, amount: float = 1.0) -> float:
        """Take `amount`, and give 0; or nothing, and give the seconds to `wait`."""
        late = self.wait(key, amount)
        if not late:
            self.force(key, amount)
        return late

    def force(self, key: str, amount: float = 1.0) -> None:
        """Take it even when it is not there: who has it taken waits the longer. Debts end at a burst. Less than nothing
        is given back."""
        now = self._now()
        ahead = min(self._ahead(key, now) + amount * self._interval, 2 * self._burst)
        if ahead <= 0:
            self.forget(key)
            return
        full = self._full
        full.pop(key, None)
        full[key] = now + ahead
        if self._changed is not None:
            self._changed[key] = None
        # Two are looked at for one that comes: what is full goes soon, without a sweep
        for _ in range(2):
            oldest = next(iter(full))
            if full[oldest] > now and len(full) <= self._size:
                break
            del full[oldest]
            if not full:
                break

    def owes(self, key: str) -> bool:
        """Whether anything is missing."""
        return key in self._full

    def left(self, key: str) -> float:
        """Tokens that are there."""
        return (self._burst - self._ahead(key, self._now())) / self._interval

    def forget(self, key: str) -> None:
        """Fill the bucket."""
        if self._full.pop(key, None) is not None and self._changed is not None:
            self._changed[key] = None

    def watch(self) -> None:
        """From now on `changes` tells what changed."""
        self._changed = {}

    def changes(self, most: int) -> list[tuple[str, float]]:
        """Keys that changed since they were last told, at most `most`, each with when it is full (0: it is)."""
        if not self._changed:
            return []
        keys = list(self._changed)[:most]
        for key in keys:
            del self._changed[key]
        return [(key, self._full.get(key, 0.0)) for key in keys]

    def put(self, key: str, full: float) -> None:
        """Take back what `changes` told."""
        if len(self._full) < self._size:
            self._full[key] = full

    def _ahead(self, key: str, now: float) -> float:
        full = self._full.get(key)
        ahead = 0.0 if full is None else full - now
        # Debts end at two bursts: the clock was set back, and what was owed before nobody knows.
        return ahead if 0.0 < ahead <= 2 * self._burst + 1e-6 else 0.0


class Limits(NamedTuple):
    """Of one key. None: no limit."""

    connections: Limit | None = None
    messages: Limit | None = None
    recipients: Limit | None = None
    bad_recipients: Limit | None = None
    """Recipients that do not exist: who has too many of them tries out addresses."""


class RateSettings(NamedTuple):
    """`address` is a client's (IPv6: its /64), `network` its /24 or /48, `domain` that of MAIL FROM, `account` who
    logged in; his recipients here count for nothing. Clients that are trusted are not counted by the caller.

    Defaults stop who tries out addresses and accounts that send to thousands a day; large senders have no limit.
    """

    address: Limits = Limits(bad_recipients=Limit(200, 3600, 50))
    network: Limits = Limits(bad_recipients=Limit(1000, 3600, 250))
    domain: Limits = Limits()
    account: Limits = Limits(messages=Limit(2000, 86400, 500), recipients=Limit(5000, 86400, 1000))
    size: int = 20_000


class Slowed(NamedTuple):
    """Who was too fast: `scope` (address, network, domain, account) and its `key`; `what`: a field of `Limits`; `wait`:
    seconds until it would be taken."""

    scope: str
    key: str
    what: str
    wait: float

    @property
    def error(self) -> MailError:
        """What the client is told (RFC 3463: X.7.1 is policy). Nothing in it is a peer's."""
        again = time_text(self.wait)
        whose = _WHOSE[self.scope]
        what = self.what.replace("_", " ").replace("bad", "unknown")
        key = f"{self.scope}_{'unknown' if self.what == 'bad_recipients' else self.what}"
        # Who tries out names is to begin again; so is who connects too often.
        code = 421 if self.what in ("connections", "bad_recipients") else 451
        return MailError(
            code,
            "4.7.1",
            f"Too many {what} from {whose}; try again in {again}",
            f"{key} of {self.key}",
        )


def time_text(seconds: float) -> str:
    """A time to wait, rounded up: ``90 seconds``, ``5 minutes``."""
    whole = max(1, ceil(seconds))
    if whole == 1:
        return "1 second"
    return f"{whole} seconds" if whole < 120 else f"{-(-whole // 60)} minutes"


_WHOSE: Final = {
    "address": "your address",
    "network": "your network",
    "domain": "this sender's domain",
    "account": "your account",
}
_SCOPES: Final = ("address", "network", "domain", "account")


class Rates:
    """All the buckets of a process. `now`: seconds since 1970. Each method gives None, or who was too fast.

    `remembers`: whether somebody will `take` what changed.
    """

    def __init__(
        self, settings: RateSettings, now: Callable[[], float], *, remembers: bool = True
    ) -> None:
        self._siblings: Siblings | None = None
        self._buckets: dict[tuple[str, str], Buckets] = {}
        for scope in _SCOPES:
            limits: Limits = getattr(settings, scope)
            for what in Limits._fields:
                limit: Limit | None = getattr(limits, what)
                if limit is not None:
                    self._buckets[scope, what] = Buckets(limit, now, settings.size)
        self._of = {
            what: tuple(
                (scope, self._buckets[scope, what])
                for scope in _SCOPES
                if (scope, what) in self._buckets
            )
            for what in Limits._fields
        }
        self._accounts = {
            what: bucket for (scope, what), bucket in self._buckets.items() if scope == "account"
        }
        if remembers:
            for bucket in self._accounts.values():
                bucket.watch()

    def join(self, siblings: Siblings) -> None:
        """From now on tell the other processes what is taken, and hear it from them."""
        self._siblings = siblings
        siblings.hear(TAKEN, self._hear)

    def __len__(self) -> int:
        """Keys in all buckets."""
        return sum(map(len, self._buckets.values()))

    def connect(self, ip: str) -> Slowed | None:
        """A connection."""
        return self._take("connections", ip) if self._of["connections"] else None

    def mail(self, ip: str, domain: str = "", account: str = "") -> Slowed | None:
        """A message begins. `domain`: of MAIL FROM, "" for ``<>``; `account`: who logged in, "" for nobody."""
        return self._take("messages", ip, domain, account) if self._of["messages"] else None

    def rcpt(
        self, ip: str, domain: str = "", account: str = "", departing: int = 0
    ) -> Slowed | None:
        """A recipient that exists. `departing`: to how many addresses elsewhere it leads; only they count for the
        account, for what users of a site write to each other is nobody else's concern."""
        if not self._of["recipients"]:
            return None
        return self._take("recipients", ip, domain, account if departing else "", departing)

    def bad_rcpt(self, ip: str, domain: str = "", account: str = "") -> Slowed | None:
        """A recipient that does not exist: it counts in any case, and then all others must wait (`may_try`)."""
        slowed = self._over("bad_recipients", ip, domain, account, 1)
        for scope, bucket in self._of["bad_recipients"]:
            if key := _key(scope, ip, domain, account):
                self._force("bad_recipients", scope, bucket, key, 1.0)
        return slowed

    def taken(self, ip: str, domain: str, recipients: int) -> None:
        """A message was taken: who sends much that arrives, names some that are gone, and for each recipient that is
        there one of those is forgiven."""
        for scope, bucket in self._of["bad_recipients"]:
            key = _key(scope, ip, domain, "")
            if key and bucket.owes(key):
                self._force("bad_recipients", scope, bucket, key, -float(recipients))

    def may_try(self, ip: str, domain: str = "", account: str = "") -> Slowed | None:
        """Whether who had too many unknown recipients may name another one. Takes nothing."""
        if not self._of["bad_recipients"]:
            return None
        return self._over("bad_recipients", ip, domain, account, 1)

    def forgive(self, account: str) -> None:
        """An account begins anew."""
        for bucket in self._accounts.values():
            bucket.forget(account)

    def take(self, most: int = 1000) -> list[Row]:
        """What of the accounts changed since the last call, at most about `most` rows."""
        rows: list[Row] = []
        for what, bucket in self._accounts.items():
            rows += [
                (KIND, f"{what} {key}".encode("utf-8", "surrogateescape"), full, _NUMBER.pack(full))
                for key, full in bucket.changes(most - len(rows))
            ]
        return rows

    def load(self, rows: Iterable[Row]) -> None:
        """What was kept; what is not understood is passed over."""
        for kind, key, _, value in rows:
            if kind == KIND and len(value) == _NUMBER.size:
                what, _, account = key.decode("utf-8", "surrogateescape").partition(" ")
                (full,) = _NUMBER.unpack(value)
                if (bucket := self._accounts.get(what)) is not None and full == full:
                    bucket.put(account, full)

    def _take(
        self, what: str, ip: str, domain: str = "", account: str = "", departing: int = 1
    ) -> Slowed | None:
        slowed = self._over(what, ip, domain, account, departing)
        if slowed is None:
            for scope, bucket in self._of[what]:
                if key := _key(scope, ip, domain, account):
                    amount = departing if scope == "account" else 1.0
                    self._force(what, scope, bucket, key, amount)
        return slowed

    def _force(self, what: str, scope: str, bucket: Buckets, key: str, amount: float) -> None:
        bucket.force(key, amount)
        if self._siblings is not None:
            self._siblings.tell(TAKEN, (scope, what, key, amount))

    def _hear(self, news: News) -> None:
        scope, what, key, amount = news
        bucket = self._buckets.get((str(scope), str(what)))
        if bucket is not None:
            bucket.force(str(key), float(amount))

    def _over(self, what: str, ip: str, domain: str, account: str, departing: int) -> Slowed | None:
        for scope, bucket in self._of[what]:
            if key := _key(scope, ip, domain, account):
                late = bucket.wait(key, departing if scope == "account" else 1.0)
                if late:
                    return Slowed(scope, key, what, late)
        return None


def _key(scope: str, ip: str, domain: str, account: str) -> str:
    if scope == "address":
        return client_network(ip)
    if scope == "network":
        return wider_network(ip)
    return domain if scope == "domain" else account


@lru_cache(maxsize=4096)
def wider_network(ip: str, bits4: int = 24, bits6: int = 48) -> str:
    """The network that an address is in, as ``203.0.113.0/24``; what is no address is returned as it is."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if isinstance(address, ipaddress.IPv4Address):
        cut = 32 - bits4
        return f"{ipaddress.IPv4Address(int(address) >> cut << cut)}/{bits4}"
    cut = 128 - bits6
    return f"{ipaddress.IPv6Address(int(address) >> cut << cut)}/{bits6}"
