"""DEFLATE both ways on one connection (RFC 4978): a pipe's state, no I/O.

It promises that

- what the peer sends is inflated only as it is asked for, in pieces of a size the caller names: a few
  bytes that mean gigabytes cost no more memory than others;
- `flush` leaves the peer with everything that was said, at a byte's end;
- a quiet connection keeps next to nothing (`rest`). What compresses is made anew, refers to nothing that was
  said before, and the peer sees no seam. What inflates is made anew of the last 32 KiB that the peer said.

Memory, by zlib's own account: to inflate 40 KiB (the window is the peer's to choose, RFC 4978 asks for no less),
to deflate 64 KiB; after `rest` what the peer has said, 32 KiB at most.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

__all__ = ["Compression", "CorruptError"]

# zconf.h: deflate takes (1 << (window bits + 2)) + (1 << (memory level + 9)) bytes; zlib's own choice, 15 and 8,
# is 256 KiB. IMAP's answers repeat themselves within a few lines: measured, 13 and 6 compress FETCH answers
# better than 15 and 8 and prose 2 % worse. Level 6 is 10 % smaller than level 3 and takes twice the time.
LEVEL: Final = 3
WINDOW_BITS: Final = 13
MEMORY_LEVEL: Final = 6

# RFC 1951 section 3.2.4: a block of no bytes, as each flush ends; and one that says it is the last
_SYNC: Final = b"\0\0\xff\xff"
_LAST: Final = b"\1\0\0\xff\xff"
_WINDOW: Final = 1 << zlib.MAX_WBITS


class CorruptError(Exception):
    """The peer sends what is no DEFLATE."""


class Compression:
    """One connection's two streams. Bytes in and out are raw DEFLATE (RFC 1951), without a header."""

    __slots__ = ("_deflate", "_inflate", "_input", "_more", "_said", "_tail", "_unflushed")

    def __init__(self) -> None:
        self._inflate: Any = None
        self._said = b""  # the window: what comes may refer to it
        self._tail = b""  # the last of what was fed
        self._deflate: Any = None
        self._input = b""
        self._more = False  # whether the last piece was cut off by its limit
        self._unflushed = False

    @property
    def pending(self) -> int:
        """Bytes from the peer that are still compressed."""
        return len(self._input)

    def feed(self, data: bytes) -> None:
        """Take bytes from the peer. Nothing is inflated yet."""
        self._tail = (self._tail + data)[-4:]
        self._input = self._input + data if self._input else data

    def inflate(self, limit: int) -> bytes:
        """The next bytes that the peer means, at most `limit`; b"" when more must come first.

        Raises `CorruptError`, and what was whole in that piece is lost; also for what comes behind the end of the
        stream: RFC 4978 knows no end.
        """
        data = self._input
        if not data and not self._more:
            return b""
        inflate = self._inflate
        if inflate is None:
            inflate = self._inflate = zlib.decompressobj(-zlib.MAX_WBITS, zdict=self._said)
        try:
            piece: bytes = inflate.decompress(data, limit)
        except zlib.error as error:
            raise CorruptError(str(error)) from None
        if inflate.unused_data:
            raise CorruptError("bytes behind the end of the compressed stream")
        self._input = inflate.unconsumed_tail
        # All input may be taken while output is still in the window.
        self._more = len(piece) == limit and not inflate.eof
        self._said = (self._said + piece)[-_WINDOW:]
        return piece

    def deflate(self, data: bytes) -> bytes:
        """`data` compressed, in part or in whole: the rest comes with the next one, or with `flush`."""
        if not data:
            return b""
        if self._deflate is None:
            self._deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL)
        self._unflushed = True
        compressed: bytes = self._deflate.compress(data)
        return compressed

    def flush(self) -> bytes:
        """What is left of all that `deflate` was given."""
        if not self._unflushed:
            return b""
        self._unflushed = False
        compressed: bytes = self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return compressed

    def rest(self) -> None:
        """Keep no more than must be."""
        if not self._unflushed:
            self._deflate = None
        if self._inflate is not None and not self._input and not self._more and self._between():
            self._inflate = None

    def _between(self) -> bool:
        """Whether the peer's stream is between two blocks, and at a byte's end: after a flush it is."""
        if self._tail != _SYNC:
            return False
        probe = self._inflate.copy()
        try:
            return probe.decompress(_LAST) == b"" and probe.eof and not probe.unused_data
        except zlib.error:
            return False
