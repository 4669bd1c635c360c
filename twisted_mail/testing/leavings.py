"""What a server may leave behind that nobody sees: descriptors, files, Deferreds, and failures that nobody hears of."""

from __future__ import annotations

import gc
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

__all__ = ["Unheard", "deferreds", "left_open", "temporary_files"]


def left_open(directory: Path) -> set[tuple[str, str]]:
    """Descriptors of this process, SQLite's too, and their paths: those below `directory`."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{fd}")
            if path.startswith(f"{directory}/"):
                found.add((fd, path))
    return found


def temporary_files(data: Path, queued: Collection[str]) -> list[str]:
    """What a data directory holds after a stop that it should not: of files under way, and of what is not `queued`."""
    found = [
        path
        for place in ("journal/spill", "journal/scratch", "journal/writers", "parked")
        for path in (data / place).glob("*")
    ]
    found += (data / "mail").rglob("tmp/*")
    found += [
        path for path in (data / "queue").glob("[0-9a-f][0-9a-f]/*") if path.name not in queued
    ]
    return sorted(str(path.relative_to(data)) for path in found)


def deferreds(*, collect: bool = True) -> set[Deferred[Any]]:
    """Those of this process that have no result, and that somebody waits for, and holds on to if `collect`."""
    if collect:
        gc.collect()
    return {
        one
        for one in gc.get_objects()
        if isinstance(one, Deferred) and not one.called and vars(one).get("_callbacks")
    }


@implementer(ILogObserver)
class Unheard:
    """Listens to the log, until `end`, for what failed where nobody waited for it."""

    def __init__(self) -> None:
        self.words: list[str] = []
        globalLogPublisher.addObserver(self)

    def end(self) -> None:
        globalLogPublisher.removeObserver(self)

    def __call__(self, event: LogEvent) -> None:
        # Twisted's own words for it; what this program says of a fault it has dealt with.
        if event.get("log_level") is LogLevel.critical and event.get(
            "log_namespace", ""
        ).startswith("twisted."):
            self.words.append(str(event.get("log_failure") or event.get("log_format")))
