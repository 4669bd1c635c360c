"""The queue's spool in memory: it outlives the queue manager.

A test can drop one manager at any moment and start the next on the same spool. It takes simulated time when it is told
to, and none otherwise.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from twisted.internet.defer import Deferred

from ..content import BytesContent
from ..interfaces import Content
from ..queue.interfaces import Turn
from ..status import MailError
from ..storage.queued import (
    Attempt,
    Backoff,
    Change,
    QueuedMessage,
    QueuedRecipient,
    State,
    Taken,
)
from ..world import World

__all__ = ["MemorySpool", "queued_message", "sleep"]


def sleep(world: World, seconds: float) -> Deferred[None]:
    """Fires after `seconds` of the world's clock; may be cancelled."""
    timer: Any = None
    slept: Deferred[None] = Deferred(lambda _: timer.cancel())
    timer = world.reactor.callLater(seconds, slept.callback, None)
    return slept


def queued_message(
    identity: str,
    *to: str | QueuedRecipient,
    arrived: float,
    sender: str = "alice@home.example",
    lifetime: float = 5 * 86400,
    warn_after: float | None = None,
    **more: Any,
) -> QueuedMessage:
    """A message to addresses, whose hops are their domains."""
    recipients = tuple(
        one if isinstance(one, QueuedRecipient) else QueuedRecipient(one, one.rpartition("@")[2])
        for one in to
    )
    warn = None if warn_after is None else arrived + warn_after
    return QueuedMessage(identity, sender, recipients, arrived, arrived + lifetime, warn, **more)


@dataclass(slots=True)
class Row:
    """One recipient as the disk has it."""

    message: QueuedMessage
    number: int
    hop: str
    state: State
    due: float
    tries: int = 0
    last: Attempt | None = None


@dataclass(slots=True)
class _Hop:
    due: list[tuple[float, int, tuple[str, int]]] = field(default_factory=list)
    at: float = inf
    backoff: Backoff | None = None


