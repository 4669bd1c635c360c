"""A worker's log: the same file, stream or system log as the main process's, each line with the worker's number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.logger import ILogObserver, LegacyLogObserverWrapper, LogEvent, Logger, LogLevel
from zope.interface import implementer

from ..console import LogFile
from ..log import discreet, make_observer
from .orders import Order

__all__ = ["make_log"]

_log = Logger()


@implementer(ILogObserver)
class _Numbered:
    """Says in each event which worker it is."""

    def __init__(self, observer: Callable[[LogEvent], object], slot: int) -> None:
        self._observer = observer
        self._slot = slot

    def __call__(self, event: LogEvent) -> None:
        event["worker"] = self._slot
        self._observer(event)


def make_log(order: Order) -> tuple[Any, Callable[[], None]]:
    """An observer, and what opens the file again when it has been moved away. Raises OSError."""
    place, settings = order.log, order.config.log
    if place.syslog is not None:
        from twisted.python import syslog

        emit: Any = syslog.SyslogObserver(place.syslog).emit
        observer = discreet(LegacyLogObserverWrapper(emit))
        return _Numbered(observer, order.slot), lambda: None
    file = LogFile(place.path, descriptor=1)
    observer = make_observer(settings.format, file, level=LogLevel.lookupByName(settings.level))

    def again() -> None:
        if place.path:
            try:
                file.reopen()
            except OSError as error:
                _log.error("the log goes on in the old file: {error}", error=str(error))

    return _Numbered(cast(Any, observer), order.slot), again
