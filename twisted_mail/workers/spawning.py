"""Workers as processes: a program started anew, never a fork of one that has a reactor and threads.

    python -m twisted_mail.workers        0: /dev/null  1, 2: the log  3: control  4: counts  5…: sockets

Nothing secret is on its command line or in its environment: that comes over the control channel.

To start takes the better part of a second of CPU, most of it imports. So one is always started ahead, and waits to be
told what it is to be: who takes the place of a worker that has died answers within some tenths.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from .control import Channel, Frame, join
from .orders import python_environment

__all__ = ["CONTROL", "COUNTS", "SOCKETS", "ProcessSpawner"]

CONTROL: Final = 3
COUNTS: Final = 4
SOCKETS: Final = 5
"""The first of the sockets; the others follow."""
AHEAD_SECONDS: Final = 3.0
"""Until one is started ahead, after one was needed."""

_log = Logger()


class ProcessSpawner:
    """Starts workers with `descriptors`, from `COUNTS` on. `output` gives the descriptor of the log."""

    def __init__(
        self, reactor: Any, descriptors: Sequence[int], output: Callable[[], int | None]
    ) -> None:
        self._reactor = reactor
        self._descriptors = descriptors
        self._output = output
        self._spare: _Process | None = None
        self._timer: Any = None

    def stop(self) -> None:
        """Start none ahead; the one that is goes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.kill()

    def forget(self) -> None:
        """What is started ahead is no more what it should be: another one, please."""
        if self._spare is not None:
            self.stop()
            self._ahead_later()

    def spawn(
        self,
        slot: int,
        first: Frame,
        told: Callable[[Frame], object],
        ended: Callable[[str], object],
    ) -> _Process:
        """See `supervisor.Spawner`."""
        process, self._spare = self._spare, None
        if process is None or not process.alive:
            process = self._make()
        process.begin(first, told, ended)
        self._ahead_later()
        return process

    def _ahead_later(self) -> None:
        # Not now: it would take the CPU from the one that is needed.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.callLater(AHEAD_SECONDS, self._ahead)

    def _ahead(self) -> None:
        self._timer = None
        if self._spare is None or not self._spare.alive:
            try:
                self._spare = self._make()
            except OSError as error:
                _log.warn("no worker is started ahead: {error}", error=str(error))

    def _make(self) -> _Process:
        """Raises OSError."""
        ours, theirs = socket.socketpair()
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            output = self._output()
            out = nowhere if output is None else output
            descriptors = {0: nowhere, 1: out, 2: out, CONTROL: theirs.fileno()}
            descriptors.update(enumerate(self._descriptors, COUNTS))
            process = _Process()
            # Its own flags: -O, -W, -X …
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
            flags = [one for one in flags if one not in ("-I", "-E", "-s", "-P")]
            self._reactor.spawnProcess(
                process,
                sys.executable,
                [sys.executable, *flags, "-P", "-m", __package__],
                env=python_environment(os.environ),
                childFDs=descriptors,
            )
            join(self._reactor, ours, process.channel)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(nowhere)
        return process


class _Process(ProcessProtocol):
    """A `supervisor.Child`."""

    def __init__(self) -> None:
        self.channel = Channel(self._hear, lambda: None)
        self._told: Callable[[Frame], object] | None = None
        self._ended: Callable[[str], object] | None = None
        self.pid = 0
        self.alive = True

    def begin(
        self, first: Frame, told: Callable[[Frame], object], ended: Callable[[str], object]
    ) -> None:
        """Say what it is to be."""
        self._told, self._ended = told, ended
        self.send(first)

    def _hear(self, frame: Frame) -> None:
        if self._told is not None:
            self._told(frame)

    def send(self, frame: Frame) -> None:
        self.channel.send(frame)

    def kill(self) -> None:
        transport: Any = self.transport
        try:
            transport.signalProcess(signal.SIGKILL)
        except ProcessExitedAlready:
            pass

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self.pid = transport.pid

    def processEnded(self, reason: Failure) -> None:
        self.alive = False
        transport: Any = self.channel.transport
        if transport is not None:
            transport.abortConnection()
        error = reason.value
        if isinstance(error, ProcessTerminated):
            number = error.signal
            how = (
                f"was ended by {signal.Signals(number).name}"
                if number
                else f"ended with {error.exitCode}"
            )
        else:
            how = ""
        if self._ended is not None:
            self._ended(how)
