"""The queue manager: takes what is due from the spool, has it sent, and sees that every outcome is written down.

Promises: what is active on the disk is in the memory of the one who runs the queue until a change or a put-back of it
is on the disk, so nothing is lost, and nothing is sent twice by one manager. Memory holds a window of bounded size,
whatever the queue's. No destination, and no number of dead ones, keeps others from being sent to.

    spool ─ take ─→ window ─→ dispatcher (couriers) ─→ verdicts ─→ committer ─→ door ─→ journal
      ↑←─ put_back, back_off ─┘                                  (with its bounce)

All reads and unjournaled writes of the spool are made one after the other (`_turn`); one timer looks twice a second
whether there is reason for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..storage.queued import Backoff, QueuedMessage, Taken
from ..world import World
from .bounce import Bounces
from .committer import Committer, Step
from .destination import Batch, Destination, batches, own_batches
from .dispatcher import Dispatcher
from .interfaces import Carrier, Door, Outcome, Spool
from .lookout import Lookout
from .schedule import Settings, Standing, pause
from .verdicts import Judged, judge, judge_here
from .window import Window

__all__ = ["QueueManager"]

_log = Logger()

AGAIN = 5.0
"""Seconds until what failed in the spool is tried again."""


class QueueManager:
    """Runs the queue in `spool`, when no other process does.

    `hop_of(address, requiretls)` says where mail for an address goes by the routes of today (ValueError: unknown);
    `hostname` is what notices call this server; `double_bounces_to` gets what cannot be returned, "" for nobody.
    """

    def __init__(
        self,
        world: World,
        spool: Spool,
        carrier: Carrier,
        door: Door,
        settings: Settings,
        hop_of: Callable[[str, bool], str] | None = None,
        *,
        hostname: str,
        double_bounces_to: str = "",
    ) -> None:
        self._world = world
        self._spool = spool
        self._settings = settings
        self._hop_of = hop_of
        self._hostname = hostname
        self._bounces = bounces = Bounces(world, hostname, spool.open, double_bounces_to)
        self.destinations: dict[str, Destination] = {}
        """What is in memory of each hop."""
        self.window = Window(settings, self.destinations)
        self.dispatcher = Dispatcher(
            world,
            settings,
            carrier,
            spool.open,
            self.window,
            self.destinations,
            self,
            self._random,
        )
        self.committer = Committer(world, door, bounces, self._retry_at, self._room)
        self._lookout = Lookout(world, spool, settings, self.destinations, bounces, self.committer)
        self.running = False
        """Between `start` and `stop`."""
        self.acquired = False
        """Whether this process is the one that runs the queue."""
        self.delivered = self.deferred = self.bounced = self.taken = self.claimed = 0
        """Recipients, since the start of the process."""
        self._timer: Any = None
        self._turning = False
        self._turned: list[Deferred[None]] = []
        self._wake = -inf
        self._not_before = -inf
        self._look_at = -inf
        self._changed = False
        self._returned: dict[float, list[tuple[str, int]]] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._unasked: dict[str, None] = {}
        self._active: set[tuple[str, int]] = set()

    # -- life

    def start(self) -> None:
        """Begin: at once, or as soon as no other process runs the queue."""
        self.running = True
        self._tick()

    async def stop(self) -> None:
        """Take no more, let running transactions end, put back what was not tried, let another process run it."""
        self.running = False
        self.window.open = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for destination, waiting in self.dispatcher.unsent():
            self.untried(destination, waiting, self._world.now())
        await self.dispatcher.stop(self._world.reactor, self._settings.drain)
        if self._turning:
            turned: Deferred[None] = Deferred()
            self._turned.append(turned)
            await turned
        if not await self.committer.drain(self._settings.drain):
            _log.error(
                "outcomes could not be committed, they will be tried again",
                outcomes=self.committer.left,
            )
        if self.acquired:
            self.acquired = False
            self._not_before = -inf
            try:
                await self._errands()
                await self._spool.release()
            except Exception:
                _log.failure("the queue did not close well; the next start recovers it")

    def kick(self) -> None:
        """Look now for what is due."""
        self._wake = self._not_before = -inf
        self._go()

    # -- new mail

    def _claimed(self, messages: Sequence[QueuedMessage]) -> None:
        self.window.settle(messages)
        most = self._settings.recipients
        for message in messages:
            self.claimed += len(message.recipients)
            for batch in own_batches(message, most):
                self._add(batch, -inf)

    def _dropped(self, messages: Sequence[QueuedMessage]) -> None:
        self.window.settle(messages)

    def _add(self, batch: Batch, asked: float) -> Destination:
        """`asked`: when the spool said that it is due; -inf for new mail."""
        dispatcher = self.dispatcher
        identity = batch.message.id
        self._active.update([(identity, one.number) for one in batch.taken])
        destination = self.destinations.get(batch.hop)
        if destination is None or destination.empty:
            destination = dispatcher.destination(batch.hop)
            if not batch.hop:
                destination.health.opened()
                self.window.reclass(destination)
            elif not destination.asked:
                self._unasked[batch.hop] = None
        dispatcher.add(destination, batch)
        if not batch.hop:
            self._here(destination)
        elif not dispatcher.running or (
            destination.health.standing is Standing.FAILING and asked <= destination.failed_at
        ):
            destination.drop(batch)
            self.untried(destination, (batch,), self._world.now())
        else:
            dispatcher.pump(destination)
        return destination

    def _here(self, destination: Destination) -> None:
        """Mail that lies in a mailbox here already; its sender is owed the news."""
        now = self._world.now()
        for batch in destination.all():
            judged = judge_here(now, batch.message, batch.taken, self._hostname)
            self._commit(destination, batch, judged)

    # -- what the dispatcher tells (`Results`)

    @property
    def full(self) -> bool:
        return self.committer.full

    def outcomes(self, destination: Destination, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        now = self._world.now()
        health = destination.health
        until = health.until if health.standing is Standing.FAILING else 0.0
        message = batch.message
        judged = judge(self._settings, now, message, batch.taken, outcomes, self._random, until)
        attempts = judged.change.attempts
        for verdict, outcome in zip(judged.change.verdicts, outcomes, strict=True):
            _log.info(
                "{outcome}",
                outcome=verdict.state.name.lower(),
                message=message.id,
                recipient=message.recipients[verdict.number].address,
                host=outcome.host or batch.hop,
                tls=outcome.tls or None,
                reply=attempts[verdict.attempt].text,
                delay=round(now - message.arrived, 1),
            )
        self._commit(destination, batch, judged)

    def _commit(self, destination: Destination, batch: Batch, judged: Judged) -> None:
        delivered, deferred, bounced = judged.counts
        self.delivered += delivered
        self.deferred += deferred
        self.bounced += bounced
        change, told, _, due = judged
        if told and not self._bounces.recipient(batch.message):
            told = ()
        count = len(batch.taken)
        self.committer.put(
            Step(change, batch.message, told, self._committed, destination, count, due)
        )

    def _committed(self, step: Step) -> None:
        if step.due is not None and step.due < self._wake:
            self._wake = step.due
        if step.destination is not None:
            change = step.change
            identity = change.message
            self._active.difference_update([(identity, one.number) for one in change.verdicts])
            self._left(step.destination, step.count)

    def _left(self, destination: Destination, count: int) -> None:
        window = self.window
        window.add(destination, -count)
        if not destination.held:
            self.dispatcher.rest(destination)
        # Not for a few: they come with the next tick.
        if window.total <= self._settings.window * 3 // 4 and (
            window.pending or self._wake <= self._world.now()
        ):
            self._go()

    def untried(self, destination: Destination, batches: Sequence[Batch], due: float) -> None:
        count = 0
        items = self._returned.setdefault(due, [])
        for batch in batches:
            count += len(batch.taken)
            keys = [(batch.message.id, one.number) for one in batch.taken]
            items += keys
            self._active.difference_update(keys)
        self.window.add(destination, -count)
        self.dispatcher.rest(destination)
        self._wake = min(self._wake, due)
        self._go()

    def backed_off(self, destination: Destination) -> None:
        health = destination.health
        _log.warn(
            "destination fails",
            hop=destination.hop,
            reason=health.text,
            failures=health.failures,
            seconds=round(health.until - self._world.now()),
        )
        self._tell(
            Backoff(destination.hop, health.until, health.failures, health.since, health.text)
        )
        self._wake = min(self._wake, health.until)

    def lifted(self, destination: Destination) -> None:
        _log.info("destination works again", hop=destination.hop)
        self._lift(destination.hop)

    def _lift(self, hop: str) -> None:
        self._tell(Backoff(hop, 0.0, 0, 0.0, ""))
        self._wake = -inf

    def _tell(self, state: Backoff) -> None:
        self._backoffs[state.hop] = state
        self._go()

    def _room(self) -> None:
        self.dispatcher.room()

    def _retry_at(self) -> float:
        return self._world.now() + pause(self._settings, 1, self._random())

    def _random(self) -> float:
        return int.from_bytes(self._world.entropy(4), "big") / 2**32

    # -- time passes

    def _tick(self) -> None:
        self._timer = self._world.reactor.callLater(self._settings.poll, self._tick)
        now = self._world.now()
        if not self.acquired:
            if now >= self._not_before:
                self._go()
            return
        self.dispatcher.tick(now)
        if self._spool.changed():
            self._changed = True
        if (
            self._changed
            or now >= self._wake
            or now >= self._look_at
            or self.window.refused
            or self.window.pending
            or self._returned
            or self._backoffs
            or self._unasked
        ):
            self._go()

    def _go(self) -> None:
        if self.running and not self._turning and self._world.now() >= self._not_before:
            self._turning = True
            Deferred.fromCoroutine(self._turn()).addErrback(_unexpected)

    async def _turn(self) -> None:
        try:
            if not self.acquired and not await self._acquire():
                return
            while self.running:
                await self._errands()
                await self._look()
                if not await self._take() and not (self._returned or self._backoffs):
                    return
        except Exception as error:
            self._not_before = self._world.now() + AGAIN
            if isinstance(error, OSError):
                _log.error("the queue cannot be read: {error}", error=str(error))
            else:
                _log.failure("failure in the queue, it goes on in {seconds} s", seconds=AGAIN)
        finally:
            self._turning = False
            turned, self._turned = self._turned, []
            for one in turned:
                one.callback(None)

    async def _acquire(self) -> bool:
        self._not_before = self._world.now() + self._settings.acquire
        if not await self._spool.acquire():
            return False
        self.acquired = True
        self._not_before = self._wake = self._look_at = -inf
        self._lookout.begin()
        if self.running:
            self.dispatcher.running = True
            self._spool.attach(self.window.claim, self._claimed, self._dropped)
            self.window.open = True
            _log.info("this process runs the queue")
        return True

    async def _errands(self) -> None:
        """What is to be written down of destinations, then of recipients that were not tried, in this order."""
        while self._backoffs:
            hop = next(iter(self._backoffs))
            state = self._backoffs[hop]
            await self._spool.back_off(state)
            if self._backoffs.get(hop) is state:
                del self._backoffs[hop]
        while self._returned:
            due = next(iter(self._returned))
            items = self._returned.pop(due)
            try:
                await self._spool.put_back(items, due)
            except BaseException:
                self._returned.setdefault(due, []).extend(items)
                raise

    async def _look(self) -> None:
        """At what other processes changed, and at messages whose time has come."""
        now = self._world.now()
        if self._changed:
            self._changed = False
            self._wake = self._look_at = -inf
            for destination, keys in await self._lookout.check():
                self._active.difference_update(keys)
                self._left(destination, len(keys))
        if now >= self._look_at:
            self._look_at = now + self._settings.look
            if await self._lookout.look(now):
                self._look_at = now
            self.bounced += self._lookout.bounced
            self._lookout.bounced = 0

    # -- taking

    async def _take(self) -> bool:
        """Take what is due. True when there is reason to go on at once."""
        now = self._world.now()
        if now < self._wake and not (self.window.refused or self.window.pending or self._unasked):
            return False
        self.window.refused = False
        room, reopened = self.window.begin()
        used: dict[str, int] = {}
        try:
            if not room:
                return False
            # What becomes due while we ask counts as well.
            self._wake = inf
            try:
                taken, wake = await self._spool.take(now, room, self.window.share, reopened)
            except BaseException:
                self._wake = -inf
                raise
            if wake is not None:
                self._wake = min(self._wake, wake)
            self.taken += len(taken)
            for one in taken:
                hop = one.message.recipients[one.number].hop
                used[hop] = used.get(hop, 0) + 1
            # Held and released while it was being sent: what comes of that is what counts.
            wanted = [one for one in taken if (one.message.id, one.number) not in self._active]
            wanted = await self._rehopped(self._lookout.not_expiring(wanted))
            await self._ask(used)
            for batch in batches(wanted, self._settings.recipients):
                self._add(batch, now)
        finally:
            self.window.end(used)
            for hop in used:
                if hop in self.destinations:
                    self.dispatcher.rest(self.destinations[hop])
        if not taken:
            # Something is due that cannot be had now: no use in asking on and on.
            self._wake = max(self._wake, now + self._settings.poll)
            return False
        return self._wake <= now or self.window.pending

    async def _rehopped(self, taken: list[Taken]) -> list[Taken]:
        """Those that still belong where the spool has them; the others are sent back under their new name."""
        if self._hop_of is None or not taken:
            return taken
        stay: list[Taken] = []
        items: list[tuple[str, int]] = []
        hops: list[str] = []
        for one in taken:
            recipient = one.message.recipients[one.number]
            hop = recipient.hop
            if hop:
                try:
                    hop = self._hop_of(recipient.address, one.message.options.requiretls)
                except ValueError:
                    hop = recipient.hop
            if hop == recipient.hop:
                stay.append(one)
            else:
                items.append((one.message.id, one.number))
                hops.append(hop)
        if items:
            try:
                await self._spool.rehop(items, hops)
            except BaseException:
                self._returned.setdefault(self._world.now(), []).extend(
                    [(one.message.id, one.number) for one in taken]
                )
                raise
            self._wake = -inf
        return stay

    async def _ask(self, hops: dict[str, int]) -> None:
        """What the spool remembers of destinations that we do not."""
        new = [hop for hop in hops if hop and hop not in self.destinations]
        unasked, self._unasked = list(self._unasked), {}
        if not new and not unasked:
            return
        known = await self._spool.backoffs([*new, *unasked])
        for hop in (*new, *unasked):
            destination = self.destinations.get(hop)
            if destination is None:
                if hop not in known and hop in unasked:
                    continue
                destination = self.dispatcher.destination(hop)
            destination.asked = True
            state = known.get(hop)
            if state is None:
                continue
            if destination.health.standing is Standing.WELL:
                # New mail went through meanwhile.
                self._lift(hop)
            else:
                destination.health.learn(state.failures, state.since, state.until, state.text)
                self.window.reclass(destination)


def _unexpected(failure: Any) -> None:
    _log.failure("failure in the queue", failure)