class MemorySpool:
    """`queue.interfaces.Spool`. `rows` by (message, number); `attempts` by message.

    `lag`: seconds that every call takes. `fail`: raised by every call while it is set.
    """

    def __init__(self, world: World, *, lag: float | None = None) -> None:
        self._world = world
        self.lag = lag
        self.fail: Exception | None = None
        self.messages: dict[str, QueuedMessage] = {}
        self.rows: dict[tuple[str, int], Row] = {}
        self.attempts: dict[str, list[Attempt]] = {}
        self.deadlines: dict[str, float] = {}
        self.warnings: dict[str, float] = {}
        self.content = b"From: alice@home.example\nSubject: Test\n\nHello\n"
        self.unreadable = False
        self.runner = False
        self.calls: Counter[str] = Counter()
        self._hops: dict[str, _Hop] = {}
        self._heap: list[tuple[float, str]] = []
        self._order = 0
        self._changed = False
        self._claim: Callable[[QueuedMessage], bool] | None = None
        self._claimed: Callable[[Sequence[QueuedMessage]], None] | None = None

    async def _called(self, name: str) -> None:
        self.calls[name] += 1
        if self.lag is not None:
            await sleep(self._world, self.lag)
        if self.fail is not None:
            raise self.fail

    # -- what tests do to it

    def accept(self, *messages: QueuedMessage) -> None:
        """Mail that was committed: by the short way when the manager takes it, else due at once."""
        claims = []
        for message in messages:
            active = not message.held and self._claim is not None and self._claim(message)
            if active:
                claims.append(message)
            self.messages[message.id] = message
            self.attempts[message.id] = []
            if not message.held:
                self.deadlines[message.id] = message.expires
            if message.warn is not None:
                self.warnings[message.id] = message.warn
            for number, recipient in enumerate(message.recipients):
                key = (message.id, number)
                row = Row(message, number, recipient.hop, State.ACTIVE, 0.0)
                self.rows[key] = row
                if message.held:
                    row.state = State.HELD
                elif not active:
                    self._wait(row, State.WAITING, message.arrived)
        if claims and self._claimed is not None:
            self._world.threads.back(self._claimed, claims)

    def by_hand(self, change: Change) -> None:
        """What another process, ``mailctl`` say, does."""
        self.apply(change)
        self._changed = True

    def crash(self) -> None:
        """The process that runs the queue is gone."""
        self.runner = False
        self._claim = self._claimed = None

    def states(self, identity: str) -> list[State]:
        """Of a message's recipients, in their order."""
        return [
            self.rows[identity, number].state
            for number in range(len(self.messages[identity].recipients))
        ]

    def count(self, *states: State) -> int:
        """Recipients in these states."""
        return sum(row.state in states for row in self.rows.values())

    def backoff(self, hop: str) -> Backoff | None:
        """What is known of a destination that fails."""
        known = self._hops.get(hop)
        return known.backoff if known else None

    # -- changes

    def apply(self, change: Change) -> None:
        """What is committed."""
        self.attempts[change.message] += change.attempts
        for number, state, due, which in change.verdicts:
            row = self.rows[change.message, number]
            if row.state.final or (state is State.DEFERRED and row.state is State.HELD):
                continue
            if which >= 0 and state in (State.DEFERRED, State.DELIVERED, State.BOUNCED):
                row.tries += 1
                row.last = change.attempts[which]
            if state in (State.DEFERRED, State.WAITING):
                self._wait(row, state, due, lift=state is State.WAITING)
            else:
                row.state = state
                row.due = inf
        if change.warned:
            self.warnings.pop(change.message, None)
        if change.give_up:
            self.deadlines[change.message] = 0.0
        if all(state.final for state in self.states(change.message)):
            self.deadlines.pop(change.message, None)
            self.warnings.pop(change.message, None)

    def _wait(self, row: Row, state: State, due: float, *, lift: bool = False) -> None:
        row.state = state
        row.due = due
        hop = self._hops.setdefault(row.hop, _Hop())
        self._order += 1
        heapq.heappush(hop.due, (due, self._order, (row.message.id, row.number)))
        if lift and hop.backoff is not None:
            hop.backoff = hop.backoff._replace(until=0.0)
        until = hop.backoff.until if hop.backoff else 0.0
        self._look(row.hop, hop, min(hop.at, max(due, until)))

    def _look(self, name: str, hop: _Hop, at: float) -> None:
        hop.at = at
        if at < inf:
            heapq.heappush(self._heap, (at, name))

    # -- queue.interfaces.Spool

    async def acquire(self) -> bool:
        await self._called("acquire")
        if self.runner:
            return False
        self.runner = True
        for row in self.rows.values():
            if row.state is State.ACTIVE:
                self._wait(row, State.DEFERRED if row.tries else State.WAITING, 0.0)
        for name, hop in self._hops.items():
            if hop.due:
                self._look(name, hop, hop.backoff.until if hop.backoff else 0.0)
        return True

    async def release(self) -> None:
        await self._called("release")
        self.crash()

    def attach(
        self,
        claim: Callable[[QueuedMessage], bool],
        claimed: Callable[[Sequence[QueuedMessage]], None],
        dropped: Callable[[Sequence[QueuedMessage]], None] = lambda _: None,
    ) -> None:
        self._claim = claim
        self._claimed = claimed

    def changed(self) -> bool:
        changed, self._changed = self._changed, False
        return changed

    async def take(
        self, now: float, limit: int, share: Callable[[str], int], reopened: Sequence[str] = ()
    ) -> Turn:
        await self._called("take")
        for name in reopened:
            hop = self._hops.get(name)
            if hop is not None and hop.at == inf:
                self._look(name, hop, hop.backoff.until if hop.backoff else 0.0)
        taken: list[Taken] = []
        again: list[str] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < limit:
            at, name = heapq.heappop(self._heap)
            hop = self._hops[name]
            if hop.at != at:
                continue  # it was moved
            hop.at = inf
            mine = share(name)
            want = min(mine, limit - len(taken))
            while want > 0 and (row := self._first(name, hop, now)) is not None:
                want -= 1
                row.state = State.ACTIVE
                row.due = inf
                taken.append(self._taken(row))
            row = self._first(name, hop, inf)
            if row is not None:
                heapq.heappush(hop.due, (row.due, 0, (row.message.id, row.number)))
                if row.due > now:
                    self._look(name, hop, max(row.due, hop.backoff.until if hop.backoff else 0.0))
                elif mine > 0 and len(taken) >= limit:
                    again.append(name)
        for name in again:
            self._look(name, self._hops[name], now)
        while self._heap and self._hops[self._heap[0][1]].at != self._heap[0][0]:
            heapq.heappop(self._heap)
        times = [self._heap[0][0]] if self._heap else []
        times += list(self.warnings.values()) if len(self.warnings) < 1000 else []
        times += list(self.deadlines.values()) if len(self.deadlines) < 1000 else []
        return Turn(taken, min(times, default=None))

    def _first(self, name: str, hop: _Hop, now: float) -> Row | None:
        due = hop.due
        while due and due[0][0] <= now:
            at, _, key = heapq.heappop(due)
            row = self.rows[key]
            if row.hop == name and row.due == at and row.state in (State.WAITING, State.DEFERRED):
                return row
        return None

    def _taken(self, row: Row) -> Taken:
        identity = row.message.id
        expires = self.deadlines.get(identity, row.message.expires)
        return Taken(self.messages[identity], row.number, row.tries, row.last, expires)

    async def put_back(self, items: Sequence[tuple[str, int]], due: float) -> None:
        await self._called("put_back")
        for key in items:
            row = self.rows[key]
            if row.state is State.ACTIVE:
                self._wait(row, State.DEFERRED if row.tries else State.WAITING, due)

    async def back_off(self, state: Backoff) -> None:
        await self._called("back_off")
        hop = self._hops.setdefault(state.hop, _Hop())
        hop.backoff = state if state.failures else None
        row = self._first(state.hop, hop, inf)
        if row is not None:
            heapq.heappush(hop.due, (row.due, 0, (row.message.id, row.number)))
            self._look(state.hop, hop, max(row.due, state.until if state.failures else 0.0))

    async def backoffs(self, hops: Sequence[str]) -> dict[str, Backoff]:
        await self._called("backoffs")
        found = ((name, self.backoff(name)) for name in hops)
        return {name: state for name, state in found if state is not None}

    async def rehop(self, items: Sequence[tuple[str, int]], hops: Sequence[str]) -> None:
        await self._called("rehop")
        for key, hop in zip(items, hops, strict=True):
            row = self.rows[key]
            row.hop = hop
            message = self.messages[key[0]]
            recipients = list(message.recipients)
            recipients[key[1]] = recipients[key[1]]._replace(hop=hop)
            self.messages[key[0]] = replace(message, recipients=tuple(recipients))
            self._wait(row, State.DEFERRED if row.tries else State.WAITING, 0.0)

    async def expired(self, now: float, limit: int) -> Sequence[Taken]:
        await self._called("expired")
        late = sorted((at, name) for name, at in self.deadlines.items() if at <= now)
        return self._whole((name for _, name in late), limit, (State.WAITING, State.DEFERRED))

    async def overdue(self, now: float, limit: int) -> Sequence[Taken]:
        await self._called("overdue")
        late = sorted((at, name) for name, at in self.warnings.items() if at <= now)
        open_ = tuple(state for state in State if not state.final)
        return self._whole((name for _, name in late), limit, open_)

    def _whole(
        self, identities: Iterable[str], limit: int, states: tuple[State, ...]
    ) -> list[Taken]:
        found: list[Taken] = []
        for identity in identities:
            rows = [
                self.rows[identity, number]
                for number in range(len(self.messages[identity].recipients))
            ]
            found += [self._taken(row) for row in rows if row.state in states]
            if len(found) >= limit:
                break
        return found

    async def current(self, ids: Sequence[str]) -> dict[tuple[str, int], Taken]:
        await self._called("current")
        return {
            (row.message.id, row.number): self._taken(row)
            for identity in ids
            for number in range(len(self.messages[identity].recipients))
            if (row := self.rows[identity, number]).state is State.ACTIVE
        }

    async def open(self, message: QueuedMessage) -> Content:
        await self._called("open")
        if self.unreadable:
            raise MailError(451, "4.3.0", "The message cannot be read")
        return BytesContent(self.content)

    async def prune(self, before: float, keep: int) -> None:
        await self._called("prune")
