"""BINARY, BINARY.PEEK and BINARY.SIZE (RFC 3516): body parts without their content-transfer-encoding.

Parts that hold parts, and whole messages, are given as they are: they have no encoding of their own (RFC 2045 section
6.4). `message.decode.UnknownEncoding` is raised where another part cannot be decoded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from ..message.decode import Decoder, decoder
from ..message.part import LEAF, Part, find, section
from .fetch_sections import Reader, wire
from .fetching import BinarySection, BinarySize

__all__ = ["Decoded", "binary_reader", "decoded_blocks", "encoding_of", "undecodable"]

PIECE: Final = 131_072
"""Octets that are decoded in one go: some milliseconds, when somebody has written padding between all letters."""


def encoding_of(root: Part, numbers: tuple[int, ...]) -> bytes:
    """What a part that is there is encoded in: a name for `message.decode.decoder`."""
    part = find(root, numbers)
    return part.transfer_encoding if numbers and part is not None and part.shape == LEAF else b""


def undecodable(item: BinarySection | BinarySize) -> bytes:
    """What is said of a part that cannot be decoded; the tagged NO says why (RFC 3516 section 4.3)."""
    return item.label + (b" 0" if isinstance(item, BinarySize) else b" NIL")


def binary_reader(item: BinarySection | BinarySize) -> Reader:
    """What answers `item`; like `fetch_sections.reader`, but that it raises UnknownEncoding."""

    def read(content: bytes, root: Part | None) -> bytes:
        raw, coder = _encoded(content, root, item.part)
        return _said(item, coder.decode(raw) + coder.finish())

    return read


def _said(item: BinarySection | BinarySize, data: bytes) -> bytes:
    """The answer to `item`, of the part's decoded octets."""
    if isinstance(item, BinarySize):
        return b"%b %d" % (item.label, len(data))
    if item.partial is not None:
        # RFC 3516 section 4.2: offsets are into what is decoded
        data = data[item.partial[0] : sum(item.partial)]
    return b"%b ~{%d}\r\n%b" % (item.label, len(data), data)


class Decoded:
    """Parts of one message that is in memory, decoded in pieces; the last one is kept for further items."""

    def __init__(
        self, content: bytes, root: Part | None, between: Callable[[], Awaitable[None]]
    ) -> None:
        self._content = content
        self._root = root
        self._between = between
        self._part: tuple[int, ...] | None = None
        self._data = b""

    async def answer(self, item: BinarySection | BinarySize) -> bytes:
        """As `binary_reader` has it. `between` is awaited between pieces."""
        if item.part != self._part:
            raw, coder = _encoded(self._content, self._root, item.part)
            blocks = []
            for start in range(0, len(raw), PIECE):
                blocks.append(coder.decode(raw[start : start + PIECE]))
                await self._between()
            self._data = b"".join(blocks) + coder.finish()
            self._part = item.part
        return _said(item, self._data)


def _encoded(content: bytes, root: Part | None, numbers: tuple[int, ...]) -> tuple[bytes, Decoder]:
    """A part's octets, b"" when it is not there, and what decodes them."""
    assert root is not None
    where = section(root, numbers)
    if where is None:
        return b"", decoder(b"")
    coder = decoder(encoding_of(root, numbers))
    return wire(content, *where), coder


async def decoded_blocks(
    coder: Decoder, blocks: AsyncIterator[bytes], first: int, last: int
) -> AsyncIterator[bytes]:
    """What `blocks` decode to, from octet `first` up to `last`; b"" for a block that gives nothing."""
    at = 0
    async for block in blocks:
        for start in range(0, len(block), PIECE):
            data = coder.decode(block[start : start + PIECE])
            low, high = max(first - at, 0), last - at
            at += len(data)
            yield data[low:high]
            if at >= last:
                return
    yield coder.finish()[max(first - at, 0) : last - at]
