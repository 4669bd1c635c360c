"""Who keeps the workers: starts them, replaces those that die or hang, changes them for new ones, and ends them.

It knows no process and no socket, only a clock and a `Spawner`. Promises:

- a worker that ends unasked is replaced at once, and so are the next `AT_ONCE` - 1 in its place; while those that
  follow end soon, too, with a growing pause (1, 2, 4 … 60 s). The other places are not touched;
- one that does not answer for `HUNG_SECONDS`, or is not ready after `START_SECONDS`, is killed, and replaced;
- new ones are answered for only when all of them are ready; only then the old ones are asked to leave. If one cannot
  start, the new ones go and the old ones stay;
- who was asked to leave and does not is killed.

Each process has a *slot*, for what is counted together: one that no other process has while it lives.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger

from .control import Frame

__all__ = ["Child", "Launch", "LaunchError", "Spawner", "Supervisor"]

_log = Logger()

PING_SECONDS: Final = 5.0
HUNG_SECONDS: Final = 30.0
AT_ONCE: Final = 3
MAX_PAUSE: Final = 60.0
START_SECONDS: Final = 120.0
"""Until one is ready, on a machine with much else to do."""
STEADY_SECONDS: Final = 60.0
"""Who has lived so long has not ended soon."""
GRACE_SECONDS: Final = 5.0
"""Between the end of the time that clients have, and SIGKILL."""
SETTLE_SECONDS: Final = 1.0
"""Until what a dead worker has left is looked at again, when it could not be settled."""
SETTLE_TRIES: Final = 10
"""After these it is left to the store's own looking, which is not so often."""


class LaunchError(Exception):
    """A worker could not start; the text is for the operator."""


class Child(Protocol):
    """A process, as its parent sees it."""

    @property
    def pid(self) -> int: ...

    def send(self, frame: Frame) -> None:
        """To the process, if it is still there."""

    def kill(self) -> None:
        """SIGKILL."""


class Spawner(Protocol):
    """What makes processes."""

    def spawn(
        self,
        slot: int,
        first: Frame,
        told: Callable[[Frame], object],
        ended: Callable[[str], object],
    ) -> Child:
        """A new one, whose first frame is `first`. `told` is called with what it sends, `ended` once, with the reason,
        when it is gone; neither before this returns. Raises OSError, and ValueError when it cannot be told `first`.
        """


class Launch(Protocol):
    """What the workers of one configuration are told."""

    @property
    def drain_seconds(self) -> float:
        """How long clients have to come to an end."""

    def first(self, slot: int) -> Frame:
        """The first frame of the worker in `slot`."""


class _State(enum.Enum):
    STARTING = "is starting"
    READY = "is ready"
    OPEN = "serves"
    LEAVING = "leaves"


class _Worker:
    child: Child

    def __init__(self, place: int, slot: int, launch: Launch, now: float) -> None:
        self.place = place
        self.slot = slot
        self.launch = launch
        self.born = now
        self.state = _State.STARTING
        self.wanted = False
        """Whether it may answer as soon as it is ready."""
        self.unanswered = 0
        self.said = ""
        self.deadline: Any = None


