"""Workers as processes: a program started anew, never a fork of one that has a reactor and threads.

    python -m twisted_mail.workers SLOT        0: /dev/null  1, 2: the log  3: control  4: counts  5…: sockets

Nothing secret is on its command line or in its environment: that comes over the control channel.
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
from twisted.python.failure import Failure

from .control import Channel, Frame, join
from .orders import python_environment

__all__ = ["CONTROL", "COUNTS", "SOCKETS", "ProcessSpawner"]

CONTROL: Final = 3
COUNTS: Final = 4
SOCKETS: Final = 5
"""The first of the sockets; the others follow."""


class ProcessSpawner:
    """Starts workers with `descriptors`, from `COUNTS` on. `output` gives the descriptor of the log."""

    def __init__(
        self, reactor: Any, descriptors: Sequence[int], output: Callable[[], int | None]
    ) -> None:
        self._reactor = reactor
        self._descriptors = descriptors
        self._output = output

    def spawn(
        self,
        slot: int,
        first: Frame,
        told: Callable[[Frame], object],
        ended: Callable[[str], object],
    ) -> _Process:
        """See `supervisor.Spawner`."""
        ours, theirs = socket.socketpair()
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            output = self._output()
            out = nowhere if output is None else output
            descriptors = {0: nowhere, 1: out, 2: out, CONTROL: theirs.fileno()}
            descriptors.update(enumerate(self._descriptors, COUNTS))
            process = _Process(told, ended)
            # Its own flags: -O, -W, -X …
            flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
            flags = [one for one in flags if one not in ("-I", "-E", "-s", "-P")]
            self._reactor.spawnProcess(
                process,
                sys.executable,
                [sys.executable, *flags, "-P", "-m", __package__, str(slot)],
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
        process.send(first)
        return process


class _Process(ProcessProtocol):
    """A `supervisor.Child`."""

    def __init__(self, told: Callable[[Frame], object], ended: Callable[[str], object]) -> None:
        self.channel = Channel(told, lambda: None)
        self._ended = ended
        self.pid = 0

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
        self._ended(how)
