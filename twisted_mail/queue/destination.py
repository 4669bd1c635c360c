"""What is in memory of one destination: messages that wait for a connection, connections that stand, how it fares.

Values and counters; `manager` moves them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..storage.queued import Attempt, QueuedMessage, Taken
from .interfaces import Courier
from .schedule import Bucket, Health, Settings, Standing

__all__ = ["SLOW", "Batch", "Connection", "Destination", "Destinations", "batches", "own_batches"]

SLOW = 10
"""Messages that must get on well before a destination that was slow is as good as any other."""
REMEMBERED = 4096
"""Destinations without mail of which is remembered how they fared."""


class Batch:
    """Recipients of one message that share hop and `mail_from`: a transaction to be. `waiting`: in line still."""

    __slots__ = ("hop", "mail_from", "message", "taken", "waiting")

    def __init__(
        self, message: QueuedMessage, hop: str, mail_from: str, taken: list[Taken]
    ) -> None:
        self.message = message
        self.hop = hop
        self.mail_from = mail_from
        self.taken = taken
        self.waiting = True


def batches(taken: Iterable[Taken], most: int) -> Iterator[Batch]:
    """Group recipients, at most `most` in a batch, in the order in which they come."""
    open_: dict[tuple[str, str, str | None], Batch] = {}
    for one in taken:
        message = one.message
        recipient = message.recipients[one.number]
        key = (message.id, recipient.hop, recipient.mail_from)
        batch = open_.get(key)
        if batch is None or len(batch.taken) >= most:
            if batch is not None:
                yield batch
            mail_from = recipient.mail_from
            open_[key] = Batch(
                message, recipient.hop, message.sender if mail_from is None else mail_from, [one]
            )
        else:
            batch.taken.append(one)
    yield from open_.values()


def own_batches(message: QueuedMessage, most: int) -> Iterator[Batch]:
    """All recipients of a new message."""
    never: Attempt | None = None
    expires = message.expires
    recipients = message.recipients
    if len(recipients) == 1:
        only = recipients[0]
        sender = message.sender if only.mail_from is None else only.mail_from
        return iter((Batch(message, only.hop, sender, [Taken(message, 0, 0, never, expires)]),))
    return batches(
        (Taken(message, number, 0, never, expires) for number in range(len(recipients))), most
    )


class Connection:
    """One connection to `destination`, or one that is being opened; it holds a place among the bounded number.

    `since`: when it last got on. `served`: messages. `work`: what runs on it, None while it is idle. `fresh`: it is the
    first to a destination that nothing is known of, and does not stand yet; `probe`: to one that failed the last time.
    """

    __slots__ = (
        "courier",
        "destination",
        "fresh",
        "given_up",
        "opening",
        "probe",
        "served",
        "since",
        "slow",
        "work",
    )

    def __init__(self, destination: Destination, now: float, slow: bool) -> None:
        self.destination = destination
        self.courier: Courier | None = None
        self.work: Any = None
        self.opening = True
        self.fresh = False
        self.probe = False
        self.slow = slow
        self.served = 0
        self.since = now
        self.given_up = False


class Destination:
    """One hop. `held`: recipients in memory. `running`: connections at work or being opened (`opening`).

    `standing` is what it is counted as (`reclass`), a slow one with those that fail. `parked`: the spool has more, and
    waits to be asked.
    """

    __slots__ = (
        "asked",
        "bucket",
        "failed_at",
        "health",
        "held",
        "hop",
        "idle",
        "lines",
        "opening",
        "parked",
        "pumping",
        "resting",
        "running",
        "slow",
        "standing",
        "waiting",
    )

    def __init__(self, hop: str, settings: Settings, now: float) -> None:
        self.hop = hop
        self.health = Health(settings)
        self.lines: deque[Batch] = deque()
        self.held = 0
        self.running = 0
        self.opening = 0
        self.idle: list[Connection] = []
        self.bucket = Bucket(settings.rate, now) if settings.rate else None
        self.resting = False
        self.pumping = False
        self.standing = Standing.NEW
        self.slow = 0
        self.waiting = False
        self.parked = False
        self.asked = False
        self.failed_at = 0.0

    @property
    def deserved(self) -> Standing:
        """As what it is to be counted now."""
        return Standing.FAILING if self.slow else self.health.standing

    @property
    def empty(self) -> bool:
        """Nothing of it is in memory but what is known of it."""
        return not (self.held or self.running or self.idle)

    def next(self) -> Batch:
        """The first in line, which is in line no more."""
        batch = self.lines.popleft()
        batch.waiting = False
        return batch

    def all(self) -> list[Batch]:
        """All in line, which are in line no more."""
        found = list(self.lines)
        self.lines.clear()
        for batch in found:
            batch.waiting = False
        return found

    def surplus(self, keep: int) -> list[Batch]:
        """The last in line, behind `keep` of them; in line no more."""
        found = [self.lines.pop() for _ in range(max(0, len(self.lines) - keep))]
        found.reverse()
        for batch in found:
            batch.waiting = False
        return found

    def drop(self, batch: Batch) -> None:
        """It is in line no more."""
        self.lines.remove(batch)
        batch.waiting = False


class Destinations(dict[str, Destination]):
    """By hop: all that have something in memory, and a bounded number of which is remembered how they fared."""

    def __init__(self, settings: Settings, seconds: Callable[[], float]) -> None:
        super().__init__()
        self._settings = settings
        self._seconds = seconds
        self._resting: OrderedDict[str, None] = OrderedDict()

    def named(self, hop: str) -> Destination:
        """The destination of that name; one that is not known begins as new."""
        destination = self.get(hop)
        if destination is None:
            destination = self[hop] = Destination(hop, self._settings, self._seconds())
        else:
            self._resting.pop(hop, None)
        return destination

    def rest(self, destination: Destination) -> None:
        """When it is empty: only remember it, for as long as there is room."""
        if not destination.empty:
            return
        resting = self._resting
        resting[destination.hop] = None
        if len(resting) > REMEMBERED:
            hop, _ = resting.popitem(last=False)
            del self[hop]
