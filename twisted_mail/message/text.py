"""What SEARCH finds text in: header fields and text parts, decoded, in pieces.

`texts` goes through a message of any size with bounded memory. A piece has at most PIECE characters and begins with
the last `overlap` characters of the one before it in the same part: whatever is no longer than that and stands in the
part's text stands whole in one of its pieces. Fields and parts are texts of their own: nothing is found across them.
No bytes make it raise.
"""

from __future__ import annotations

import codecs
import re
import threading
from collections.abc import Iterator
from mmap import mmap
from typing import Final

from .decode import BLOCK, UnknownEncoding, decoder
from .envelope import MAX_HEADER
from .headers import fields
from .part import LEAF, MESSAGE, Part
from .words import codec_name, unencoded

__all__ = [
    "OVERLAP",
    "PIECE",
    "body_text",
    "field_lines",
    "header_text",
    "header_texts",
    "is_text",
    "one_blank",
    "texts",
]

PIECE: Final = 1_048_576
"""Characters of a piece, at most."""
OVERLAP: Final = 4096
"""Characters that two pieces have in common."""
MAX_FIELD: Final = 131_072
"""Octets of a field's value that are looked at."""

_TEXT_TYPES: Final = frozenset((b"text", b"message", b""))
_blanks: Final = re.compile(r"[ \t\n]+")


MAX_ERRORS: Final = 1000
"""Of one block: each is a call. What follows so many is no text of that character set, but latin-1."""
MAX_HELD: Final = 65_536
"""Octets that a decoder may hold back for what makes characters of them: UTF-7 has no other bound."""


class _Errors(threading.local):
    left = MAX_ERRORS


_errors = _Errors()


def _as_latin(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    octets, end = error.object, error.end
    _errors.left -= 1
    if _errors.left < 0:
        end = len(octets)
    return octets[error.start : end].decode("latin-1"), end


_ERRORS: Final = "twisted_mail.latin1"
codecs.register_error(_ERRORS, _as_latin)
# Of UTF-8 there is a way without a call for each
_ESCAPED: Final = {0xDC00 + octet: octet for octet in range(0x80, 0x100)}
_escaped: Final = re.compile("[\udc80-\udcff]").search


def _unescaped(text: str) -> str:
    """What was decoded with surrogateescape."""
    return text if text.isascii() or _escaped(text) is None else text.translate(_ESCAPED)


def header_text(value: bytes) -> str:
    """A field's value unfolded, its encoded-words decoded. What is no UTF-8 otherwise is taken for latin-1.

    A line that is folded with a tab goes on behind a blank: who searches for the words types one.
    """
    value = value[:MAX_FIELD]
    if b"\r" in value:
        value = value.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    if b"\n\t" in value:
        value = value.replace(b"\n\t", b"\n ")
    if value.isascii():
        return unencoded(value).strip(" \t")
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        value = _unescaped(value.decode("utf-8", "surrogateescape")).encode("utf-8")
    return unencoded(value).strip(" \t")


def header_texts(block: bytes) -> Iterator[tuple[bytes, str]]:
    """(lower-case name, text) of each field of a header block."""
    block = block[:MAX_HEADER]
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    for name, start, end in fields(block):
        yield name, header_text(block[start:end].rstrip(b"\n").partition(b":")[2])


def one_blank(text: str) -> str:
    """Any white space between words as one blank: subjects are compared so, as Dovecot does."""
    return _blanks.sub(" ", text)


def is_text(part: Part) -> bool:
    """Whether its body is read: text of any kind, what cannot be told, and reports in ``message/…``."""
    return part.shape == LEAF and part.type.lower() in _TEXT_TYPES


def texts(
    content: bytes | mmap, root: Part, *, headers: bool = True, overlap: int = OVERLAP
) -> Iterator[str]:
    """For SEARCH TEXT: all headers and the text of all text parts; without `headers` for SEARCH BODY.

    RFC 9051 section 6.4.4: the header of an embedded message is of the body. So it comes either way; those of body
    parts come with `headers` only. HTML comes as it stands. A field comes as ``Name: text``.
    """
    stack = [(root, headers)]
    while stack:
        part, with_header = stack.pop()
        if with_header:
            for _, line in field_lines(content, part):
                yield line
        if is_text(part):
            yield from body_text(content, part, overlap)
        embeds = part.shape == MESSAGE
        stack.extend([(child, headers or embeds) for child in reversed(part.children)])


def field_lines(content: bytes | mmap, part: Part) -> Iterator[tuple[bytes, str]]:
    """(lower-case name, ``Name: text``) of each field of a part's header; b"" for what is no field."""
    block = content[part.start : min(part.body, part.start + MAX_HEADER)]
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    for known, start, end in fields(block):
        name, colon, value = block[start:end].rstrip(b"\n").partition(b":")
        label = name.rstrip(b" \t").decode("ascii") if known else header_text(name)
        yield known, f"{label}{colon.decode()} {header_text(value)}"


def body_text(content: bytes | mmap, part: Part, overlap: int = OVERLAP) -> Iterator[str]:
    """The text of a part that has no parts, decoded, in pieces. Lines end with LF, whatever they ended with."""
    try:
        undo = decoder(part.transfer_encoding)
    except UnknownEncoding:
        undo = decoder(b"7bit")
    charset = part.charset
    # RFC 2045 section 5.2: us-ascii; what is sent under that name is often something else
    name = "utf_8" if charset in (b"", b"us-ascii", b"ascii") else codec_name(charset)
    text = codecs.getincrementaldecoder(name)("surrogateescape" if name == "utf_8" else _ERRORS)
    held: list[str] = []
    size = 0
    tail = cut = ""
    for start in range(part.body, part.end, BLOCK):
        octets = undo.decode(content[start : min(start + BLOCK, part.end)])
        if start + BLOCK >= part.end:
            octets += undo.finish()
        some = cut + _characters(text, octets, start + BLOCK >= part.end)
        cut = ""
        if "\r" in some:
            if some[-1] == "\r" and start + BLOCK < part.end:
                some, cut = some[:-1], "\r"
            some = some.replace("\r\n", "\n")
        held.append(some)
        size += len(held[-1])
        if size >= PIECE // 2 - overlap:
            piece = tail + "".join(held)
            yield piece
            tail = piece[len(piece) - overlap :] if overlap else ""
            held, size = [], 0
    if size:
        yield tail + "".join(held)


def _characters(text: codecs.IncrementalDecoder, octets: bytes, final: bool) -> str:
    _errors.left = MAX_ERRORS
    try:
        some = text.decode(octets, final)
        if not final and len(text.getstate()[0]) > MAX_HELD:
            some += text.decode(b"", True)
            text.reset()
    except Exception:
        # A codec that is not made for such bytes; it may begin anew
        text.reset()
        return octets.decode("latin-1")
    return _unescaped(some)
