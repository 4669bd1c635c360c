"""What a connection says: gathered, compressed, and block by block as fast as the peer reads.

`Output` stands between the wire and the driver. It promises that answers are written together, that the
peer has got everything said so far once `_flush` has written it, and that a body is asked for no more while the
peer does not read, nor for more than `BREATH` bytes in one turn: compression hides how much it is, and a peer on this
machine reads as fast as is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred

from ..turns import Turns
from .compression import Compression
from .drive import close_pieces
from .interfaces import Answer
from .layer import Make
from .wire import Phase, Wire

__all__ = ["GATHER", "PIECE", "Output"]

GATHER = 32 * 1024
"""Bytes of answers that are gathered before they are written within a turn."""
PIECE = 64 * 1024
"""The most that is written at once."""
BREATH = 256 * 1024
"""Bytes of a body that are sent before others get their turn: up to 5 ms of work where they are compressed."""


class Output(Wire):
    """A `Wire` that speaks in answers. The driver calls `_say`, `_send` and `_flush`."""

    __slots__ = (
        "_breath",
        "_compression",
        "_out",
        "_out_size",
        "_reactor",
        "_room",
        "_turns",
    )

    def __init__(self, reactor: Any, tls: Make | None, implicit_tls: bool, turns: Turns) -> None:
        super().__init__(reactor, tls, implicit_tls)
        self._reactor = reactor
        self._turns = turns
        self._out: list[bytes] = []
        self._out_size = 0
        # Fires when a body that is being sent may go on.
        self._room: Deferred[None] | None = None
        self._compression: Compression | None = None
        self._breath = 0

    def _compress(self) -> Compression:
        """From here on everything is compressed, both ways; what was said before is not."""
        self._flush()
        self._compression = Compression()
        return self._compression

    def quiet(self) -> None:
        super().quiet()
        if self._compression is not None:
            self._compression.rest()

    async def _send(self, answer: Answer) -> None:
        """Say the data and the body of `answer`, as fast as the peer reads."""
        for piece in _pieces(answer.data):
            await self._say_when_read(piece)
        body = answer.body
        if body is None:
            return
        try:
            async for block in body:
                if not block:
                    self._flush()
                for piece in _pieces(block):
                    await self._say_when_read(piece)
        finally:
            await close_pieces(body)

    async def _say_when_read(self, piece: bytes) -> None:
        self._breath += len(piece)
        if self._breath > BREATH:
            self._breath = len(piece)
            await self._turns.breath()
        while self.blocked:
            self._room = Deferred()
            await self._room
            self._breath = len(piece)
        self._say(piece)

    def _say(self, data: bytes) -> None:
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size >= GATHER:
            if self._compression is None:
                self._flush()
            else:
                self._deflate(self._compression)

    def _flush(self) -> None:
        """Write all that was said."""
        if self._compression is not None:
            self._breath = 0
            self._deflate(self._compression)
            if self.phase is Phase.OPEN and (data := self._compression.flush()):
                self.write(data)
        elif self._out_size and self.phase is Phase.OPEN:
            out = self._out
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self._out_size = 0
            self.write(data)

    def _deflate(self, compression: Compression) -> None:
        """Write what the compressor gives by itself."""
        if self._out_size and self.phase is Phase.OPEN:
            data = compression.deflate(b"".join(self._out))
            self._out.clear()
            self._out_size = 0
            if data:
                self.write(data)


def _pieces(data: bytes) -> Iterator[bytes]:
    if len(data) <= PIECE:
        yield data
    else:
        for start in range(0, len(data), PIECE):
            yield data[start : start + PIECE]
