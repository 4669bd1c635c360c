"""One message on its way to a POP3 client: read in blocks, downgraded when asked, encoded, cut.

A `Retrieval` gives the lines of a multi-line reply piece by piece, the terminating one included.
It reads no more than one block ahead of its caller, and from TOP no more than it needs.
"""

from __future__ import annotations

from typing import Final

from ..interfaces import Content
from ..message.lines import LineNormalizer
from ..message.surrogate import Surrogate
from ..message.wire import DotStuffer, wire_size

__all__ = ["BLOCK", "Retrieval", "Top"]

BLOCK: Final = 65_536
"""Bytes read at once for RETR: with what the transport holds, under 256 KiB for a slow reader."""
TOP_BLOCK: Final = 16_384
"""The same for TOP, which mostly wants a header."""


class Top:
    """The header of a message, the empty line, and `lines` lines of its body (RFC 1939 section 7).

    Takes blocks with LF line ends, cut anywhere; `complete` when it wants no more.
    """

    __slots__ = ("_in_header", "_lines", "_starts_line", "complete")

    def __init__(self, lines: int) -> None:
        self.complete = False
        self._lines = lines
        self._in_header = True
        self._starts_line = True

    def feed(self, block: bytes) -> bytes:
        """So much of `block` as belongs to the answer."""
        start = 0
        if self._in_header:
            if self._starts_line and block.startswith(b"\n"):
                start = 1
            else:
                start = block.find(b"\n\n") + 2
                if start < 2:
                    if block:
                        self._starts_line = block.endswith(b"\n")
                    return block
            self._in_header = False
        found = block.count(b"\n", start)
        if found < self._lines:
            self._lines -= found
            return block
        for _ in range(self._lines):
            start = block.index(b"\n", start) + 1
        self.complete = True
        return block[:start]


class Retrieval:
    """The encoded pieces of one message, once, as an asynchronous iterator.

    `size`: the wire size of the content as it is stored. `surrogate`: for a client without UTF-8.
    `top`: not all of it. Whoever makes it closes it; after `close` nothing more is read. Raises what
    the content raises.
    """

    __slots__ = (
        "_content",
        "_lines",
        "_size",
        "_started",
        "_stuffer",
        "_surrogate",
        "_top",
        "done",
    )

    def __init__(
        self, content: Content, size: int, *, surrogate: bool = False, top: Top | None = None
    ) -> None:
        self.done = False
        self._content: Content | None = content
        self._size = size
        self._started = False
        self._stuffer = DotStuffer()
        self._surrogate = Surrogate() if surrogate else None
        self._top = top
        self._lines = LineNormalizer() if top is not None else None

    def __aiter__(self) -> Retrieval:
        return self

    async def __anext__(self) -> bytes:
        if piece := await self.next():
            return piece
        raise StopAsyncIteration

    async def next(self) -> bytes:
        """The next piece. `done` with the last one; b"" after it."""
        out = b""
        while not out and not self.done and self._content is not None:
            block = await self._content.read(BLOCK if self._top is None else TOP_BLOCK)
            if not block:
                out = self._last(b"")
            elif not self._started and len(block) < BLOCK and wire_size(block) == self._size:
                # All of it: no second read to be told so
                out = self._last(block)
            elif self._top is None and self._surrogate is None:
                out = self._stuffer.encode(block)
            else:
                out = self._translated(block)
            self._started = True
        return out

    def close(self) -> None:
        """Let go of the content. Harmless a second time."""
        content, self._content = self._content, None
        if content is not None:
            content.close()

    def _translated(self, block: bytes) -> bytes:
        if self._lines is not None:
            block = self._lines.feed(block)
        if self._surrogate is not None:
            block = self._surrogate.feed(block)
        return self._cut(block)

    def _last(self, block: bytes) -> bytes:
        """The encoded form of the last block and the end of the reply."""
        out = self._translated(block)
        if not self.done:
            rest = self._lines.finish() if self._lines is not None else b""
            if self._surrogate is not None:
                rest = self._surrogate.feed(rest) + self._surrogate.finish()
            out += self._cut(rest)
        if not self.done:
            out += self._finish()
        return out

    def _cut(self, block: bytes) -> bytes:
        if self._top is None:
            return self._stuffer.encode(block)
        out = self._stuffer.encode(self._top.feed(block))
        return out + self._finish() if self._top.complete else out

    def _finish(self) -> bytes:
        self.done = True
        self.close()
        return self._stuffer.finish()
