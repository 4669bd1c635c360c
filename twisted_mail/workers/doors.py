"""A worker's ports: sockets that the main process has opened, and that all workers accept from.

Connections go to whoever is awake first, so each process takes one at a time, and one that clearly has more of them
than the one with the fewest leaves the next to the others, for `PATIENCE_SECONDS` at most: then it takes it, because
those others may hang. Nothing is lost with a worker that dies: who was not accepted yet waits in the socket, which all
share.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet import address, tcp, unix
from twisted.internet.interfaces import IProtocolFactory

from ..listeners import Socket

__all__ = ["Fairness", "take_over"]

STEP_SECONDS: Final = 0.002
PATIENCE_SECONDS: Final = 0.02
_STEPS: Final = round(PATIENCE_SECONDS / STEP_SECONDS)


class Fairness:
    """Who is to take the next connection. `loads`: ours first, then those of all processes that accept."""

    def __init__(self, clock: Any, loads: Callable[[], tuple[int, Sequence[int]]]) -> None:
        self.clock = clock
        self._loads = loads

    def too_many(self) -> bool:
        """Whether this process has clearly more connections than the one with the fewest."""
        mine, all_ = self._loads()
        if not mine:
            return False
        least = min(all_, default=mine)
        return mine > least + 1 + least // 16


class _Shared:
    """Mixed into a port: how it accepts."""

    fairness: Fairness
    _stepped = 0
    _step: Any = None

    def doRead(self) -> None:
        port: Any = self
        if self._stepped < _STEPS and self.fairness.too_many():
            self._stepped += 1
            port.stopReading()
            self._step = self.fairness.clock.callLater(STEP_SECONDS, self._again)
            return
        self._stepped = 0
        # Twisted would take a hundred at once.
        port.numberAccepts = 1
        super().doRead()  # type: ignore[misc]

    def _again(self) -> None:
        self._step = None
        port: Any = self
        port.startReading()

    def stopReading(self) -> None:
        if self._step is not None:
            self._step.cancel()
            self._step = None
        super().stopReading()  # type: ignore[misc]

    def startListening(self) -> None:
        # Twisted's would say in the log that it listens, change the mode of a UNIX socket, which is not ours any more
        # perhaps, and its queue.
        port: Any = self
        port.socket, port._preexistingSocket = port._preexistingSocket, None
        port._shouldShutdown = False
        port._realPortNumber = None
        port.factory.doStart()
        port.connected = True
        port.fileno = port.socket.fileno
        port.startReading()

    def _logConnectionLostMsg(self) -> None:
        """Nothing: the socket is still there, elsewhere."""


class _TcpPort(_Shared, tcp.Port):
    """A socket of TCP."""


class _UnixPort(_Shared, unix.Port):
    """A UNIX socket. The file is the main process's."""

    def connectionLost(self, reason: Any) -> None:
        tcp.Port.connectionLost(self, reason)

    def getHost(self) -> address.UNIXAddress:
        return address.UNIXAddress(self.socket.getsockname())


def take_over(reactor: Any, fairness: Fairness) -> Callable[[Socket, IProtocolFactory], Any]:
    """What makes a port of an inherited socket (`Listeners.adopt`). It closes the descriptor: the port has a copy."""

    def take(one: Socket, factory: IProtocolFactory) -> Any:
        port: Any
        unix_port: Any = _UnixPort
        tcp_port: Any = _TcpPort
        if one.family == socket.AF_UNIX:
            port = unix_port._fromListeningDescriptor(reactor, one.descriptor, factory)
        else:
            port = tcp_port._fromListeningDescriptor(reactor, one.descriptor, one.family, factory)
        port._preexistingSocket.setblocking(False)
        port.fairness = fairness
        port.startListening()
        socket.close(one.descriptor)
        return port

    return take
