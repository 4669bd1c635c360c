"""Between the spool and the window: what is due comes in, what was not tried goes back, and what is known of hops both.

Promises: what was taken is given to `add`, or owed to the spool (`returned`) until it is written there, whatever fails
in between. All is done by the one turn of the manager, call after call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from ..delivery.routes import ANY_TLS, any_tls
from ..storage.queued import Backoff, Taken
from ..world import World
from .destination import Batch, Destinations, batches
from .interfaces import Spool
from .lookout import Lookout
from .schedule import Settings, Standing
from .window import Window

__all__ = ["Taking"]

Key = tuple[str, int]


class Taking:
    """`hop_of` as in `QueueManager`. `add` gets what is to be sent, with the time at which the spool was asked."""

    def __init__(
        self,
        world: World,
        spool: Spool,
        settings: Settings,
        window: Window,
        destinations: Destinations,
        lookout: Lookout,
        hop_of: Callable[[str, bool], str] | None,
        add: Callable[[Batch, float], object],
    ) -> None:
        self._now = world.now
        self._spool = spool
        self._settings = settings
        self._window = window
        self._destinations = destinations
        self._lookout = lookout
        self._hop_of = hop_of
        self._add = add
        self._returned: dict[float, list[Key]] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._unasked: dict[str, None] = {}
        self.active: set[Key] = set()
        """Recipients in memory: active on the disk, as far as nobody has changed that by hand."""
        self._twice: set[Key] = set()
        """Taken once more while they were in memory: somebody had made them due by hand."""
        self.wake = -inf
        """When something is due at the latest, as far as is known."""
        self.taken = 0
        """Recipients, since the start of the process."""

    @property
    def owed(self) -> bool:
        """Whether there is something for `errands`."""
        return bool(self._returned or self._backoffs)

    @property
    def wanted(self) -> bool:
        """Whether there is reason to ask the spool, whatever the time."""
        window = self._window
        return bool(window.refused or window.pending or self._unasked)

    # -- what goes back

    def give_back(self, keys: Iterable[Key], due: float) -> None:
        """Recipients that were not tried."""
        keys = list(keys)
        self._returned.setdefault(due, []).extend(keys)
        self.active.difference_update(keys)
        self._twice.difference_update(keys)
        self.wake = min(self.wake, due)

    def settled(self, keys: Iterable[Key]) -> None:
        """What came of these is on the disk."""
        keys = list(keys)
        self.active.difference_update(keys)
        if self._twice and (twice := self._twice.intersection(keys)):
            # If a hand made it due after that was written, it is active there and nobody's. Else this says nothing.
            self.give_back(twice, self._now())

    def tell(self, state: Backoff) -> None:
        """What the spool is to know of a hop."""
        self._backoffs[state.hop] = state
        self.wake = min(self.wake, state.until if state.failures else -inf)

    def lift(self, hop: str) -> None:
        """It fails no more."""
        self.tell(Backoff(hop, 0.0, 0, 0.0, ""))

    async def errands(self) -> None:
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

    # -- what comes

    def ask_of(self, hop: str) -> None:
        """The spool is to be asked what it knows of a hop: new mail for it has come without."""
        self._unasked[hop] = None

    async def take(self) -> bool:
        """Take what is due. True when there is reason to go on at once."""
        now = self._now()
        if now < self.wake and not self.wanted:
            return False
        window = self._window
        window.refused = False
        room, reopened = window.begin()
        used: dict[str, int] = {}
        try:
            if not room:
                return False
            # What becomes due while we ask counts as well.
            self.wake = inf
            try:
                taken, wake = await self._spool.take(now, room, window.share, reopened)
            except BaseException:
                self.wake = -inf
                window.undo(reopened)
                raise
            if wake is not None:
                self.wake = min(self.wake, wake)
            self.taken += len(taken)
            for one in taken:
                hop = one.message.recipients[one.number].hop
                used[hop] = used.get(hop, 0) + 1
            # Held and released while it was being sent: what comes of that is what counts.
            mine: list[Taken] = []
            for one in taken:
                key = (one.message.id, one.number)
                if key in self.active:
                    self._twice.add(key)
                else:
                    mine.append(one)
            mine = self._lookout.not_expiring(mine)
            try:
                mine = await self._rehopped(mine)
                await self._ask(used)
            except BaseException:
                self.give_back([(one.message.id, one.number) for one in mine], now)
                raise
            for batch in batches(mine, self._settings.recipients):
                self._add(batch, now)
        finally:
            window.end(used)
            destinations = self._destinations
            for hop in used:
                if hop in destinations:
                    destinations.rest(destinations[hop])
        if not taken:
            if self.wake <= now:
                # Something is due that cannot be had now: no use in asking on and on.
                self.wake = now + self._settings.poll
            return False
        return self.wake <= now or window.pending

    async def _rehopped(self, taken: list[Taken]) -> list[Taken]:
        """Those that still belong where the spool has them; the others are sent back under their new name."""
        if self._hop_of is None or not taken:
            return taken
        stay: list[Taken] = []
        items: list[Key] = []
        hops: list[str] = []
        for one in taken:
            recipient = one.message.recipients[one.number]
            hop = recipient.hop
            if hop:
                try:
                    hop = self._hop_of(recipient.address, one.message.options.requiretls)
                    if recipient.hop.endswith(ANY_TLS):
                        hop = any_tls(hop)
                except ValueError:
                    hop = recipient.hop
            if hop == recipient.hop:
                stay.append(one)
            else:
                items.append((one.message.id, one.number))
                hops.append(hop)
        if items:
            await self._spool.rehop(items, hops)
            self.wake = -inf
        return stay

    async def _ask(self, hops: Iterable[str]) -> None:
        """What the spool remembers of destinations that we do not."""
        destinations = self._destinations
        new = [hop for hop in hops if hop and hop not in destinations]
        unasked, self._unasked = self._unasked, {}
        if not new and not unasked:
            return
        try:
            known = await self._spool.backoffs([*new, *unasked])
        except BaseException:
            self._unasked.update(unasked)
            raise
        for hop in (*new, *unasked):
            destination = destinations.get(hop)
            if destination is None:
                if hop not in known and hop in unasked:
                    continue
                destination = destinations.named(hop)
            destination.asked = True
            state = known.get(hop)
            if state is None:
                continue
            if destination.health.standing is Standing.WELL:
                # New mail went through meanwhile.
                self.lift(hop)
            else:
                destination.health.learn(state.failures, state.since, state.until, state.text)
                self._window.reclass(destination)
