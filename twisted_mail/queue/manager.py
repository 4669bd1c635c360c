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

from ..log import Logger
from ..storage.queued import Backoff, QueuedMessage
from ..world import World
from .bell import Bell
from .bounce import Bounces
from .committer import Committer, Step
from .destination import Batch, Destination, Destinations, own_batches
from .dispatcher import Dispatcher
from .interfaces import Carrier, Door, Outcome, Spool
from .lookout import Lookout
from .schedule import Settings, Standing, pause
from .taking import Taking
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
        self._hostname = hostname
        self._bounces = bounces = Bounces(world, hostname, spool.open, double_bounces_to)
        self.destinations = Destinations(settings, world.reactor.seconds)
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
        self.delivered = self.deferred = self.bounced = self.claimed = 0
        """Recipients, since the start of the process."""
        self._timer: Any = None
        self._turning = False
        self._kicked = False
        self._turned = Bell(world.reactor)
        self._settled = Bell(world.reactor)
        self._not_before = -inf
        self._look_at = -inf
        self._changed = False
        self._taking = Taking(
            world,
            spool,
            settings,
            self.window,
            self.destinations,
            self._lookout,
            hop_of,
            self._add,
        )

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
        await self.dispatcher.stop(self._settings.drain)
        if self._turning:
            await self._turned.wait()
        if self.window.claims:
            # Under way in another thread; nobody would look for it there.
            await self._settled.wait(self._settings.drain)
        if not await self.committer.drain(self._settings.drain):
            _log.error(
                "outcomes could not be committed, they will be tried again",
                outcomes=self.committer.left,
            )
        if self.acquired:
            self.acquired = False
            self._not_before = -inf
            for work in (self._taking.errands, self._spool.release):
                try:
                    await work()
                except Exception:
                    _log.failure("the queue did not close well; the next start recovers it")

    def kick(self) -> None:
        """Look now for what is due."""
        self._taking.wake = self._not_before = -inf
        # Of what is under way, the look may be over.
        self._kicked = self._turning
        self._go()

    @property
    def taken(self) -> int:
        """Recipients that came from the disk, since the start of the process."""
        return self._taking.taken

    # -- new mail

    def _claimed(self, messages: Sequence[QueuedMessage]) -> None:
        self.window.settle(messages)
        most = self._settings.recipients
        for message in messages:
            self.claimed += len(message.recipients)
            for batch in own_batches(message, most):
                self._add(batch, -inf)
        if not self.running and not self.window.claims:
            self._settled.ring()

    def _dropped(self, messages: Sequence[QueuedMessage]) -> None:
        self.window.settle(messages)
        if not self.running and not self.window.claims:
            self._settled.ring()

    def _add(self, batch: Batch, asked: float) -> Destination:
        """`asked`: when the spool said that it is due; -inf for new mail."""
        dispatcher = self.dispatcher
        identity = batch.message.id
        self._taking.active.update([(identity, one.number) for one in batch.taken])
        destination = self.destinations.get(batch.hop)
        if destination is None or destination.empty:
            destination = self.destinations.named(batch.hop)
            if not batch.hop:
                destination.health.opened()
                self.window.reclass(destination)
            elif not destination.asked:
                self._taking.ask_of(batch.hop)
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
        self._world.counters.delivered += judged.counts[0]
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
        taking = self._taking
        if step.due is not None and step.due < taking.wake:
            taking.wake = step.due
        if step.destination is not None:
            change = step.change
            identity = change.message
            taking.settled([(identity, one.number) for one in change.verdicts])
            self._left(step.destination, step.count)

    def _left(self, destination: Destination, count: int) -> None:
        window = self.window
        window.add(destination, -count)
        if not destination.held:
            self.destinations.rest(destination)
        # Not for a few: they come with the next tick.
        if window.total <= self._settings.window * 3 // 4 and (
            window.pending or self._taking.wake <= self._world.now()
        ):
            self._go()

    def untried(self, destination: Destination, batches: Sequence[Batch], due: float) -> None:
        keys = [(batch.message.id, one.number) for batch in batches for one in batch.taken]
        self._taking.give_back(keys, due)
        self.window.add(destination, -len(keys))
        self.destinations.rest(destination)
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
        self._taking.tell(
            Backoff(destination.hop, health.until, health.failures, health.since, health.text)
        )
        self._go()

    def lifted(self, destination: Destination) -> None:
        _log.info("destination works again", hop=destination.hop)
        self._taking.lift(destination.hop)
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
            or now >= self._taking.wake
            or now >= self._look_at
            or self._taking.wanted
            or self._taking.owed
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
                await self._taking.errands()
                await self._look()
                if not await self._taking.take() and not self._taking.owed:
                    return
        except Exception as error:
            self._not_before = self._world.now() + AGAIN
            if isinstance(error, OSError):
                _log.error("the queue cannot be read: {error}", error=str(error))
            else:
                _log.failure("failure in the queue, it goes on in {seconds} s", seconds=AGAIN)
        finally:
            self._turning = False
            self._turned.ring()
            if self._kicked:
                self.kick()

    async def _acquire(self) -> bool:
        self._not_before = self._world.now() + self._settings.acquire
        if not await self._spool.acquire():
            return False
        self.acquired = True
        self._not_before = self._taking.wake = self._look_at = -inf
        self._lookout.begin()
        if self.running:
            self.dispatcher.running = True
            self._spool.attach(self.window.claim, self._claimed, self._dropped)
            self.window.open = True
            _log.info("this process runs the queue")
        return True

    async def _look(self) -> None:
        """At what other processes changed, and at messages whose time has come."""
        now = self._world.now()
        if self._changed:
            self._changed = False
            self._taking.wake = self._look_at = -inf
            try:
                dropped = await self._lookout.check()
            except BaseException:
                self._changed = True
                raise
            for destination, keys in dropped:
                self._taking.settled(keys)
                self._left(destination, len(keys))
        if now >= self._look_at:
            self._look_at = now + self._settings.look
            # What got into the spool late, after a fault, is announced by nobody.
            self._taking.wake = -inf
            if await self._lookout.look(now):
                self._look_at = now
            self.bounced += self._lookout.bounced
            self._lookout.bounced = 0


def _unexpected(failure: Any) -> None:
    _log.failure("failure in the queue", failure)
