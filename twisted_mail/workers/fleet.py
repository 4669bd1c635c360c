"""The workers of one site, for the service of the main process: its `service.Fleet`.

Joins the supervisor, the processes, the shared counts and the news that processes tell each other. What a worker tells
goes to the main process and through it to all others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger

from ..config import Config
from ..listeners import Socket
from ..rooms import Rooms
from ..service import StartError
from .bus import Bus
from .control import Frame
from .orders import LogPlace, Order, first_frame
from .shared_counts import SharedCounts, make_shared_counts
from .spawning import COUNTS, SOCKETS, ProcessSpawner
from .supervisor import LaunchError, Supervisor
from .zygote import Started, search_path, start_zygote

__all__ = ["Workers"]

_log = Logger()
_MAIN = 0
_LOOPS = {"twisted.internet.epollreactor": "twisted_mail.workers.loop"}
"""What a worker takes in place of the main process's reactor; another one it has in common with it."""
T = TypeVar("T")


class _Launch:
    """The workers of one configuration: a `supervisor.Launch`."""

    def __init__(
        self, workers: Workers, config: Config, files: Mapping[Path, bytes], rooms: Rooms
    ) -> None:
        self.config = config
        self.files = files
        self.rooms = rooms
        self.drain_seconds = config.limits.drain_seconds
        self.settling: set[Deferred[bool]] = set()
        self._workers = workers

    def first(self, slot: int) -> Frame:
        return self._workers.first_frame(slot, self.config, self.files)


class Workers:
    """`count` of them. `log` gives where their log goes, when one starts, and the descriptor of that, None: nowhere.

    `siblings` is the main process's part in what the processes of the site know of each other. `zygote`: one that was
    started before this was imported.
    """

    def __init__(
        self,
        reactor: Any,
        count: int,
        log: Callable[[], tuple[LogPlace, int | None]],
        entropy: Callable[[int], bytes] = os.urandom,
        zygote: Started | None = None,
    ) -> None:
        self.count = count
        self._reactor = reactor
        self._log = log
        self._entropy = entropy
        self._zygote = zygote
        self._memory: tuple[int, SharedCounts] | None = None
        self._sockets: Sequence[Socket] = ()
        self._addresses: Sequence[tuple[str, str]] = ()
        self._supervisor: Supervisor | None = None
        self._spawner: ProcessSpawner | None = None
        self._launch: _Launch | None = None
        self.siblings = Bus(reactor, self._tell, lambda name: self._shared()[1].counts(name))

    @property
    def pids(self) -> dict[int, int]:
        """The processes by their slots."""
        return {} if self._supervisor is None else self._supervisor.pids

    @property
    def restarts(self) -> int:
        """How many ended unasked, and were replaced."""
        return 0 if self._supervisor is None else self._supervisor.restarts

    def impossible(self) -> str:
        """Why this process, as the user that it is by now, cannot start any; "" when it can."""
        package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        for path, how in ((sys.executable, os.X_OK), (package, os.R_OK | os.X_OK)):
            if not path or not os.access(path, how, effective_ids=True):
                return f"user {os.geteuid()} may not read {path or 'python'}"
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError as error:
            return f"this needs pidfd_open(2), Linux 5.3 or later: {error.strerror}"
        return ""

    def prepare(self) -> None:
        """Have the zygote import what workers need while this process opens its rooms, as the user that it is."""
        if self._zygote is None:
            try:
                self._zygote = start_zygote(self._log()[1])
            except OSError as error:
                _log.warn("no zygote can be started yet: {error}", error=str(error))

    def give_up(self) -> None:
        """There will be no workers."""
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.end()

    # -- service.Fleet

    async def start(
        self,
        sockets: Sequence[Socket],
        addresses: Sequence[tuple[str, str]],
        config: Config,
        files: Mapping[Path, bytes],
        rooms: Rooms,
    ) -> None:
        """See `service.Fleet`."""
        self._sockets, self._addresses = sockets, addresses
        memory, shared = self._shared()
        zygote, self._zygote = self._zygote, None
        self._spawner = ProcessSpawner(
            self._reactor,
            [memory, *(one.descriptor for one in sockets)],
            lambda: self._log()[1],
            zygote,
        )
        self._supervisor = supervisor = Supervisor(
            self._reactor,
            self._spawner,
            self.count,
            settle=self._settle,
            cleared=shared.clear,
            relay=self._relay,
        )
        try:
            await self._begin(supervisor, _Launch(self, config, files, rooms))
        except StartError:
            await self.stop()
            raise

    async def change(self, config: Config, files: Mapping[Path, bytes], rooms: Rooms) -> None:
        """See `service.Fleet`."""
        if self._supervisor is None:
            raise StartError("the server stops")
        before = self._launch
        await self._begin(self._supervisor, _Launch(self, config, files, rooms))
        # Its store is about to be closed
        await self._settled(before)

    def read_again(self, files: Mapping[Path, bytes]) -> None:
        """See `service.Fleet`."""
        if self._launch is not None:
            self._launch.files = files
        if self._supervisor is not None:
            self._supervisor.tell(["certificates"])

    def open_log_again(self) -> None:
        """The log's file has been moved away."""
        if self._supervisor is not None:
            self._supervisor.tell(["log"])

    async def stop(self) -> None:
        """See `service.Fleet`."""
        supervisor, self._supervisor = self._supervisor, None
        spawner, self._spawner = self._spawner, None
        self.give_up()
        if supervisor is not None:
            await supervisor.stop()
        if spawner is not None:
            spawner.stop()
        launch, self._launch = self._launch, None
        await self._settled(launch)

    # --

    async def _begin(self, supervisor: Supervisor, launch: _Launch) -> None:
        before, self._launch = self._launch, launch
        try:
            await supervisor.launch(launch)
        except LaunchError as error:
            self._launch = before
            await self._settled(launch)
            raise StartError(f"a worker cannot start: {error}") from error

    def first_frame(self, slot: int, config: Config, files: Mapping[Path, bytes]) -> Frame:
        """What the worker in `slot` is told first."""
        sockets = [
            one._replace(descriptor=SOCKETS + number) for number, one in enumerate(self._sockets)
        ]
        reactor = type(self._reactor).__module__
        order = Order(
            slot,
            _LOOPS.get(reactor, reactor),
            search_path(),
            config,
            files,
            self._addresses,
            sockets,
            COUNTS,
            self._log()[0],
        )
        return first_frame(order)

    def _settle(self) -> Deferred[bool]:
        launch = self._launch
        if launch is None:
            return succeed(True)  # the start has failed: nobody has served
        outcome = Deferred.fromCoroutine(launch.rooms.store.settle())
        launch.settling.add(outcome)

        def over(result: T) -> T:
            launch.settling.discard(outcome)
            return result

        return outcome.addBoth(over)

    async def _settled(self, launch: _Launch | None) -> None:
        """Return when nobody is at work on the store of `launch`."""
        if launch is not None:
            await DeferredList(list(launch.settling))

    def _shared(self) -> tuple[int, SharedCounts]:
        if self._memory is None:
            # Two generations, and this process
            memory = make_shared_counts(2 * self.count + 2, self._entropy)
            self._memory = memory, SharedCounts(memory, _MAIN)
        return self._memory

    def _tell(self, frame: Any) -> None:
        if self._supervisor is not None:
            self._supervisor.tell(["news", frame])

    def _relay(self, slot: int, frame: Any) -> None:
        self.siblings.receive(frame)
        if self._supervisor is not None:
            self._supervisor.tell(["news", frame], but=slot)