class Supervisor:
    """Of `count` workers. `clock`: IReactorTime; `settle` sees to what a dead worker has left unfinished: False, or a
    failure, when that cannot be done yet; `cleared` hears of slots that are free again; `relay` of what workers tell
    each other: the slot it comes from, and the frame.
    """

    def __init__(
        self,
        clock: Any,
        spawner: Spawner,
        count: int,
        *,
        settle: Callable[[], Deferred[bool]],
        cleared: Callable[[int], object],
        relay: Callable[[int, Frame], object],
    ) -> None:
        self.count = count
        self.restarts = 0
        """Workers that ended unasked, and were replaced."""
        self._clock = clock
        self._spawner = spawner
        self._settle = settle
        self._cleared = cleared
        self._relay = relay
        self._workers: dict[int, _Worker] = {}
        self._launch: Launch | None = None
        self._launching: _Launching | None = None
        self._failures = [0] * count
        self._pauses: dict[int, Any] = {}
        self._pinging: Any = None
        self._retrying: Any = None
        self._stopping = False
        self._gone: list[Callable[[], None]] = []

    # -- what the service asks for

    def launch(self, launch: Launch) -> Deferred[None]:
        """Have workers by `launch`, in place of those that there are. Fires when they answer, and the others have been
        asked to leave; fails with LaunchError, and then those that there are stay.

        Not while another one goes on.
        """
        assert self._launching is None
        if self._pinging is None:
            self._pinging = self._clock.callLater(PING_SECONDS, self._ping)
        self._launching = launching = _Launching(launch)
        # There are slots for two generations.
        self._when(lambda: not self._leaving(), lambda: self._begin(launching))
        return launching.done

    def stop(self) -> Deferred[None]:
        """Ask all to leave. Fires when they are gone."""
        self._stopping = True
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()
        if self._retrying is not None:
            self._retrying.cancel()
            self._retrying = None
        self._fail("the server stops")
        for worker in list(self._workers.values()):
            self._dismiss(worker)
        done: Deferred[None] = Deferred()

        def over() -> None:
            if self._pinging is not None:
                self._pinging.cancel()
                self._pinging = None
            self._stopping = False
            self._launch = None
            done.callback(None)

        self._when(lambda: not self._workers, over)
        return done

    def tell(self, frame: Frame, *, but: int = -1) -> None:
        """To all, but the one in a slot."""
        for slot, worker in self._workers.items():
            if slot != but:
                worker.child.send(frame)

    @property
    def pids(self) -> dict[int, int]:
        """The processes by their slots."""
        return {slot: worker.child.pid for slot, worker in self._workers.items()}

    # -- beginning

    def _begin(self, launching: _Launching) -> None:
        if self._launching is not launching:
            return  # given up meanwhile
        for place in range(self.count):
            self._spawn(place, launching.launch)
            if self._launching is not launching:
                return

    def _spawn(self, place: int, launch: Launch) -> _Worker | None:
        slot = next(n for n in range(1, 2 * self.count + 2) if n not in self._workers)
        worker = _Worker(place, slot, launch, self._clock.seconds())
        try:
            worker.child = self._spawner.spawn(
                slot,
                launch.first(slot),
                lambda frame: self._told(worker, frame),
                lambda reason: self._ended(worker, reason),
            )
        except (OSError, ValueError) as error:
            self._lost(worker, f"cannot be started: {error}", succeed(None))
            return None
        self._workers[slot] = worker
        worker.deadline = self._clock.callLater(START_SECONDS, self._late, worker)
        return worker

    def _late(self, worker: _Worker) -> None:
        worker.deadline = None
        worker.said = f"was not ready within {START_SECONDS:g} s and was killed"
        worker.child.kill()

    def _in_time(self, worker: _Worker) -> None:
        if worker.deadline is not None:
            worker.deadline.cancel()
            worker.deadline = None

    def _told(self, worker: _Worker, frame: Frame) -> None:
        word, *rest = frame
        worker.unanswered = 0
        if word == "news":
            self._relay(worker.slot, rest[0])
        elif word == "failed":
            worker.said = str(rest[0])
        elif word == "ready" and worker.state is _State.STARTING:
            worker.state = _State.READY
            self._in_time(worker)
            launching = self._launching
            if launching is not None and worker.launch is launching.launch:
                if len(self._of(launching.launch, _State.READY)) == self.count:
                    self._take_over(launching)
            elif worker.wanted:
                self._open(worker)

    def _take_over(self, launching: _Launching) -> None:
        self._launching = None
        old = [one for one in self._workers.values() if one.launch is not launching.launch]
        self._launch = launching.launch
        self._failures = [0] * self.count
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()
        for worker in self._of(launching.launch, _State.READY):
            self._open(worker)
        for worker in old:
            self._dismiss(worker)
        launching.done.callback(None)

    def _open(self, worker: _Worker) -> None:
        worker.state = _State.OPEN
        worker.child.send(["open"])
        _log.info("worker {slot} serves", slot=worker.slot, pid=worker.child.pid)

    def _of(self, launch: Launch | None, *states: _State) -> list[_Worker]:
        return [
            one for one in self._workers.values() if one.launch is launch and one.state in states
        ]

    # -- ending

    def _dismiss(self, worker: _Worker) -> None:
        if worker.state is _State.LEAVING:
            return
        worker.state = _State.LEAVING
        self._in_time(worker)
        worker.child.send(["drain"])
        seconds = worker.launch.drain_seconds + GRACE_SECONDS
        worker.deadline = self._clock.callLater(seconds, self._overdue, worker)

    def _overdue(self, worker: _Worker) -> None:
        worker.deadline = None
        _log.error(
            "worker {slot} was to leave and does not: it is killed",
            slot=worker.slot,
            pid=worker.child.pid,
        )
        worker.child.kill()

    def _ended(self, worker: _Worker, reason: str) -> None:
        del self._workers[worker.slot]
        self._cleared(worker.slot)
        self._in_time(worker)
        if worker.state is _State.LEAVING:
            if reason:
                _log.error("worker {slot} {reason}", slot=worker.slot, reason=reason)
                self._settled()
        else:
            told = reason or "ended"
            if worker.state is _State.STARTING:
                told += " while it started: the log has what it wrote"
            self._lost(worker, worker.said or told, None)
        for look in self._gone[:]:
            look()

    def _lost(self, worker: _Worker, reason: str, settled: Deferred[None] | None) -> None:
        """It has ended, and nobody had asked it to. `settled`: None when it may have left something."""
        launching = self._launching
        if launching is not None and worker.launch is launching.launch:
            self._fail(reason)
            return
        if self._stopping or worker.launch is not self._launch:
            return
        place, now = worker.place, self._clock.seconds()
        if now - worker.born >= STEADY_SECONDS:
            self._failures[place] = 0
        failures = self._failures[place]
        pause = min(MAX_PAUSE, 2.0 ** min(failures - AT_ONCE, 10)) if failures >= AT_ONCE else 0.0
        self._failures[place] += 1
        self.restarts += 1
        _log.error(
            "worker {slot} {reason}; its connections are lost, another takes its place in {seconds:g} s",
            slot=worker.slot,
            reason=reason,
            seconds=pause,
        )
        if settled is None:
            settled = self._settled()
        self._pauses[place] = self._clock.callLater(pause, self._replace, place, settled)

    def _replace(self, place: int, settled: Deferred[None]) -> None:
        del self._pauses[place]
        launch = self._launch
        if launch is None or self._stopping:
            return
        worker = self._spawn(place, launch)
        if worker is not None:
            settled.addCallback(lambda _: self._may_open(worker))

    def _may_open(self, worker: _Worker) -> None:
        worker.wanted = True
        if worker.state is _State.READY:
            self._open(worker)

    def _settled(self, tries: int = SETTLE_TRIES) -> Deferred[None]:
        """Have what a dead one has left settled; fires after the first try. There are more, until it is done."""
        outcome: Deferred[None] = Deferred()

        def tried(result: object) -> None:
            if result is not True:
                if result is not False:
                    _log.warn("what a worker left is not settled yet: {error}", error=str(result))
                if tries > 1 and self._launch is not None and not self._stopping:
                    if self._retrying is not None:
                        self._retrying.cancel()
                    self._retrying = self._clock.callLater(
                        SETTLE_SECONDS, self._settle_again, tries - 1
                    )
            outcome.callback(None)

        # Whatever that does, a place is to be filled again.
        maybeDeferred(self._settle).addBoth(tried)
        return outcome

    def _settle_again(self, tries: int) -> None:
        self._retrying = None
        self._settled(tries)

    def _fail(self, reason: str) -> None:
        """The new ones cannot be had."""
        launching, self._launching = self._launching, None
        if launching is None:
            return
        for worker in list(self._workers.values()):
            if worker.launch is launching.launch:
                self._dismiss(worker)
        launching.done.errback(LaunchError(reason))

    # -- watching

    def _leaving(self) -> Sequence[_Worker]:
        return [one for one in self._workers.values() if one.state is _State.LEAVING]

    def _when(self, condition: Callable[[], bool], do: Callable[[], None]) -> None:
        """Do it when that is so; looked at whenever a worker has ended."""

        def look() -> None:
            if condition():
                self._gone.remove(look)
                do()

        self._gone.append(look)
        look()

    def _ping(self) -> None:
        # Counted in pings, not in time: a machine that slept has not made anybody hang.
        self._pinging = self._clock.callLater(PING_SECONDS, self._ping)
        for worker in list(self._workers.values()):
            if worker.unanswered >= HUNG_SECONDS / PING_SECONDS:
                if worker.unanswered < HUNG_SECONDS / PING_SECONDS + 1:
                    worker.said = f"did not answer for {HUNG_SECONDS:g} s and was killed"
                worker.child.kill()
            worker.unanswered += 1
            worker.child.send(["ping"])


class _Launching:
    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.done: Deferred[None] = Deferred()
