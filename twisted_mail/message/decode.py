"""Content-Transfer-Encodings undone (RFC 2045 section 6), for BINARY (RFC 3516, RFC 9051 section 6.4.5) and for search.

Decoders take blocks cut anywhere and never raise: what is no base64 is passed over, what is no quoted-printable stays
as it is. Memory is bounded by the block.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, a2b_qp
from collections.abc import Iterator
from mmap import mmap
from typing import Final, Protocol

from .part import MULTIPART, Part
from .wire import LineEnds

__all__ = ["BLOCK", "Decoder", "UnknownEncoding", "decoded", "decoded_size", "decoder"]

BLOCK: Final = 262_144
"""Octets of content that are decoded in one go."""
MAX_LINE: Final = 65_536
"""Octets of a quoted-printable line that are held back for its end."""

IDENTITY: Final = frozenset((b"", b"7bit", b"8bit", b"binary"))

_NOT_BASE64: Final = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
)
# RFC 2045 section 6.7 rule 3; only where white space begins: each octet is looked at once
_trailing: Final = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n)")


class UnknownEncoding(ValueError):
    """Of a part that cannot be decoded: NO [UNKNOWN-CTE] (RFC 3516 section 4.3)."""


class Decoder(Protocol):
    def decode(self, block: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class Identity:
    __slots__ = ()

    def decode(self, block: bytes) -> bytes:
        return block

    def finish(self) -> bytes:
        return b""


class Base64:
    """RFC 2045 section 6.8; what stands behind padding begins anew."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def decode(self, block: bytes) -> bytes:
        data = self._held + block.translate(None, _NOT_BASE64)
        if b"=" not in data:
            whole = len(data) & ~3
            self._held = data[whole:]
            return a2b_base64(data[:whole])
        *ended, data = data.split(b"=")
        whole = len(data) & ~3
        self._held = data[whole:]
        # There may be as many of them as octets: no call for each. More padding than is needed changes nothing.
        parts = [a2b_base64(one + b"==" if len(one) & 3 != 1 else one[:-1]) for one in ended if one]
        return b"".join(parts) + a2b_base64(data[:whole])

    def finish(self) -> bytes:
        data, self._held = self._held, b""
        return _padded(data)


class QuotedPrintable:
    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def decode(self, block: bytes) -> bytes:
        data = self._held + block
        cut = data.rfind(b"\n") + 1
        if len(data) - cut > MAX_LINE:
            # No line of mail: cut where no octet is written
            cut = len(data)
            if (sign := data.rfind(b"=", cut - 3)) >= 0:
                cut = sign
        self._held = data[cut:]
        return _from_qp(data[:cut])

    def finish(self) -> bytes:
        data, self._held = self._held, b""
        # A soft line break at the end breaks nothing
        return _from_qp(data.removesuffix(b"="))


def decoder(encoding: bytes) -> Decoder:
    """For a lower-case `Part.transfer_encoding`. UnknownEncoding: there is none."""
    if encoding in IDENTITY:
        return Identity()
    if encoding == b"base64":
        return Base64()
    if encoding == b"quoted-printable":
        return QuotedPrintable()
    raise UnknownEncoding(encoding)


def decoded(
    content: bytes | mmap, part: Part, first: int = 0, count: int | None = None
) -> Iterator[bytes]:
    """The part's body decoded, from octet `first`, at most `count`; lines of text end in CRLF, as on the wire.

    In blocks; `content` has to stay open until the last one. UnknownEncoding comes before anything else.
    """
    # RFC 2045 section 6.4: a multipart has no other encoding than none
    encoding = b"7bit" if part.shape == MULTIPART else part.transfer_encoding
    return _window(_blocks(content, part, decoder(encoding)), first, count)


def decoded_size(content: bytes | mmap, part: Part) -> int:
    """Octets of what `decoded` gives."""
    if part.shape == MULTIPART or part.transfer_encoding in IDENTITY:
        return part.octets
    return sum(map(len, decoded(content, part)))


def _blocks(content: bytes | mmap, part: Part, undo: Decoder) -> Iterator[bytes]:
    ends = LineEnds()
    for start in range(part.body, part.end, BLOCK):
        block = ends.encode(content[start : min(start + BLOCK, part.end)])
        yield undo.decode(block)
    if part.end == len(content):
        yield undo.decode(ends.finish())
    yield undo.finish()


def _window(blocks: Iterator[bytes], first: int, count: int | None) -> Iterator[bytes]:
    at = 0
    end = None if count is None else first + count
    for block in blocks:
        start = max(first - at, 0)
        stop = len(block) if end is None else min(len(block), end - at)
        if start < stop:
            yield block[start:stop]
        at += len(block)
        if end is not None and at >= end:
            return


def _padded(data: bytes) -> bytes:
    extra = len(data) & 3
    if extra == 1:
        data = data[:-1]
        extra = 0
    return a2b_base64(data + b"=" * (4 - extra if extra else 0))


def _from_qp(data: bytes) -> bytes:
    if b" \n" in data or b"\t\n" in data or b" \r" in data or b"\t\r" in data:
        data = _trailing.sub(b"", data)
    return a2b_qp(data)
