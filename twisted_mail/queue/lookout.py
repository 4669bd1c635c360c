"""What befalls messages without a try: their time is over, their senders are warned, somebody holds or removes them.

A message's last try is at its end; so who is expired without one is given the chance of it, unless his destination is
backed off. After a long stop of the server everything is tried once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.logger import Logger

from ..message.notice import Action
from ..storage.queued import Backoff, Change, QueuedMessage, Taken
from ..world import World
from .bounce import Bounces, Told, expired_outcome, tellable
from .committer import Committer, Step
from .destination import Batch, Destination
from .interfaces import Spool
from .schedule import Settings
from .verdicts import judge_expired

__all__ = ["Lookout"]

_log = Logger()

GRACE = 3600.0
"""Seconds after its end for which a recipient waits for its last try, when nothing is known against it."""


class Lookout:
    """Looks at the spool; outcomes go to `committer`. Calls come one at a time."""

    def __init__(
        self,
        world: World,
        spool: Spool,
        settings: Settings,
        destinations: Mapping[str, Destination],
        bounces: Bounces,
        committer: Committer,
    ) -> None:
        self._world = world
        self._spool = spool
        self._settings = settings
        self._destinations = destinations
        self._bounces = bounces
        self._committer = committer
        self._expiring: set[tuple[str, int]] = set()
        self._warning: set[str] = set()
        self._began = 0.0
        self.bounced = 0
        """Recipients, since this was last set to 0."""

    def begin(self) -> None:
        """This process runs the queue from now on."""
        self._began = self._world.now()

    def not_expiring(self, taken: list[Taken]) -> list[Taken]:
        """Those of `taken` that are not being given up just now."""
        if not self._expiring:
            return taken
        return [one for one in taken if (one.message.id, one.number) not in self._expiring]

    async def look(self, now: float) -> bool:
        """Give up, warn, forget. True when there is more of it at once."""
        settings = self._settings
        again = await self._expire(now)
        again = await self._warn(now) or again
        await self._spool.prune(now - settings.remember, settings.remember_most)
        return again

    # -- messages whose time is over

    async def _expire(self, now: float) -> bool:
        limit = self._settings.window
        if len(self._expiring) >= limit:
            return False
        # Those that are on their way are met again.
        found = await self._spool.expired(now, limit + len(self._expiring))
        enough = len(found) >= limit
        found = self.not_expiring(list(found))
        if not found:
            return False
        known = await self._spool.backoffs(list({_hop(one) for one in found}))
        over: dict[str, list[Taken]] = {}
        for one in found:
            if not self._may_try(one, known.get(_hop(one)), now):
                over.setdefault(one.message.id, []).append(one)
        for group in over.values():
            message = group[0].message
            reasons = [state.text for one in group if (state := known.get(_hop(one))) is not None]
            judged = judge_expired(now, message, group, reasons[0] if reasons else "")
            self._give_up(message, group, judged.change, judged.told, now)
        return enough and bool(over)

    def _may_try(self, one: Taken, backoff: Backoff | None, now: float) -> bool:
        """Whether it gets its last try."""
        if not one.expires or (one.last is not None and one.last.at >= one.expires):
            return False
        if backoff is not None and backoff.until > now:
            return False
        return now < max(one.expires, self._began) + GRACE

    def _give_up(
        self,
        message: QueuedMessage,
        group: Sequence[Taken],
        change: Change,
        told: Sequence[Told],
        now: float,
    ) -> None:
        keys = [(message.id, one.number) for one in group]

        def done(_: Step) -> None:
            self._expiring.difference_update(keys)

        self._expiring.update(keys)
        self.bounced += len(group)
        for one in group:
            _log.info(
                "expired",
                message=message.id,
                recipient=message.recipients[one.number].address,
                reply=one.last.text if one.last else None,
                delay=round(now - message.arrived, 1),
            )
        told = told if self._bounces.recipient(message) else ()
        self._committer.put(Step(change, message, told, done))

    # -- warnings

    async def _warn(self, now: float) -> bool:
        limit = self._settings.window
        if len(self._warning) >= limit:
            return False
        found = await self._spool.overdue(now, limit + len(self._warning))
        enough = len(found) >= limit
        found = [one for one in found if one.message.id not in self._warning]
        if not found:
            return False
        hops = {_hop(one) for one in found if one.last is None}
        known = await self._spool.backoffs(list(hops)) if hops else {}
        groups: dict[str, list[Taken]] = {}
        for one in found:
            groups.setdefault(one.message.id, []).append(one)
        for identity, group in groups.items():
            message = group[0].message
            told: list[Told] = []
            for one in group:
                backoff = known.get(_hop(one))
                reason = backoff.text if backoff else "it could not be tried yet"
                if one.expires > now and _hop(one):
                    last = one.last
                    outcome = expired_outcome(one.number, last, reason)
                    at = last.at if last else None
                    told.append(Told(Action.DELAYED, outcome, at, one.expires))

            def done(_: Step, identity: str = identity) -> None:
                self._warning.discard(identity)

            self._warning.add(identity)
            change = Change(identity, warned=True)
            self._committer.put(Step(change, message, tellable(message, told), done))
        return enough

    # -- what others changed

    async def check(self) -> list[tuple[Destination, list[tuple[str, int]]]]:
        """Drop from the lines who is not to be sent any more; whom, by destination. The caller counts them out."""
        waiting: list[tuple[Destination, Batch]] = [
            (destination, batch)
            for destination in self._destinations.values()
            for batch in destination.lines
        ]
        if not waiting:
            return []
        current = await self._spool.current(list({batch.message.id for _, batch in waiting}))
        now = self._world.now()
        dropped: list[tuple[Destination, list[tuple[str, int]]]] = []
        for destination, batch in waiting:
            if not batch.waiting:
                continue  # sent, or put back, meanwhile
            found = [current.get((batch.message.id, one.number)) for one in batch.taken]
            here = [one for one in found if one is not None]
            stay = [one for one in here if one.expires]
            over = [one for one in here if not one.expires]
            numbers = {one.number for one in stay}
            left = [
                (batch.message.id, one.number) for one in batch.taken if one.number not in numbers
            ]
            if stay:
                batch.taken = stay
            else:
                destination.drop(batch)
            if over:
                judged = judge_expired(now, batch.message, over)
                self._give_up(batch.message, over, judged.change, judged.told, now)
            if left:
                dropped.append((destination, left))
        return dropped


def _hop(taken: Taken) -> str:
    return taken.message.recipients[taken.number].hop
