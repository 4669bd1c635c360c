"""BODYSTRUCTURE and BODY as IMAP writes them (RFC 9051 section 7.5.2), from a tree of parts, complete."""

from __future__ import annotations

from typing import Final

from .nstring import nstring, params, string
from .part import MESSAGE, MULTIPART, Part

__all__ = ["body", "bodystructure"]

# RFC 9051 section 9: a multipart has at least one part
_EMPTY: Final = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0'


def bodystructure(part: Part, rev2: bool = False) -> bytes:
    """With the extension data. `rev2`: message/global has an envelope and a body, too; IMAP4rev1 knows neither."""
    return _written(part, True, rev2)


def body(part: Part, rev2: bool = False) -> bytes:
    """Without the extension data."""
    return _written(part, False, rev2)


def _written(part: Part, extended: bool, rev2: bool) -> bytes:
    if part.shape == MULTIPART:
        inner = b"".join([_written(child, extended, rev2) for child in part.children])
        if not inner:
            inner = _EMPTY + (b" NIL NIL NIL NIL)" if extended else b")")
        if not extended:
            return b"(%b %b)" % (inner, string(part.subtype))
        return b"(%b %b %b %b)" % (inner, string(part.subtype), params(part.params), _common(part))
    kind = part.type.lower()
    text = kind == b"text"
    pairs = part.params
    if text and not any(name.lower() == b"charset" for name, _ in pairs):
        # RFC 2045 section 5.2
        pairs = (*pairs, (b"charset", b"us-ascii"))
    out = b"(%b %b %b %b %b %b %d" % (
        string(part.type),
        string(part.subtype),
        params(pairs),
        nstring(part.id),
        nstring(part.description),
        b'"7bit"' if part.encoding is None else string(part.encoding),
        part.octets,
    )
    if text:
        out += b" %d" % part.lines
    elif part.shape == MESSAGE and (rev2 or part.subtype.lower() == b"rfc822"):
        child = part.children[0]
        out += b" %b %b %d" % (child.envelope, _written(child, extended, rev2), part.lines)
    if not extended:
        return out + b")"
    return b"%b %b %b)" % (out, nstring(part.md5), _common(part))


def _common(part: Part) -> bytes:
    """Disposition, language, location."""
    if part.disposition is None:
        disposition = b"NIL"
    else:
        disposition = b"(%b %b)" % (string(part.disposition), params(part.disposition_params))
    language = b"(" + b" ".join([string(tag) for tag in part.language]) + b")"
    return b"%b %b %b" % (
        disposition,
        language if part.language else b"NIL",
        nstring(part.location),
    )
