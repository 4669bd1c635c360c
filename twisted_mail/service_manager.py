"""What systemd is told of this process, when it has started it: sd_notify(3).

A unit of ``Type=notify`` is up when mail can come and go, not when the program runs; a change of its
configuration and its end are seen as such; and with ``WatchdogSec=`` a process whose event loop hangs is started anew.
What cannot be told is logged once, and keeps nobody from serving mail.

Who was not started by systemd has no $NOTIFY_SOCKET, and tells nobody.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from twisted.logger import Logger

__all__ = ["ServiceManager"]

_log = Logger()
_SOCKET: Final = "NOTIFY_SOCKET"
_WATCHDOG: Final = ("WATCHDOG_USEC", "WATCHDOG_PID")
_LONGEST: Final = 200
"""Characters of a status."""


class ServiceManager:
    """By what `environment` says, which is taken out of it: children are not to speak for this process.

    `clock` provides IReactorTime; `microseconds` is CLOCK_MONOTONIC.
    """

    def __init__(
        self,
        clock: Any,
        environment: MutableMapping[str, str],
        *,
        pid: int | None = None,
        microseconds: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        self._clock = clock
        self._microseconds = microseconds
        self._address = _address(environment.pop(_SOCKET, ""))
        usec, whose = (environment.pop(name, "") for name in _WATCHDOG)
        mine = not whose or whose == str(os.getpid() if pid is None else pid)
        # sd_watchdog_enabled(3): half of it is what is asked for
        seconds = int(usec) / 2_000_000 if usec.isdecimal() and mine else 0.0
        self._watchdog_seconds = seconds if self._address is not None else 0.0
        self._timer: Any = None
        self._ready = False
        self._complained = False

    def ready(self, status: str = "") -> None:
        """It serves."""
        self._tell("READY=1", _status(status))
        self._ready = True
        if self._watchdog_seconds and self._timer is None:
            self._alive()

    def reloading(self) -> None:
        """It takes up another configuration; `reloaded` says when that is done, also when it came to nothing."""
        if self._ready:
            # systemd.service(5), Type=notify-reload: the time tells this one from one before
            self._tell("RELOADING=1", f"MONOTONIC_USEC={self._microseconds()}")

    def reloaded(self) -> None:
        if self._ready:
            self._tell("READY=1")

    def stopping(self) -> None:
        """It drains. The watchdog goes on: who hangs at the end is ended, too."""
        self._ready = False
        self._tell("STOPPING=1", _status("clients finish what they are in the middle of"))

    def stop(self) -> None:
        """The loop ends: nothing more is told."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _alive(self) -> None:
        self._timer = self._clock.callLater(self._watchdog_seconds, self._alive)
        self._tell("WATCHDOG=1")

    def _tell(self, *words: str) -> None:
        if self._address is None:
            return
        message = "\n".join(word for word in words if word).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
                end.setblocking(False)
                end.sendto(message, self._address)
        except OSError as error:
            if not self._complained:
                self._complained = True
                _log.warn("systemd is not told: {error}", error=str(error))


def _address(named: str) -> str | None:
    """None: nobody, or not a UNIX socket."""
    if named.startswith("@"):
        return "\0" + named[1:]  # unix(7), abstract
    return named if named.startswith("/") else None


def _status(text: str) -> str:
    line = text.replace("\n", " ")[:_LONGEST]
    return f"STATUS={line}" if line else ""
