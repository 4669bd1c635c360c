"""BINARY, BINARY.PEEK and BINARY.SIZE (RFC 3516): body parts without their content-transfer-encoding.

Parts that hold parts, and whole messages, are given as they are: they have no encoding of their own (RFC 2045 section
6.4). `message.decode.UnknownEncoding` is raised where another part cannot be decoded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..message.decode import Decoder, decoder
from ..message.part import LEAF, Part, find, section
from .fetch_sections import Reader, wire
from .fetching import BinarySection, BinarySize

__all__ = ["binary_reader", "decoded_blocks", "encoding_of", "undecodable"]


def encoding_of(root: Part, numbers: tuple[int, ...]) -> bytes:
    """What a part that is there is encoded in: a name for `message.decode.decoder`."""
    part = find(root, numbers)
    return part.transfer_encoding if numbers and part is not None and part.shape == LEAF else b""


def undecodable(item: BinarySection | BinarySize) -> bytes:
    """What is said of a part that cannot be decoded; the tagged NO says why (RFC 3516 section 4.3)."""
    return item.label + (b" 0" if isinstance(item, BinarySize) else b" NIL")


def binary_reader(item: BinarySection | BinarySize) -> Reader:
    """What answers `item`; like `fetch_sections.reader`, but that it raises UnknownEncoding."""
    label, numbers = item.label, item.part
    if isinstance(item, BinarySize):

        def size(content: bytes, root: Part | None) -> bytes:
            return b"%b %d" % (label, len(_decoded(content, root, numbers)))

        return size
    first, last = 0, None
    if item.partial is not None:
        # RFC 3516 section 4.2: offsets are into what is decoded
        first, last = item.partial[0], sum(item.partial)

    def some(content: bytes, root: Part | None) -> bytes:
        data = _decoded(content, root, numbers)[first:last]
        return b"%b ~{%d}\r\n%b" % (label, len(data), data)

    return some


def _decoded(content: bytes, root: Part | None, numbers: tuple[int, ...]) -> bytes:
    assert root is not None
    where = section(root, numbers)
    if where is None:
        return b""
    coder = decoder(encoding_of(root, numbers))
    return coder.decode(wire(content, *where)) + coder.finish()


async def decoded_blocks(
    coder: Decoder, blocks: AsyncIterator[bytes], first: int, last: int
) -> AsyncIterator[bytes]:
    """What `blocks` decode to, from octet `first` up to `last`; b"" for a block that gives nothing."""
    at = 0
    async for block in blocks:
        data = coder.decode(block)
        low, high = max(first - at, 0), last - at
        at += len(data)
        yield data[low:high]
        if at >= last:
            return
    yield coder.finish()[max(first - at, 0) : last - at]
