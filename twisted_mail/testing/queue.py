"""The queue's neighbours in memory: a `Spool`, a `Door`, a `Carrier` with hosts that behave as they are told.

`MemorySpool` (`testing.memory_spool`) is what would be on the disk. `MemoryDoor` applies changes to it and keeps the
notices. `MemoryCarrier` has a `Host` for each hop; a hop that nobody added is one that works.

All of them take simulated time when they are told to, and none otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from ..queue.interfaces import DestinationError, Job, Outcome, Result
from ..status import MailError
from ..storage.queued import Change
from ..world import World
from .memory_spool import MemorySpool, queued_message, sleep

__all__ = ["Host", "MemoryCarrier", "MemoryDoor", "MemorySpool", "queued_message", "sleep"]


class MemoryDoor:
    """`queue.interfaces.Door`, on a `MemorySpool`.

    `lag`: seconds until a commit is durable. `failing`: raised by everything while it is set. `nobody`: addresses of
    which a notice is refused for good. `notices`: recipient, content, and what was committed with it; `requiretls`: the
    messages whose notices were to go by verified TLS only.
    """

    def __init__(self, world: World, spool: MemorySpool, *, lag: float | None = None) -> None:
        self._world = world
        self._spool = spool
        self.lag = lag
        self.failing: Exception | None = None
        self.failing_notices: Exception | None = None
        self.nobody: set[str] = set()
        self.notices: list[tuple[str, bytes, tuple[Change, ...]]] = []
        self.requiretls: set[str] = set()
        self.commits = 0
        self.cut = False
        """The process is dead: nothing is committed any more."""

    async def commit(self, changes: Sequence[Change]) -> None:
        await self._durable()
        self.commits += 1
        for change in changes:
            self._spool.apply(change)

    async def notify(
        self,
        changes: Sequence[Change],
        recipient: str,
        content: bytes,
        *,
        requiretls: bool = False,
    ) -> None:
        if recipient in self.nobody:
            raise MailError(550, "5.1.1", "No such user")
        if self.failing_notices is not None:
            raise self.failing_notices
        await self._durable()
        self.notices.append((recipient, content, tuple(changes)))
        if requiretls:
            self.requiretls.update([change.message for change in changes])
        for change in changes:
            self._spool.apply(change)

    async def _durable(self) -> None:
        if self.lag is not None:
            await sleep(self._world, self.lag)
        if self.cut:
            await Deferred[None]()
        if self.failing is not None:
            raise self.failing


@dataclass
class Host:
    """How one destination behaves. Times are seconds.

    `connect`: until it answers, or until it is known that it does not (`error`); None hangs for ever. `latency`: of one
    message, None hangs. `judge` decides on each recipient, by address and the number of tries for it so far; None takes
    all. `breaks`: the connection is lost in every transaction. `most`: connections at once; one more is refused.
    """

    connect: float | None = 0.01
    latency: float | None = 0.01
    error: DestinationError | None = None
    judge: Callable[[str, int], Result] | None = None
    breaks: bool = False
    most: int = 1000
    result: Result = Result.DELIVERED
    open: int = 0
    peak: int = 0
    connections: int = 0
    tried: int = 0


class MemoryCarrier:
    """`queue.interfaces.Carrier`. `hosts` by hop; `sent` has a line for every recipient that a host said 250 to.

    `instant`: everything goes without the clock.
    """

    def __init__(self, world: World, *, instant: bool = False) -> None:
        self.world = world
        self.instant = instant
        self.hosts: dict[str, Host] = {}
        self.sent: list[tuple[float, str, str, int]] = []
        self.tries: Counter[tuple[str, int]] = Counter()
        self.open_now = 0
        self.peak = 0
        self.opening: list[tuple[float, str]] = []
        self.jobs = 0
        self.largest = 0
        self.dead = False
        """Its process is gone: nothing is sent any more, whatever is left of it in memory."""

    def host(self, hop: str) -> Host:
        """The host of a hop."""
        return self.hosts.setdefault(hop, Host())

    async def wait(self, seconds: float | None) -> None:
        if seconds is None or self.dead:
            await Deferred[None]()
        elif seconds and not self.instant:
            await sleep(self.world, seconds)

    async def open(self, hop: str) -> MemoryCourier:
        host = self.host(hop)
        self.opening.append((self.world.now(), hop))
        host.tried += 1
        self.open_now += 1
        self.peak = max(self.peak, self.open_now)
        try:
            await self.wait(host.connect)
            if host.error is not None:
                raise host.error
            if host.open >= host.most:
                raise DestinationError("too many connections", code=421, host=hop, said=True)
        except BaseException:
            self.open_now -= 1
            raise
        host.connections += 1
        host.open += 1
        host.peak = max(host.peak, host.open)
        return MemoryCourier(self, hop, host)


class MemoryCourier:
    """`queue.interfaces.Courier`."""

    def __init__(self, carrier: MemoryCarrier, hop: str, host: Host) -> None:
        self._carrier = carrier
        self._hop = hop
        self._host = host
        self._closed = False
        self.usable = True

    async def deliver(self, job: Job) -> Sequence[Outcome]:
        carrier, host = self._carrier, self._host
        assert self.usable, "a courier that is not usable was given a job"
        carrier.jobs += 1
        carrier.largest = max(carrier.largest, len(job.recipients))
        try:
            await carrier.wait(host.latency)
        except BaseException:
            self.usable = False
            self._end()
            raise
        if host.breaks:
            self.usable = False
            text = f"{self._hop} closed the connection"
            return [
                Outcome(number, Result.DEFERRED, 0, "4.4.2", text, self._hop, said=False)
                for number, _ in job.recipients
            ]
        outcomes = []
        for number, recipient in job.recipients:
            key = (job.message.id, number)
            result = (
                host.judge(recipient.address, carrier.tries[key]) if host.judge else host.result
            )
            carrier.tries[key] += 1
            code, enhanced, text = _REPLIES[result]
            if code == 250:
                carrier.sent.append((carrier.world.now(), self._hop, *key))
            outcomes.append(Outcome(number, result, code, enhanced, text, self._hop, "192.0.2.9"))
        return outcomes

    async def close(self) -> None:
        self.usable = False
        self._end()

    def _end(self) -> None:
        if not self._closed and not self._carrier.dead:
            self._closed = True
            self._carrier.open_now -= 1
            self._host.open -= 1


_REPLIES = {
    Result.DELIVERED: (250, "2.0.0", "queued"),
    Result.RELAYED: (250, "2.0.0", "queued"),
    Result.DEFERRED: (450, "4.2.0", "come again"),
    Result.FAILED: (550, "5.1.1", "no such user"),
}
