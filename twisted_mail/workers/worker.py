"""A worker: answers clients on sockets that the main process has opened, and does nothing that is done once a site.

It begins when it is told to (``open``), leaves when it is told to or the main process is gone, after what its clients
are in the middle of, and ends with status 0. What keeps it from serving it says (``failed``), and ends with 1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from .. import __version__
from ..listeners import Listeners
from ..processes import ProcessReporter, spare_the_collector
from ..rooms import Rooms
from ..serving import Serving, drained, make_tls
from ..site import make_certificates
from ..status import MailError
from ..world import World
from .bus import Bus
from .control import Frame
from .doors import Fairness, take_over
from .orders import Order
from .shared_counts import SharedCounts

__all__ = ["Worker"]


class Worker:
    """By `order`, in `world`. `send` takes a frame to the main process; `over` is called once, with the exit status;
    `log_again` opens the log's file anew.
    """

    _log = Logger()

    def __init__(
        self,
        order: Order,
        world: World,
        send: Callable[[Frame], object],
        over: Callable[[int], object],
        log_again: Callable[[], object],
    ) -> None:
        self._order = order
        self._send = send
        self._over = over
        self._log_again = log_again
        self._shared = SharedCounts(order.counts, order.slot)
        os.close(order.counts)
        self.siblings = Bus(world.reactor, lambda frame: send(["news", frame]), self._shared.counts)
        self._world = world = replace(world, siblings=self.siblings)
        self._rooms = Rooms(order.config, world)
        self._serving: Serving | None = None
        self._tls: Any = None
        self._listeners = Listeners(world.reactor)
        self._reporter = ProcessReporter(
            world, str(order.config.data), f"worker {order.slot}", version=__version__
        )
        self._leaving = False
        self._ended = False
        self._starting: Deferred[None] | None = None

    def start(self) -> None:
        """Open all but the doors."""
        self._starting = Deferred.fromCoroutine(self._start())

    def told(self, frame: Frame) -> None:
        """What the main process says."""
        word, *rest = frame
        if word == "ping":
            self._send(["pong"])
        elif word == "news":
            self.siblings.receive(rest[0])
        elif word == "open":
            self._open()
        elif word == "certificates":
            if self._tls is not None:
                self._tls.reload()
        elif word == "log":
            self._log_again()
        elif word == "drain":
            self.leave()

    def leave(self) -> None:
        """Let nobody in, let clients come to an end, for a while, and end."""
        if not self._leaving:
            self._leaving = True
            Deferred.fromCoroutine(self._leave()).addErrback(self._unexpected)

    async def _start(self) -> None:
        order, world = self._order, self._world
        try:
            certificates = None
            if order.config.tls.acme:
                # Lean import: for those who have it.
                from ..acme.site import SiteCertificates

                certificates = SiteCertificates(order.config, world, renews=False)
            pairs = make_certificates(order.config, world.now())
            files = [(pair.certificate, pair.key) for pair in pairs]
            self._tls = make_tls(files, certificates, world, order.files, cbc=order.config.tls.cbc)
            take = take_over(world.reactor, Fairness(world.reactor, self._loads))
            for one in order.sockets:
                self._listeners.adopt(one, take)
            await self._rooms.open(order.addresses, duties=False)
            self._serving = Serving(self._rooms, self._tls)
        except Exception as error:
            if not isinstance(error, (OSError, ValueError, MailError)):
                self._log.failure("failure while starting")
            self._leaving = True
            await self._listeners.close()
            await self._rooms.close()
            self._send(["failed", f"cannot start: {error}"])
            self._end(1)
            return
        if not self._leaving:
            self._send(["ready"])

    def _open(self) -> None:
        if self._leaving or self._serving is None:
            return
        self._shared.set_load(1)
        self._listeners.open(self._serving.factories)
        spare_the_collector()
        self._reporter.start()

    def _loads(self) -> tuple[int, Sequence[int]]:
        """Our connections, and those of every process that accepts."""
        every = self._shared.by_slot("connections")
        accepting = self._shared.loads()
        counted = [count for count, on in zip(every, accepting, strict=True) if on]
        return every[self._order.slot], counted

    async def _leave(self) -> None:
        self._shared.set_load(0)
        # First, whatever is under way: after the end of the main process the next one wants to have them.
        await self._listeners.close()
        if self._starting is not None:
            await self._starting
        if self._serving is not None:
            seconds = self._order.config.limits.drain_seconds
            await drained(self._world, self._serving.drain(), seconds, [self._serving])
        await self._rooms.close()
        await self._reporter.stop()
        self.siblings.stop()
        self._end(0)

    def _unexpected(self, failure: Any) -> None:
        self._log.failure("failure at the end", failure)
        self._end(1)

    def _end(self, status: int) -> None:
        if not self._ended:
            self._ended = True
            self._over(status)
