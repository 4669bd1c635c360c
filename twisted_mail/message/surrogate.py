"""A message as a client without UTF-8 gets it (RFC 6858), made while it streams out.

`Surrogate` takes the stored content in blocks, cut anywhere, and gives out the surrogate: the
header block by `downgrade.downgrade_header`, the headers of body parts by `blank_field` (same size
on the wire, so the message's size follows from its header block), bodies as they are. It follows
boundaries (RFC 2046 section 5.1.1) through nested multiparts; messages within messages are left
alone. Only a message whose own header holds bytes over 0x7F is meant to come here: raw 8-bit file
names in parts of an ASCII message are an old habit that old clients know. It holds back at most
one field, or one line that may be a delimiter.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from .downgrade import (
    FIELD_END,
    MAX_FIELD,
    Downgrader,
    blank_field,
    field_name,
    masked,
    parameters,
)
from .lines import LineNormalizer

__all__ = ["Surrogate"]

MAX_DEPTH: Final = 32
"""Multiparts within each other whose parts are looked at."""

# RFC 2046 section 5.1.1: a boundary has at most 70 characters. Room for the dashes and padding.
_MAX_DELIMITER: Final = 256
_dashes = re.compile(rb"\n--").search


class Line(enum.Enum):
    """The delimiters of RFC 2046 section 5.1.1."""

    PART = "delimiter"
    END = "close-delimiter"


class Surrogate:
    """Turn a message, block by block, into its surrogate with LF line ends."""

    __slots__ = (
        "_boundary",
        "_delimiters",
        "_downgrade",
        "_held",
        "_in_header",
        "_lines",
        "_oversized",
        "_top",
    )

    def __init__(self) -> None:
        self._lines = LineNormalizer()
        self._downgrade = Downgrader().field
        self._held = b""
        self._in_header = True
        self._top = True
        self._oversized = False
        self._boundary: bytes | None = None
        self._delimiters: list[bytes] = []

    def feed(self, block: bytes) -> bytes:
        """The next piece of the surrogate; may be empty."""
        return self._translate(self._lines.feed(block))

    def finish(self) -> bytes:
        """What was held back."""
        out = self._translate(self._lines.finish())
        held, self._held = self._held, b""
        return out + (self._field(held) if self._in_header and held else held)

    def _translate(self, block: bytes) -> bytes:
        data, self._held = self._held + block, b""
        out: list[bytes] = []
        while data:
            data = self._header(data, out) if self._in_header else self._body(data, out)
        return b"".join(out)

    def _header(self, data: bytes, out: list[bytes]) -> bytes:
        """Fields up to the empty line; returns what follows, that line's LF first."""
        start = 0
        while self._oversized or not data.startswith(b"\n", start):
            found = FIELD_END.search(data, start)
            if found is None:
                self._hold_field(data[start:], out)
                return b""
            field = data[start : found.end()]
            start = found.end()
            # A delimiter within a header: that part has no empty line
            line = None if self._oversized else self._delimiter(field[:-1])
            if line is Line.END:
                self._in_header = False
                self._boundary = None
                out.append(field[:-1])
                return data[start - 1 :]
            if line is Line.PART:
                self._boundary = None
            out.append(self._field(field))
        self._in_header = self._top = False
        if self._boundary is not None and len(self._delimiters) < MAX_DEPTH:
            self._delimiters.append(b"--" + self._boundary)
        self._boundary = None
        return data[start:]

    def _hold_field(self, field: bytes, out: list[bytes]) -> None:
        if len(field) > MAX_FIELD:
            self._oversized = True
        if self._oversized:
            # The last byte may be the LF that ends it
            if not self._top:
                out.append(masked(field[:-1]))
            field = field[-1:]
        self._held = field

    def _field(self, field: bytes) -> bytes:
        if self._oversized or len(field) > MAX_FIELD:
            self._oversized = False
            return b"" if self._top else masked(field)
        if self._boundary is None and field_name(field) == b"content-type":
            self._boundary = _boundary(field)
        return self._downgrade(field) if self._top else blank_field(field)

    def _body(self, data: bytes, out: list[bytes]) -> bytes:
        """Up to the header of the next part; returns what follows the delimiter before it."""
        start = 0
        while self._delimiters:
            found = _dashes(data, start)
            if found is None:
                cut = _possible_delimiter(data, start)
                out.append(data[start:cut])
                self._held = data[cut:]
                return b""
            end = data.find(b"\n", found.end())
            if end < 0 and len(data) - found.start() <= _MAX_DELIMITER:
                out.append(data[start : found.start()])
                self._held = data[found.start() :]
                return b""
            if end < 0:
                end = len(data)
            out.append(data[start:end])
            start = end
            if self._delimiter(data[found.start() + 1 : end]) is Line.PART:
                self._in_header = True
                out.append(b"\n")
                return data[start + 1 :]
        out.append(data[start:])
        return b""

    def _delimiter(self, line: bytes) -> Line | None:
        """What the line is if it is a delimiter; the multiparts within that part are over."""
        if not line.startswith(b"--") or len(line) >= _MAX_DELIMITER:
            return None
        line = line.rstrip(b" \t")
        for depth in range(len(self._delimiters) - 1, -1, -1):
            if line == self._delimiters[depth]:
                del self._delimiters[depth + 1 :]
                return Line.PART
            if line == self._delimiters[depth] + b"--":
                del self._delimiters[depth:]
                return Line.END
        return None


def _possible_delimiter(data: bytes, start: int) -> int:
    """Where in `data`, from `start`, a line begins that could turn out a delimiter; or its end."""
    for tail in (b"\n-", b"\n"):
        if data.endswith(tail, start):
            return len(data) - len(tail)
    return len(data)


def _boundary(field: bytes) -> bytes | None:
    """The boundary of a multipart's Content-Type (RFC 2046 section 5.1.1)."""
    kind, *rest = parameters(field.partition(b":")[2])
    if not kind.strip().lower().startswith(b"multipart/"):
        return None
    for parameter in rest:
        name, _, value = parameter.partition(b"=")
        if name.strip().lower() == b"boundary":
            value = re.sub(rb"\\(.)", rb"\1", value.strip().strip(b'"'))
            return value if value.isascii() and value else None
    return None
