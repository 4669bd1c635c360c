"""Workers as processes: a program started anew, never a fork of one that has a reactor and threads.

    python -m twisted_mail.workers        0: /dev/null  1, 2: the log  3: control  4: counts  5…: sockets

Nothing secret is on its command line or in its environment: that comes over the control channel.

To start takes half a second of CPU, most of it imports. So one is always started ahead, and waits to be told what it is
to be: who takes the place of a worker that has died answers within some tenths.
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
"""Until one is started ahead, after one was needed that is not ready so long."""
LAST_SECONDS: Final = 1.0
"""For the last words of a process that has ended. They are there already, unless somebody else holds its channel."""

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
        self._begun: set[_Process] = set()

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
        begun = process

        def heard(frame: Frame) -> None:
            if frame[0] == "ready":
                self._came_up(begun)
            told(frame)

        def over(reason: str) -> None:
            self._came_up(begun)
            ended(reason)

        try:
            process.begin(first, heard, over)
        except ValueError:
            process.kill()
            raise
        self._begun.add(process)
        self._ahead_later()
        return process

    def _came_up(self, process: _Process) -> None:
        self._begun.discard(process)
        if self._timer is not None and not self._begun:
            self._timer.reset(0)

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
            process = _Process(self._reactor)
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

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self.channel = Channel(self._hear, self._silent)
        self._told: Callable[[Frame], object] | None = None
        self._ended: Callable[[str], object] | None = None
        self._how = ""
        self._waiting: Any = None
        self.pid = 0
        self.alive = True

    def begin(
        self, first: Frame, told: Callable[[Frame], object], ended: Callable[[str], object]
    ) -> None:
        """Say what it is to be. Raises ValueError when that is too much, and then nothing is told of it."""
        self.send(first)
        self._told, self._ended = told, ended

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
        error = reason.value
        if isinstance(error, ProcessTerminated):
            number = error.signal
            self._how = (
                f"was ended by {signal.Signals(number).name}"
                if number
                else f"ended with {error.exitCode}"
            )
        if self.channel.open:
            # Why it could not start, perhaps
            self._waiting = self._clock.callLater(LAST_SECONDS, self._silent)
        else:
            self._silent()

    def _silent(self) -> None:
        """Nothing more is heard of it, or waited for."""
        if self.alive:
            return  # its end is to come
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
        if self.channel.open:
            transport: Any = self.channel.transport
            transport.abortConnection()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self._how)
