"""The shape of a MIME message as offsets into its bytes (RFC 2045, 2046): headers, types, boundaries. LF line ends.

Nothing is copied but header blocks, and no bytes make it raise anything but `TooComplex`. Time is linear in the size
for each level of nesting, as long as whoever walks it searches a part only between the delimiters of what is around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from .downgrade import parameters
from .headers import fields, split

__all__ = ["MAX_HEADER", "Header", "TooComplex", "delimiters", "read_header"]

MAX_HEADER: Final = 262_144
"""Octets of one header block that are looked at; what follows counts as body."""
PIECE: Final = 1_048_576
"""Octets that are searched in one go."""
MAX_LOOKALIKES: Final = 100_000
"""Lines that begin like a delimiter and are none, in one multipart."""

_TYPE: Final = re.compile(rb"\s*([!#$&^_.+\w-]+)\s*/\s*([!#$&^_.+\w-]+)", re.ASCII)
_TOKEN: Final = re.compile(rb"[\s\"]*([!#$&^_.+\w-]+)", re.ASCII)
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)
# RFC 2046 section 5.1.1: transport-padding
_DELIMITER_END: Final = re.compile(rb"(--)?[ \t]*+(?:\n|\Z)")


class TooComplex(ValueError):
    """More than is worth to be looked at."""


class Header(NamedTuple):
    """Of an entity. `block` with its last line's end, without the empty line; `body` is the offset behind that.

    `separated`: there is an empty line. `maintype` and `subtype` in lower case are b"" without a Content-Type, and
    ``text/plain`` when it cannot be read (RFC 2045 section 5.2); so is `encoding` (section 6), b"" when there is none.
    """

    block: bytes
    body: int
    separated: bool
    maintype: bytes
    subtype: bytes
    boundary: bytes
    encoding: bytes
    versioned: bool


def read_header(content: bytes, start: int, end: int) -> Header:
    """The header of the entity from `start` to `end`. One without an empty line ends before what is no field."""
    limit = min(end, start + MAX_HEADER)
    if content.startswith(b"\n", start, limit):
        return Header(b"", start + 1, True, b"", b"", b"", b"", False)
    blank = content.find(b"\n\n", start, limit)
    text = content[start : blank + 1 if blank >= 0 else limit]
    if not text.endswith(b"\n"):
        # The line end before a delimiter belongs to the delimiter
        text += b"\n"
    block, _ = split(text)
    body = min(start + len(block), end)
    separated = content.startswith(b"\n", body, end)
    values: dict[bytes, bytes] = {}
    for name, at, stop in fields(block):
        if name in (b"content-type", b"content-transfer-encoding", b"mime-version"):
            values.setdefault(name, block[at:stop].partition(b":")[2].replace(b"\n", b""))
    maintype, subtype, boundary = _content_type(values.get(b"content-type"))
    encoding = _TOKEN.match(values.get(b"content-transfer-encoding", b""))
    return Header(
        block,
        body + 1 if separated else body,
        separated,
        maintype,
        subtype,
        boundary,
        encoding[1].lower() if encoding else b"",
        b"mime-version" in values,
    )


def delimiters(
    content: bytes, start: int, end: int, boundary: bytes
) -> Iterator[tuple[int, int, bool]]:
    """Where the delimiters of a multipart's body from `start` to `end` stand: (start, end, whether it is the last).

    Each with the line end before it, which is its own, and that behind it. The line end between two that follow each
    other at once belongs to both: then the start of the second lies before the end of the first.
    """
    wanted = b"\n--" + boundary
    at = start - 1
    lookalikes = 0
    while (at := _find(content, wanted, at, end)) >= 0:
        found = _DELIMITER_END.match(content, at + len(wanted), end)
        if found is None:
            lookalikes += 1
            if lookalikes > MAX_LOOKALIKES:
                raise TooComplex("too many lines that look like a boundary")
            at += len(wanted)
            continue
        yield at, found.end(), found[1] is not None
        if found[1] is not None:
            return
        at = found.end() - 1


def _find(content: bytes, wanted: bytes, start: int, end: int) -> int:
    """`bytes.find` in pieces: one search through all of a big message would let no other thread run."""
    while start < end:
        stop = start + PIECE
        found = content.find(wanted, start, min(stop + len(wanted) - 1, end))
        if found >= 0:
            return found
        start = stop
    return -1


def _content_type(value: bytes | None) -> tuple[bytes, bytes, bytes]:
    if value is None:
        return b"", b"", b""
    found = _TYPE.match(value)
    if found is None:
        return b"text", b"plain", b""
    maintype, subtype = found[1].lower(), found[2].lower()
    return maintype, subtype, _boundary(value) if maintype == b"multipart" else b""


def _boundary(value: bytes) -> bytes:
    """RFC 2046 section 5.1.1; b"" when there is none."""
    for parameter in parameters(value)[1:]:
        name, _, text = parameter.partition(b"=")
        if name.strip().lower() == b"boundary":
            text = text.strip()
            if text.startswith(b'"'):
                text = _QUOTED_PAIR.sub(rb"\1", text[1:].removesuffix(b'"'))
            return text.rstrip()
    return b""
