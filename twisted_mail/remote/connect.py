"""Connecting to one host that has several addresses: RFC 8305, as far as mail needs it.

The two address families are two lanes. In each one address is tried after the other; the second lane begins after a
short head start of the first, or as soon as something failed in it. Who is connected first wins, the other lane ends.
Within a family nothing overlaps: a slow mail server is not knocked at twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..smtp.client.interfaces import Conversation, SessionError

__all__ = ["Connected", "NoneAnswers", "connect_one"]

Dial = Callable[[str], Awaitable[Conversation]]
"""Connects to an IP address. Raises SessionError."""


class Connected(NamedTuple):
    """`failures`: what became of the addresses that were tried before, or meanwhile."""

    address: str
    conversation: Conversation
    failures: dict[str, SessionError]


class NoneAnswers(Exception):
    """`failures`: of every address, in the order they failed."""

    def __init__(self, failures: dict[str, SessionError]) -> None:
        super().__init__("no address answers")
        self.failures = failures


async def connect_one(
    addresses: Sequence[str], dial: Dial, clock: Any, head_start: float
) -> Connected:
    """The first of `addresses` that answers; the family of the first one begins. Raises NoneAnswers.

    `clock` provides IReactorTime. Cancelled, it stops everything.
    """
    first = [one for one in addresses if (":" in one) is (":" in addresses[0])]
    second = [one for one in addresses if (":" in one) is not (":" in addresses[0])]
    if second:
        return await _Race(first, second, dial, clock, head_start).run()
    failures: dict[str, SessionError] = {}
    for address in first:
        try:
            return Connected(address, await dial(address), failures)
        except SessionError as error:
            failures[address] = error
    raise NoneAnswers(failures)


class _Race:
    def __init__(
        self, first: list[str], second: list[str], dial: Dial, clock: Any, head_start: float
    ) -> None:
        self._dial = dial
        self._second = second
        self._failures: dict[str, SessionError] = {}
        self._lanes: list[Deferred[None]] = []
        self._running = 2
        self._over: Deferred[Connected] = Deferred()
        self._alarm = clock.callLater(head_start, self._start_second)
        self._start(self._lane(first))

    async def run(self) -> Connected:
        try:
            return await self._over
        finally:
            self._running = 0
            if self._alarm.active():
                self._alarm.cancel()
            for lane in self._lanes:
                lane.cancel()

    def _start(self, lane: Coroutine[Any, Any, None]) -> None:
        running = Deferred.fromCoroutine(lane)
        self._lanes.append(running)
        running.addErrback(self._broken)

    def _start_second(self) -> None:
        if self._alarm.active():
            self._alarm.cancel()
        if self._second and self._running:
            addresses, self._second = self._second, []
            self._start(self._lane(addresses))

    async def _lane(self, addresses: list[str]) -> None:
        for address in addresses:
            try:
                conversation = await self._dial(address)
            except SessionError as error:
                self._failures[address] = error
                self._start_second()
                continue
            if self._over.called:
                conversation.abort()
            else:
                self._over.callback(Connected(address, conversation, dict(self._failures)))
            return
        self._running -= 1
        if not self._running and not self._over.called:
            self._over.errback(Failure(NoneAnswers(self._failures)))

    def _broken(self, failure: Failure) -> None:
        """A fault of ours, or a lane that was ended."""
        if not self._over.called:
            self._over.errback(failure)
