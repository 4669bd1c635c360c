"""Accounts that turn into a source of spam: noticed, slowed, and their owners told once.

A stolen password sends as fast as it may. What gives it away here: destinations refuse much of it, it goes to very many
different people, and the account never did that before. `Senders` counts for each account

- recipients elsewhere, by day, and from the days before its habit (a running mean of days on which it sent at all);
- different ones among them (linear counting in a bitmap of `BITS`, exact to some per cent up to `MAX_DISTINCT`;
  K.-Y. Whang et al., 1990);
- those refused for good, by a destination or here, as a share of a window that fades.

One that is over a limit is slowed to `slow` from then on, until `slowed_seconds` after the last sign; `Teller` hears
of it once each time. It is not shut out: a mistake (a newsletter) costs patience, not mail. An administrator may
`forgive`.

Where several processes serve a site (`join`), each counts what all have seen, and comes to the same end; only one of
them has a `Teller`.

Mail for recipients here is not counted, nor is what was not accepted. Bounded: `size` accounts, about 1 KB each, the
one that sent longest ago goes first; what is kept on disk (`take`, `load`) is about 0.6 KB each.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from hashlib import blake2b
from math import isfinite, log
from typing import Final, NamedTuple, Protocol

from ..siblings import News, Siblings
from ..status import MailError
from .rates import Buckets, Limit, Row

__all__ = ["Alarm", "SenderSettings", "Senders", "Teller"]

KIND: Final = "sender"
SENT: Final = "sender sent"
"""News: account, which bit of its recipients."""
REFUSED: Final = "sender refused"
"""News: account."""
BITS: Final = 4096
MAX_DISTINCT: Final = 20_000
DAY: Final = 86_400
_FORM: Final = struct.Struct("<BddddddddB")
_VERSION: Final = 1
KEPT_DAYS: Final = 60
SETTLED: Final = 3
"""Days of sending before there is a habit to speak of."""


class SenderSettings(NamedTuple):
    """When an account is slowed, and how much.

    `refused`: so many recipients refused within about `window` seconds, if they are `refused_share` of all.
    `distinct`: different recipients in a day. `rise`: so many times its habit in a day, if that is `rise_least`
    recipients at least. 0 turns one off. `slow`: recipients elsewhere while it is slowed.
    """

    refused: float = 40
    refused_share: float = 0.25
    window: float = 3600
    distinct: int = 2000
    rise: float = 10
    rise_least: int = 300
    slow: Limit = Limit(20, 3600)
    slowed_seconds: float = 86_400
    size: int = 5000


class Alarm(NamedTuple):
    """An account is slowed. `cause` is for people, as are the numbers: of today, and of the fading window."""

    account: str
    cause: str
    since: float
    until: float
    slow: Limit
    sent: int
    distinct: int
    refused: int
    habit: float


class Teller(Protocol):
    """Who tells the owner and the administrator; must not wait, nor raise."""

    def slowed(self, alarm: Alarm) -> None:
        """Once when an account becomes slow."""


class _Account:
    __slots__ = (
        "at",
        "cause",
        "day",
        "days",
        "distinct",
        "habit",
        "refused",
        "slowed",
        "today",
        "tried",
    )

    def __init__(self, day: int, at: float) -> None:
        self.day = day
        self.today = 0.0
        self.habit = 0.0
        self.days = 0
        self.distinct = 0
        self.at = at
        """When `tried` and `refused` were right; they fade by half in half a window."""
        self.tried = 0.0
        self.refused = 0.0
        self.slowed = 0.0
        """Until when."""
        self.cause = ""


class Senders:
    """What all accounts of the site send. `now`: seconds since 1970; `teller` None: nobody is told."""

    def __init__(
        self, settings: SenderSettings, now: Callable[[], float], teller: Teller | None = None
    ) -> None:
        self._settings = settings
        self._now = now
        self._teller = teller
        self._accounts: dict[str, _Account] = {}  # in the order of use
        self._changed: dict[str, None] = {}
        self._slow = Buckets(settings.slow, now, settings.size)
        self._siblings: Siblings | None = None

    def join(self, siblings: Siblings) -> None:
        """From now on tell the other processes what is sent and refused, and hear it from them."""
        self._siblings = siblings
        siblings.hear(SENT, self._hear_sent)
        siblings.hear(REFUSED, self._hear_refused)

    def __len__(self) -> int:
        return len(self._accounts)

    def check(self, account: str, departing: int = 1) -> MailError | None:
        """At RCPT, before `sent`: whether the account may send to so many recipients elsewhere now; takes nothing."""
        known = self._accounts.get(account)
        if known is None or not known.slowed:
            return None
        if known.slowed <= self._now():
            self._over(account, known)
            return None
        slow = self._settings.slow
        # A bucket gives more than it holds at once when it is full; who is slowed sends in small parts.
        most = slow.most if slow.burst is None else slow.burst
        wait = self._slow.wait(account, departing) or (slow.seconds if departing > most else 0)
        if not wait:
            return None
        minutes = max(1, -(-round(wait) // 60))
        return MailError(
            451,
            "4.7.1",
            f"Your account sends unusually much and is slowed; try again in {minutes} minutes. If that was not you,"
            " change your password; if it was, ask your postmaster",
            f"account {account} is slowed: {known.cause}",
        )

    def sent(self, account: str, recipient: str) -> None:
        """A message of the account goes to `recipient` elsewhere."""
        # Any spread of bits will do, but nobody shall find addresses that share one
        digest = blake2b(recipient.encode("utf-8", "surrogateescape"), digest_size=4).digest()
        bit = int.from_bytes(digest, "little") % BITS
        self._sent(account, bit)
        if self._siblings is not None:
            self._siblings.tell(SENT, (account, bit))

    def _sent(self, account: str, bit: int) -> None:
        known = self._account(account)
        known.today += 1
        known.tried += 1
        known.distinct |= 1 << bit
        if known.slowed:
            self._slow.force(account)
        self._judge(account, known)

    def refused(self, account: str) -> None:
        """A recipient of the account's mail was refused for good: by its destination, or as unknown here."""
        self._refused(account)
        if self._siblings is not None:
            self._siblings.tell(REFUSED, (account,))

    def _refused(self, account: str) -> None:
        known = self._account(account)
        known.refused += 1
        self._judge(account, known)

    def slowed(self, account: str) -> str:
        """Why the account is slowed, "" when it is not."""
        known = self._accounts.get(account)
        return known.cause if known is not None and known.slowed > self._now() else ""

    def forgive(self, account: str) -> None:
        """An administrator says that all is well: it is slow no more, and today counts as its habit."""
        known = self._accounts.get(account)
        if known is not None:
            known.habit = max(known.habit, known.today)
            known.days = max(known.days, SETTLED)
            known.distinct = 0
            self._over(account, known)

    def take(self, most: int = 200) -> list[Row]:
        """Rows of accounts that changed since they were last taken, at most `most`."""
        rows: list[Row] = []
        for account in list(self._changed)[:most]:
            del self._changed[account]
            known = self._accounts.get(account)
            if known is not None:
                until = (known.day + KEPT_DAYS) * float(DAY)
                rows.append((KIND, account.encode("utf-8", "surrogateescape"), until, _pack(known)))
        return rows

    def load(self, rows: Iterable[Row]) -> None:
        """What was kept, the oldest first; what is not understood is passed over."""
        for kind, key, _, value in rows:
            if kind == KIND and (known := _unpack(value)) is not None:
                if len(self._accounts) >= self._settings.size:
                    break
                self._accounts[key.decode("utf-8", "surrogateescape")] = known

    def _hear_sent(self, news: News) -> None:
        account, bit = news
        self._sent(str(account), int(bit) % BITS)

    def _hear_refused(self, news: News) -> None:
        self._refused(str(news[0]))

    def _account(self, account: str) -> _Account:
        """Its numbers, faded and of today."""
        now = self._now()
        day = int(now) // DAY
        known = self._accounts.pop(account, None)
        if known is None:
            known = _Account(day, now)
            if len(self._accounts) >= self._settings.size:
                gone = next(iter(self._accounts))
                del self._accounts[gone]
                self._changed.pop(gone, None)
        self._accounts[account] = known
        self._changed[account] = None
        if known.day != day:
            # A day on which it is slowed is nobody's habit
            if known.today and not known.slowed:
                known.days += 1
                # The mean of its first days, then one that forgets in about ten
                share = max(1 / known.days, 0.1)
                known.habit += (known.today - known.habit) * share
            known.day, known.today, known.distinct = day, 0.0, 0
        elapsed = now - known.at
        if elapsed > 0:
            left = 0.25 ** (elapsed / self._settings.window)
            known.tried *= left
            known.refused *= left
        known.at = now
        return known

    def _judge(self, account: str, known: _Account) -> None:
        cause = self._cause(known)
        if not cause:
            return
        now = self._now()
        already = known.slowed > now
        known.slowed = now + self._settings.slowed_seconds
        known.cause = cause
        if not already and self._teller is not None:
            alarm = Alarm(
                account,
                cause,
                now,
                known.slowed,
                self._settings.slow,
                round(known.today),
                _distinct(known.distinct),
                round(known.refused),
                known.habit,
            )
            self._teller.slowed(alarm)

    def _cause(self, known: _Account) -> str:
        limits = self._settings
        # Those refused had been counted as sent, unless they were unknown here
        every = max(known.tried, known.refused)
        if (
            limits.refused
            and known.refused >= limits.refused
            and known.refused >= limits.refused_share * every
        ):
            return f"about {known.refused:.0f} of its last {every:.0f} recipients were refused"
        if (
            limits.distinct
            and known.today > limits.distinct
            and (count := _distinct(known.distinct)) > limits.distinct
        ):
            return f"it wrote to about {count} different recipients today"
        if (
            limits.rise
            and known.days >= SETTLED
            and known.today >= limits.rise_least
            and known.today > limits.rise * known.habit
        ):
            usual = f"on other days to about {known.habit:.0f}"
            return f"it wrote to {known.today:.0f} recipients today, {usual}"
        return ""

    def _over(self, account: str, known: _Account) -> None:
        known.slowed, known.cause = 0.0, ""
        known.tried = known.refused = 0.0
        self._slow.forget(account)
        self._changed[account] = None


