"""``python -m twisted_mail.workers``: what `spawning` starts. Not for hands."""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
import socket
import sys
from typing import Any

from .control import Channel, join, read_frame

__all__ = ["main"]

_CONTROL = 3
_LAST_SECONDS = 2.0


def main() -> None:
    """Read what this worker is to be, and be it until its end."""
    # A terminal sends these to all processes; the main one says what is to be done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    faulthandler.enable()
    # Before there is anything to do: who is started ahead waits with all in memory, but no reactor.
    from . import logs, worker  # noqa: F401

    control = socket.socket(fileno=_CONTROL)
    control.setblocking(True)
    try:
        frame = read_frame(control)
    except (EOFError, ConnectionError):
        return
    sys.path[:] = frame[1]["path"]
    importlib.import_module(frame[1]["reactor"]).install()
    _run(control, frame)


def _run(control: socket.socket, frame: Any) -> None:
    from twisted.internet import reactor  # noqa: TID251  # this is where the World is made
    from twisted.logger import globalLogBeginner

    from ..world import real_world
    from .logs import make_log
    from .orders import read_order
    from .worker import Worker

    any_reactor: Any = reactor
    order = read_order(frame)
    observer, log_again = make_log(order)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    status = 0

    def over(how: int) -> None:
        nonlocal status
        status = how
        # What was said last leaves before, if the main process listens.
        waiting = any_reactor.callLater(_LAST_SECONDS, any_reactor.stop)

        def stop() -> None:
            if waiting.active():
                waiting.cancel()
                any_reactor.callLater(0, any_reactor.stop)

        channel.close(stop)

    worker = Worker(order, real_world(reactor), lambda one: channel.send(one), over, log_again)
    channel = Channel(worker.told, worker.leave)
    any_reactor.callWhenRunning(worker.start)
    any_reactor.callWhenRunning(
        signal.signal,
        signal.SIGTERM,
        lambda *_: any_reactor.callFromThread(worker.leave),
    )
    join(reactor, control, channel)
    any_reactor.run(installSignalHandlers=False)
    sys.stdout.flush()
    # Pool threads and collectors have nothing left to do.
    os._exit(status)


if __name__ == "__main__":
    main()
