"""``python -m twisted_mail.workers``: the zygote that `zygote.start_zygote` starts, and each worker that is forked of
it. Not for hands.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any

from . import zygote

__all__ = ["main"]

_CONTROL = 3
_LAST_SECONDS = 2.0
_LAST_WORDS = 4000


def main() -> None:
    """Import all that a worker needs; then be forked, until the main process is gone."""
    os.closerange(zygote.CHANNEL + 1, 1 << 30)
    # A terminal, and who stops a service, send these to all processes; the main one says what is to be done.
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    faulthandler.enable()
    # What is imported stays: to look for garbage in it takes time, and would make pages that are shared one's own.
    gc.disable()
    channel = socket.socket(fileno=zygote.CHANNEL)
    os.set_inheritable(zygote.CHANNEL, False)
    try:
        _import()
        gc.freeze()
        # It holds no log that is moved away, and no terminal.
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in range(3):
            os.dup2(nowhere, number)
        os.close(nowhere)
        zygote.serve(channel, begin)
    except Exception:
        with suppress(OSError):
            zygote.send(channel, ["failed", traceback.format_exc()[-_LAST_WORDS:]])
        raise


def _import() -> None:
    # By `begin`, and until the first client is greeted

    from . import control, logs, loop, orders, worker  # noqa: F401


def begin() -> None:
    """In a child: read what this worker is to be, and be it until its end."""
    from .control import read_frame

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.enable()
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

    from ..descriptors import raise_limit
    from ..world import real_world
    from .control import Channel, join
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

    worker = Worker(
        order,
        real_world(reactor, descriptors=raise_limit()),
        lambda one: channel.send(one),
        over,
        log_again,
    )
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
