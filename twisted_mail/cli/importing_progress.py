"""How far a long command is: bars on a terminal, a line now and then elsewhere. On standard error."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from twisted.internet.defer import Deferred

from ..storage.progress import InterruptedImportError
from .output import octets_text

if TYPE_CHECKING:
    from ..world import World

__all__ = ["Shown", "interruptible"]

T = TypeVar("T")
_EVERY: Final = 5.0
"""Seconds between two lines where nobody looks."""


class Shown:
    """A `storage.importing.Progress` for people. `now` is a clock, seconds; `things`: what is counted."""

    def __init__(self, now: Any, things: str = "messages") -> None:
        self.interrupted = False
        self._things = things
        self._now = now
        self._bar: Any = None
        self._task: Any = None
        self._what = ""
        self._total = self._messages = self._octets = self._octets_total = 0
        self._told = 0.0

    def begin(self, what: str, messages: int, octets: int) -> None:
        self._what, self._total, self._octets_total = what, messages, octets
        self._messages = self._octets = 0
        self._told = self._now()
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._bar.start()
        self._task = self._bar.add_task(what, total=octets or messages or None, text="")

    def step(self, messages: int, octets: int) -> None:
        self._messages += messages
        self._octets += octets
        if self.interrupted:
            self.end()
            raise InterruptedImportError("stopped; the same command goes on from here")
        if self._bar is not None:
            if self._messages % 50 == 0 or octets > 65_536 or self._messages == self._total:
                done = self._octets if self._octets_total else self._messages
                self._bar.update(self._task, completed=done, text=self._text())
        elif self._now() - self._told > _EVERY:
            self._told = self._now()
            click.echo(f"{self._what}: {self._text()}", err=True)

    def _text(self) -> str:
        of = f" of {self._total}" if self._total else ""
        text = f"{self._messages}{of} {self._things}"
        return f"{text}, {octets_text(self._octets)}" if self._octets else text

    def end(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, text=self._text())
            self._bar.stop()
            self._bar = None


async def interruptible(world: World, progress: Shown, work: Awaitable[T]) -> T:
    """What `work` gives. At Ctrl-C it is told by its progress, and the reactor waits until it has ended."""
    ended: Deferred[None] = Deferred()

    def stop() -> Deferred[None]:
        progress.interrupted = True
        return ended

    trigger = world.reactor.addSystemEventTrigger("before", "shutdown", stop)
    try:
        return await work
    finally:
        if not progress.interrupted:
            world.reactor.removeSystemEventTrigger(trigger)
        ended.callback(None)
