"""How much a run does: of each suite, and in how much time."""

from __future__ import annotations

from dataclasses import dataclass

import imap

__all__ = ["FULL", "QUICK", "SHARES", "Plan"]

SHARES = {
    "smtp": 640.0,
    "many": 260.0,
    "accounts": 375.0,
    "large": 210.0,
    "tls": 195.0,
    "idle": 120.0,
    "pop3": 135.0,
    "logins": 175.0,
    "imap": 520.0,
    "relay": 125.0,
    "growth": 270.0,
}
"""The usual suites in their order, and what part of the time each is given: about the seconds of three rounds on a
quiet machine of two cores, two of `imap` and `relay`. A first round has peers that later ones leave out, and another
one is begun when there is time for one as long: `smtp` and `many` are given more.
"""


@dataclass(frozen=True)
class Plan:
    """How much is done: at most so many `rounds` in so many `minutes`, of so many `seconds` a load; the others are
    counts.
    """

    minutes: float
    rounds: int
    seconds: float
    mailbox: int
    sessions: int
    queue: int
    destinations: int
    backlog: int
    imap: imap.Sizes
    largest: int
    sessions_of_tls: int
    connections: int
    accounts: tuple[int, ...]
    with_accounts: int


QUICK = Plan(
    15,
    2,
    1.0,
    mailbox=2000,
    sessions=5,
    queue=10_000,
    destinations=100,
    backlog=100_000,
    imap=imap.Sizes(huge=20_000, mail=2000, appended=300, times=5),
    largest=100_000,
    sessions_of_tls=200,
    connections=200,
    accounts=(10, 10_000),
    with_accounts=200,
)
FULL = Plan(
    45,
    3,
    2.5,
    mailbox=10_000,
    sessions=11,
    queue=100_000,
    destinations=1000,
    backlog=10**6,
    imap=imap.Sizes(),
    largest=10**6,
    sessions_of_tls=1200,
    connections=1000,
    accounts=(10, 10_000, 10**6),
    with_accounts=1000,
)
