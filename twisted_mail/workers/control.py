"""The control channel between the main process and a worker: lists that JSON knows, one a frame.

A frame is four octets of length, then UTF-8. `Channel` is one end of it on the reactor; `read_frame` reads the first
frame of a worker, which says what reactor there is to be.

To a worker: ``start`` (the first, see `orders`), ``open``, ``certificates``, ``log``, ``drain``, ``ping``, ``news``.
From it: ``ready``, ``failed``, ``pong``, ``news``. The end of the channel is the end of the other process, or as good
as that. News are for who listens: to one that does not read they are not said, so that nothing piles up.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["MAX_FRAME", "Channel", "Frame", "encode", "join", "read_frame"]

Frame = list[Any]
"""A word, and what belongs to it."""

MAX_FRAME: Final = 32 * 1024 * 1024
"""Octets: a configuration and the certificates that it names."""
_LENGTH: Final = 4


def encode(frame: Frame) -> bytes:
    """A frame as it travels. Raises ValueError when it is too long, or nothing that JSON knows."""
    content = json.dumps(frame, allow_nan=False, separators=(",", ":")).encode()
    if len(content) > MAX_FRAME:
        raise ValueError(f"a frame of {len(content)} octets")
    return len(content).to_bytes(_LENGTH, "big") + content


def read_frame(end: socket.socket) -> Frame:
    """The next frame, waiting for it. Raises EOFError, OSError, and ValueError for what is none."""
    size = int.from_bytes(_read(end, _LENGTH), "big")
    if size > MAX_FRAME:
        raise ValueError(f"a frame of {size} octets")
    return _frame(_read(end, size))


def _read(end: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        block = end.recv(min(size - len(found), 1 << 20))
        if not block:
            raise EOFError("the other process is gone")
        found += block
    return bytes(found)


def _frame(content: bytes) -> Frame:
    frame = json.loads(content)
    if not isinstance(frame, list) or not frame or not isinstance(frame[0], str):
        raise ValueError("not a frame")
    return frame


class Channel(Int32StringReceiver):
    """One end. `told` is called with each frame, `lost` when there will be no more."""

    MAX_LENGTH = MAX_FRAME

    def __init__(self, told: Callable[[Frame], object], lost: Callable[[], object]) -> None:
        self._told = told
        self._lost = lost
        self._pressure = _Pressure()
        self._over: Callable[[], object] | None = None
        self.open = False
        """Whether there is another end."""

    def connectionMade(self) -> None:
        self.open = True
        transport: Any = self.transport
        transport.registerProducer(self._pressure, True)

    def send(self, frame: Frame) -> None:
        """To the other end, if that is still there. Raises ValueError as `encode` does."""
        content = encode(frame)
        if self.open and not (self._pressure.full and frame[0] == "news"):
            transport: Any = self.transport
            transport.write(content)

    def close(self, over: Callable[[], object]) -> None:
        """Call `over` when what was said has left, and there is no channel any more."""
        if not self.open:
            over()
            return
        self._over = over
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()

    def stringReceived(self, string: bytes) -> None:
        self._told(_frame(string))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.open = False
        self._lost()
        if self._over is not None:
            self._over()


@implementer(IPushProducer)
class _Pressure:
    """Knows whether the transport has enough to send."""

    full = False

    def pauseProducing(self) -> None:
        self.full = True

    def resumeProducing(self) -> None:
        self.full = False

    def stopProducing(self) -> None:
        """There is nothing to stop."""


class _Once(Factory):
    noisy = False

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def buildProtocol(self, addr: IAddress | None) -> Channel:
        return self._channel


def join(reactor: Any, end: socket.socket, channel: Channel) -> None:
    """Have `channel` speak over `end`, which is closed here: the reactor has a copy."""
    end.setblocking(False)
    reactor.adoptStreamConnection(end.fileno(), socket.AF_UNIX, _Once(channel))
    end.close()
