"""Workers as processes: forked of a zygote, never of this process, which has a reactor and threads.

    0: /dev/null  1, 2: the log  3: control  4: counts  5…: sockets

Nothing secret is on a command line or in an environment: that comes over the control channel.

The zygote (see `zygote`) waits for the workers and tells how they ended. When it ends itself, those that there are live
on, and another one is started. Then nobody is told how they end, but that they have: each is known by a pidfd, too.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from .control import Channel, Frame, join
from .zygote import CHANNEL, Started, how_it_ended, receive, send, start_zygote

__all__ = ["CONTROL", "COUNTS", "SOCKETS", "ProcessSpawner"]

CONTROL: Final = CHANNEL
COUNTS: Final = 4
SOCKETS: Final = 5
"""The first of the sockets; the others follow."""
LAST_SECONDS: Final = 1.0
"""For the last words of a process that has ended. They are there already, unless somebody else holds its channel."""
AGAIN_SECONDS: Final = 1.0
"""Until there is another zygote, when nobody needs one before."""

_log = Logger()


class ProcessSpawner:
    """Starts workers with `descriptors`, from `COUNTS` on. `output` gives the descriptor of the log. `zygote`: one that
    was started already; `start` starts one, with its output.
    """

    def __init__(
        self,
        reactor: Any,
        descriptors: Sequence[int],
        output: Callable[[], int | None],
        zygote: Started | None = None,
        start: Callable[[int | None], Started] = start_zygote,
    ) -> None:
        self._reactor = reactor
        self._descriptors = descriptors
        self._output = output
        self._start = start
        self._numbers = itertools.count(1)
        self._again: Any = None
        self._zygote: _Zygote | None = None
        if zygote is not None:
            self._zygote = _Zygote(reactor, zygote, self._lost)

    def stop(self) -> None:
        """Start no more, and let the zygote go; workers are not told of it."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.end()

    def spawn(
        self,
        slot: int,
        first: Frame,
        told: Callable[[Frame], object],
        ended: Callable[[str], object],
    ) -> _Process:
        """See `supervisor.Spawner`. What keeps it from being forked is told as its end."""
        zygote = self._ready()
        ours, theirs = socket.socketpair()
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            output = self._output()
            out = nowhere if output is None else output
            process = _Process(self._reactor, zygote, told, ended)
            join(self._reactor, ours, process.channel)
            try:
                process.send(first)
                descriptors = [nowhere, out, out, theirs.fileno(), *self._descriptors]
                zygote.fork(next(self._numbers), process, descriptors)
            except BaseException:
                process.give_up()
                raise
        finally:
            ours.close()
            theirs.close()
            os.close(nowhere)
        return process

    def _ready(self) -> _Zygote:
        """The zygote, or a new one. Raises OSError."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._zygote is None:
            self._zygote = _Zygote(self._reactor, self._start(self._output()), self._lost)
        return self._zygote

    def _lost(self, zygote: _Zygote, reason: str) -> None:
        if zygote is not self._zygote:
            return
        self._zygote = None
        if zygote.ready:
            # Who did not come so far is tried again when a worker is needed, with the pauses of that.
            self._again = self._reactor.callLater(AGAIN_SECONDS, self._start_again)
        _log.error(
            "the zygote {reason}; its workers go on, and the next ones are forked of another",
            reason=reason,
        )

    def _start_again(self) -> None:
        self._again = None
        try:
            self._ready()
        except OSError as error:
            _log.warn("no zygote can be started: {error}", error=str(error))


@implementer(IReadDescriptor)
class _Reader:
    """Has the reactor look at a descriptor."""

    def __init__(self, descriptor: int, look: Callable[[], object]) -> None:
        self._descriptor = descriptor
        self._look = look

    def doRead(self) -> None:
        self._look()

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "workers"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""


class _Zygote:
    """One zygote: what is asked of it, and what it tells. `lost` is called with the reason when it has ended unasked,
    after all of its workers' ends that it has told.
    """

    def __init__(
        self, reactor: Any, started: Started, lost: Callable[[_Zygote, str], object]
    ) -> None:
        self.ready = False
        """Whether it has imported all."""
        self._reactor = reactor
        self._started = started
        self._lost = lost
        self._said = ""
        self._ended = False
        self._processes: dict[int, _Process] = {}
        started.channel.setblocking(False)
        self._reader = _Reader(started.channel.fileno(), self._look)
        reactor.addReader(self._reader)

    def fork(self, number: int, process: _Process, descriptors: Sequence[int]) -> None:
        """Have it fork `process`. Raises OSError."""
        send(self._started.channel, ["fork", number, len(descriptors)], descriptors)
        self._processes[number] = process

    def kill(self) -> None:
        """SIGKILL; its end is told as any other."""
        if not self._ended:
            os.kill(self._started.pid, signal.SIGKILL)

    def end(self) -> str:
        """Be rid of it; the reason, if it had one of its own. The processes are watched without it."""
        self._ended = True
        self._reactor.removeReader(self._reader)
        how = self._started.end()
        processes, self._processes = self._processes, {}
        for process in processes.values():
            process.orphaned()
        return how

    def _look(self) -> None:
        # The end of a worker may be the end of its zygote, too: nobody needs it any more.
        while not self._ended:
            try:
                words, descriptors = receive(self._started.channel)
            except BlockingIOError:
                return
            except (EOFError, OSError):
                how = self.end()
                self._lost(self, self._said or how or "ended")
                return
            self._heard(words, descriptors)

    def _heard(self, words: list[Any], descriptors: list[int]) -> None:
        word, *rest = words
        if word == "ready":
            self.ready = True
        elif word == "failed":
            self._said = f"has failed: {rest[0]}"
        elif word == "forked":
            if descriptors:
                self._processes[rest[0]].forked(rest[1], descriptors[0])
            else:
                # It leaves when its channel is closed
                self._processes.pop(rest[0]).over("cannot be started: no room for its descriptor")
        elif word == "refused":
            self._processes.pop(rest[0]).over(f"cannot be started: {rest[1]}")
        elif word == "ended" and (process := self._processes.pop(rest[0], None)) is not None:
            process.over(how_it_ended(rest[1]))


class _Process:
    """A `supervisor.Child`."""

    def __init__(
        self,
        reactor: Any,
        zygote: _Zygote,
        told: Callable[[Frame], object],
        ended: Callable[[str], object],
    ) -> None:
        self._reactor = reactor
        self._zygote = zygote
        self.channel = Channel(told, self._silent)
        self._ended: Callable[[str], object] | None = ended
        self._how = ""
        self._waiting: Any = None
        self._pidfd = -1
        self._reader: _Reader | None = None
        self.pid = 0
        """0: not forked yet."""
        self.alive = True

    def send(self, frame: Frame) -> None:
        self.channel.send(frame)

    def kill(self) -> None:
        if not self.alive:
            return
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
        else:
            # Who has not come so far as to fork it hangs, and would keep the others waiting.
            self._zygote.kill()

    def forked(self, pid: int, pidfd: int) -> None:
        """It is there. `pidfd` belongs to it from now on."""
        self.pid, self._pidfd = pid, pidfd

    def orphaned(self) -> None:
        """There is no zygote any more that would tell its end."""
        if self._pidfd < 0:
            # A moment later: not in the middle of what its owner does
            self._reactor.callLater(0, self.over, "cannot be started: the zygote has ended")
            return
        # A pidfd can be read when the process has ended (pidfd_open(2)).
        self._reader = _Reader(
            self._pidfd, lambda: self.over("ended, and nobody was there to be told how")
        )
        self._reactor.addReader(self._reader)

    def over(self, how: str) -> None:
        """It has ended; or never was."""
        if not self.alive:
            return
        self.alive = False
        self._how = how
        if self._reader is not None:
            self._reactor.removeReader(self._reader)
            self._reader = None
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self.channel.open and self.pid:
            # Why it could not start, perhaps
            self._waiting = self._reactor.callLater(LAST_SECONDS, self._silent)
        else:
            self._silent()

    def give_up(self) -> None:
        """It is not to be; nobody is told."""
        self._ended = None
        self.over("")

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
