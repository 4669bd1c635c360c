"""A body shown to who hashes it while it comes: at once while it is small, in pool threads when it grows.

Hashing 256 KiB takes some milliseconds; more of them at a time would keep other clients waiting. What is shown in a
thread is shown in order, and no two threads work for one body.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..world import World

__all__ = ["SMALL", "BodyWatch", "reread"]

SMALL: Final = 256 * 1024
"""Octets that are hashed where they come in."""
AHEAD: Final = 512 * 1024
"""Octets that may wait for a thread before the writer is told to wait."""
TOGETHER: Final = 512 * 1024
"""Octets that a thread is asked to hash, at least, while more is to come: asking and answering is work, too."""
_BLOCK: Final = 64 * 1024

Sink = Callable[[bytes], Any]
"""Takes text; may be called in a pool thread."""


class Readable(Protocol):
    """`storage.draft.Draft` is one."""

    async def read(self, offset: int, size: int) -> bytes: ...


class BodyWatch:
    """Shows what it is fed to each of `sinks`."""

    __slots__ = ("_busy", "_error", "_held", "_shown", "_sinks", "_waiters", "_waiting", "_world")

    def __init__(self, world: World, sinks: Sequence[Sink]) -> None:
        self._world = world
        self._sinks = tuple(sinks)
        self._shown = 0
        self._waiting: list[bytes] = []
        self._held = 0
        self._busy = False
        self._error: BaseException | None = None
        self._waiters: list[Deferred[None]] = []

    def feed(self, text: bytes) -> Deferred[None] | None:
        """Show it, now or soon. A Deferred, when there is one, fires when there is room for more."""
        if not self._sinks or self._error is not None:
            return None
        if not self._busy and self._shown + len(text) <= SMALL:
            self._shown += len(text)
            _show(self._sinks, [text])
            return None
        self._shown += len(text)
        self._waiting.append(text)
        self._held += len(text)
        if not self._busy and self._held >= min(TOGETHER, AHEAD):
            self._start()
        if self._held <= AHEAD:
            return None
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        return waiter

    async def finish(self) -> None:
        """All of it has been shown. Raises what a sink raised."""
        while self._busy or self._waiting:
            if not self._busy:
                self._start()
            waiter: Deferred[None] = Deferred()
            self._waiters.append(waiter)
            await waiter
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Show nothing more."""
        self._sinks = ()
        self._waiting, self._held = [], 0

    def _start(self) -> None:
        texts, self._waiting, self._held = self._waiting, [], 0
        self._busy = True
        self._world.threads.call(_show, self._sinks, texts).addBoth(self._over)

    def _over(self, result: object) -> None:
        self._busy = False
        if isinstance(result, Failure):
            self._error = result.value
            self.abort()
        if self._held >= min(TOGETHER, AHEAD):
            self._start()
        if self._held <= AHEAD:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(None)


def _show(sinks: Sequence[Sink], texts: Sequence[bytes]) -> None:
    for text in texts:
        for at in range(0, len(text), _BLOCK):
            block = text[at : at + _BLOCK]
            for sink in sinks:
                sink(block)


async def reread(world: World, source: Readable, offset: int, sink: Sink) -> None:
    """Show the content of `source` from `offset` on to `sink`. Raises what either raises."""
    watch = BodyWatch(world, [sink])
    while block := await source.read(offset, _BLOCK):
        offset += len(block)
        room = watch.feed(block)
        if room is not None:
            await room
    await watch.finish()
