"""Modified UTF-7 (RFC 3501 section 5.1.3), in which mailboxes are called on old wires and in Maildirs. Pure.

Strict decoding takes exactly what `encode` makes, so that a name has one spelling. Lenient decoding
never fails: what is no valid shift stays as it is, for names that other programs put on the disk.
"""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, b2a_base64
from typing import Final

__all__ = ["decode", "encode"]

_PLAIN: Final = re.compile(r"[ -%'-~]*")
_OTHERS: Final = re.compile(r"&|[^ -~]+")
_SHIFT: Final = re.compile(r"&([^-&]*)(-?)")
_BASE64: Final = re.compile(r"[A-Za-z0-9+,]+")


def encode(name: str) -> bytes:
    """In modified UTF-7. Raises ValueError for a lone surrogate."""
    if _PLAIN.fullmatch(name):
        return name.encode("ascii")
    return _OTHERS.sub(_shifted, name).encode("ascii")


def decode(raw: bytes, *, lenient: bool = False) -> str:
    """From modified UTF-7. Raises ValueError unless `lenient`; then octets that are no ASCII are taken
    for UTF-8, and what is not UTF-8 becomes U+FFFD."""
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        if not lenient:
            raise ValueError("octets over 127 in modified UTF-7") from None
        text = raw.decode("utf-8", "replace")
    if not lenient and _UNPRINTABLE.search(text):
        raise ValueError("control characters in modified UTF-7")
    if "&" not in text:
        return text
    if lenient:
        return _SHIFT.sub(_leniently, text)
    if _ADJACENT.search(text):
        raise ValueError("two shifts of modified UTF-7 in a row")
    return _SHIFT.sub(_strictly, text)


_UNPRINTABLE: Final = re.compile("[^ -~]")
# RFC 3501 section 5.1.3: "null shifts" ("-&" while in BASE64) are not permitted; "&-" is no shift
_ADJACENT: Final = re.compile("&[^-&]+-&[^-]")


def _shifted(found: re.Match[str]) -> str:
    text = found[0]
    if text == "&":
        return "&-"
    try:
        octets = text.encode("utf-16-be")
    except UnicodeEncodeError:
        raise ValueError("a lone surrogate in a name") from None
    base64 = b2a_base64(octets, newline=False).rstrip(b"=").replace(b"/", b",")
    return f"&{base64.decode('ascii')}-"


def _unshifted(base64: str) -> str:
    """Raises ValueError."""
    if not _BASE64.fullmatch(base64):
        raise ValueError("not BASE64 in modified UTF-7")
    try:
        octets = a2b_base64(base64.replace(",", "/") + "=" * (-len(base64) % 4))
        text = octets.decode("utf-16-be")
    except (Error, UnicodeDecodeError):
        raise ValueError("not UTF-16 in modified UTF-7") from None
    return text


def _strictly(found: re.Match[str]) -> str:
    base64, end = found.groups()
    if not end:
        raise ValueError("a shift without an end in modified UTF-7")
    if not base64:
        return "&"
    text = _unshifted(base64)
    # Printable ASCII stands for itself, and the bits left over are 0: one spelling for each name.
    if _OTHERS.sub(_shifted, text) != found[0]:
        raise ValueError("a roundabout spelling in modified UTF-7")
    return text


def _leniently(found: re.Match[str]) -> str:
    base64, end = found.groups()
    if not base64 and end:
        return "&"
    try:
        if not end:
            return found[0]
        return _unshifted(base64)
    except ValueError:
        return found[0]