def _distinct(bits: int) -> int:
    """How many different ones set these bits, about."""
    zero = BITS - bits.bit_count()
    return MAX_DISTINCT if zero < 32 else round(-BITS * log(zero / BITS))


def _pack(known: _Account) -> bytes:
    cause = known.cause.encode("utf-8", "replace")[:255]
    numbers = _FORM.pack(
        _VERSION,
        known.day,
        known.today,
        known.habit,
        known.days,
        known.at,
        known.tried,
        known.refused,
        known.slowed,
        len(cause),
    )
    return numbers + cause + known.distinct.to_bytes(BITS // 8, "little")


def _unpack(value: bytes) -> _Account | None:
    start = _FORM.size
    if len(value) < start:
        return None
    version, *numbers, length = _FORM.unpack_from(value)
    if version != _VERSION or len(value) != start + length + BITS // 8:
        return None
    if not all(isfinite(one) and one >= 0 for one in numbers):
        return None
    day, today, habit, days, at, tried, refused, slowed = numbers
    known = _Account(int(day), at)
    known.today, known.habit, known.days = today, habit, int(days)
    known.tried, known.slowed, known.refused = tried, slowed, refused
    known.cause = value[start : start + length].decode("utf-8", "replace")
    known.distinct = int.from_bytes(value[start + length :], "little")
    return known
