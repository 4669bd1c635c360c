"""BINARY, BINARY.PEEK and BINARY.SIZE (RFC 3516): body parts without their content-transfer-encoding.

Decoding takes what it is given: octets outside of an encoding's alphabet are passed over, as is what comes after the
padding of base64. Parts that hold parts are given as they are: they have no encoding of their own (RFC 2045 section
6.4). An encoding that is not known raises `UnknownEncoding`.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, a2b_qp
from collections.abc import AsyncIterator
from typing import Final, Protocol

from ..message.part import LEAF, Part, find, section
from .fetch_sections import Reader, wire
from .fetching import BinarySection, BinarySize

__all__ = ["Decoder", "UnknownEncoding", "binary_reader", "decoded", "decoder", "is_plain"]

IDENTITY: Final = frozenset((b"7bit", b"8bit", b"binary", b""))
_LONG: Final = 65_536
_NOT_BASE64: Final = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
)
# RFC 2045 section 6.7: white space at the end of a line was put there on the way
_trailing = re.compile(rb"(?<![ \t])[ \t]++(?=\r\n)").sub


class UnknownEncoding(Exception):
    """NO [UNKNOWN-CTE] (RFC 3516 section 4.3)."""


class Decoder(Protocol):
    """Takes the wire form of a part in blocks, cut anywhere."""

    def decode(self, block: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class _Base64:
    def __init__(self) -> None:
        self._held = b""
        self._over = False

    def decode(self, block: bytes) -> bytes:
        if self._over:
            return b""
        data = self._held + block.translate(None, _NOT_BASE64)
        end = data.find(b"=")
        if end >= 0:
            self._over = True
            data = data[:end]
        whole = len(data) & ~3
        self._held = data[whole:]
        return a2b_base64(data[:whole])

    def finish(self) -> bytes:
        held = self._held
        return a2b_base64(held + b"=" * (4 - len(held))) if len(held) > 1 else b""


class _QuotedPrintable:
    def __init__(self) -> None:
        self._held = b""

    def decode(self, block: bytes) -> bytes:
        data = self._held + block
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) > _LONG:
            # No line is that long: what may be half of something stays
            cut = len(data.rstrip(b" \t\r"))
            at = data.rfind(b"=", max(cut - 2, 0), cut)
            cut = at if at >= 0 else cut
        self._held = data[cut:]
        return _quoted_printable(data[:cut])

    def finish(self) -> bytes:
        return _quoted_printable(self._held)


class _Identity:
    def decode(self, block: bytes) -> bytes:
        return block

    def finish(self) -> bytes:
        return b""


def _quoted_printable(data: bytes) -> bytes:
    if b" \r\n" in data or b"\t\r\n" in data:
        data = _trailing(b"", data)
    return a2b_qp(data)


def is_plain(part: Part, numbers: tuple[int, ...]) -> bool:
    """Whether there is nothing to be decoded. Raises UnknownEncoding."""
    if not numbers or part.shape != LEAF:
        return True
    encoding = part.transfer_encoding
    if encoding in (b"base64", b"quoted-printable"):
        return False
    if encoding in IDENTITY:
        return True
    raise UnknownEncoding


def decoder(part: Part, numbers: tuple[int, ...]) -> Decoder:
    """For the wire form of the part's body. Raises UnknownEncoding."""
    if is_plain(part, numbers):
        return _Identity()
    return _Base64() if part.transfer_encoding == b"base64" else _QuotedPrintable()


def decoded(content: bytes, root: Part, numbers: tuple[int, ...]) -> bytes:
    """Of a message in memory; b"" for a part that is not there. Raises UnknownEncoding."""
    part = find(root, numbers)
    where = section(root, numbers)
    if part is None or where is None:
        return b""
    coder = decoder(part, numbers)
    return coder.decode(wire(content, *where)) + coder.finish()


def binary_reader(item: BinarySection | BinarySize) -> Reader:
    """What answers `item`; like `fetch_sections.reader`, but that it raises UnknownEncoding."""
    label, numbers = item.label, item.part
    if isinstance(item, BinarySize):

        def size(content: bytes, root: Part | None) -> bytes:
            assert root is not None
            return b"%b %d" % (label, len(decoded(content, root, numbers)))

        return size
    first, last = 0, None
    if item.partial is not None:
        # RFC 3516 section 4.2: offsets are into what is decoded
        first, last = item.partial[0], sum(item.partial)

    def some(content: bytes, root: Part | None) -> bytes:
        assert root is not None
        data = decoded(content, root, numbers)[first:last]
        return b"%b ~{%d}\r\n%b" % (label, len(data), data)

    return some


async def decoded_blocks(
    coder: Decoder, blocks: AsyncIterator[bytes], first: int, last: int
) -> AsyncIterator[bytes]:
    """What `blocks` decode to, from octet `first` up to `last`; it ends early when that is reached. b"" for a block
    that gives nothing."""
    at = 0
    async for block in blocks:
        data = coder.decode(block)
        low, high = max(first - at, 0), last - at
        at += len(data)
        yield data[low:high]
        if at >= last:
            return
    data = coder.finish()
    yield data[max(first - at, 0) : last - at]
