"""xtext, and what stands in it: ORCPT and ENVID (RFC 3461 section 4), the "utf-8" addresses of RFC 6533 section 3.

    xtext          = *( xchar / hexchar )
    xchar          = "!" – "~" except "+" and "="
    hexchar        = "+" two upper-case hexadecimal digits
    ORCPT          = addr-type ";" xtext
    utf-8-addr     = 1*( QCHAR / EmbeddedUnicodeChar ), or with UTF-8 in place of the latter ("unitext")

`encode` takes any text, as UTF-8; `decode` gives it back. What a peer sent is refused by ValueError, whose text is fit
for the peer. What `parse_orcpt` and `parse_envid` let through is without control characters, so it can stand in a
header field or a log; both are written again by `format_orcpt` and `format_envid`.
"""

from __future__ import annotations

import re
from typing import Final
from unicodedata import category

__all__ = [
    "MAX_ENVID",
    "MAX_ORCPT",
    "decode",
    "encode",
    "format_envid",
    "format_orcpt",
    "parse_envid",
    "parse_orcpt",
    "unitext",
    "utf8_xtext",
]

MAX_XTEXT: Final = 1024
MAX_ENVID: Final = 100
"""Characters of ENVID's value as it is sent, RFC 3461 section 4.4."""
MAX_ORCPT: Final = 500
"""Characters of ORCPT's value as it is sent, RFC 3461 section 4.2."""
MAX_TYPE: Final = 32

_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHAR: Final = re.compile(rb"\+([0-9A-F]{2})")
_NOT_XCHAR: Final = re.compile(rb"[^!-*,-<>-~]")
# RFC 3464 section 2.1.2: address-type is an atom
_TYPE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+")
# RFC 6533 section 3. A plus sign is taken as it is, too: it can mean nothing else there.
_UNITEXT: Final = re.compile(r"(?:[!-<>-\[\]-~\x80-\U0010ffff]|\\x\{[0-9A-Fa-f]{2,6}\})+")
_EMBEDDED: Final = re.compile(r"\\x\{([0-9A-Fa-f]+)\}")
_NOT_QUCHAR: Final = re.compile(r"[\x00- +=\\\x7f]")
_NOT_QCHAR: Final = re.compile(r"[\x00- +=\\\x7f-\U0010ffff]")


def encode(text: str) -> str:
    """`text` as xtext; what is not ASCII as the octets of its UTF-8. Raises ValueError for a lone surrogate."""
    return _NOT_XCHAR.sub(lambda found: b"+%02X" % found[0][0], text.encode()).decode("ascii")


def decode(text: str) -> str:
    """The text that xtext stands for. Raises ValueError when it is none, is too long, or its octets are not UTF-8."""
    if len(text) > MAX_XTEXT:
        raise ValueError("the xtext is too long")
    if _XTEXT.fullmatch(text) is None:
        raise ValueError("malformed xtext")
    if "+" not in text:
        return text
    octets = _HEXCHAR.sub(lambda found: bytes((int(found[1], 16),)), text.encode("ascii"))
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the xtext is not UTF-8") from None


def utf8_xtext(text: str) -> str:
    """An address of type "utf-8" in ASCII: utf-8-addr-xtext, RFC 6533 section 3."""
    return _NOT_QCHAR.sub(_embed, text)


def unitext(text: str) -> str:
    """An address of type "utf-8" where UTF-8 may stand: utf-8-addr-unitext, RFC 6533 section 3."""
    return _NOT_QUCHAR.sub(_embed, text)


def parse_orcpt(value: str) -> str:
    """ORCPT's value decoded: ``"rfc822;alice@example.org"``, the type in lower case. Raises ValueError.

    An address that is not ASCII comes out with type ``utf-8``, whatever type it had (RFC 6533 section 3).
    """
    if len(value.encode("utf-8", "replace")) > MAX_ORCPT:
        raise ValueError("the original recipient is too long")
    kind, semicolon, text = value.partition(";")
    kind = kind.lower()
    if not semicolon or len(kind) > MAX_TYPE or _TYPE.fullmatch(kind) is None:
        raise ValueError("the original recipient has no address type")
    address = _decode_utf8(text) if kind == "utf-8" else decode(text)
    if not address or not _graphic(address):
        raise ValueError("the original recipient is no address")
    return f"{kind if address.isascii() else 'utf-8'};{address}"


def format_orcpt(original: str, *, smtputf8: bool) -> str:
    """ORCPT's value for what `parse_orcpt` gave; "" when it would be too long, and is better left out.

    `smtputf8`: the next server and this transaction know SMTPUTF8.
    """
    kind, _, address = original.partition(";")
    if kind == "utf-8":
        # RFC 6533 section 3: unitext only where SMTPUTF8 is known
        value = f"{kind};{unitext(address) if smtputf8 else utf8_xtext(address)}"
    else:
        value = f"{kind};{encode(address)}"
    return value if len(value.encode()) <= MAX_ORCPT else ""


def parse_envid(value: str) -> str:
    """ENVID's value decoded. Raises ValueError."""
    if len(value) > MAX_ENVID:
        raise ValueError("the envelope id is too long")
    text = decode(value)
    # RFC 3461 section 4.4: graphic and white space characters of US-ASCII. A tab is no good in a field's value.
    if not (text.isascii() and text.isprintable()):
        raise ValueError("the envelope id is not printable")
    return text


def format_envid(envid: str) -> str:
    """ENVID's value for what `parse_envid` gave."""
    return encode(envid)


def _decode_utf8(text: str) -> str:
    if _UNITEXT.fullmatch(text) is None:
        raise ValueError("malformed utf-8 address")
    return _EMBEDDED.sub(_character, text)


def _character(found: re.Match[str]) -> str:
    digits = found[1]
    point = int(digits, 16)
    # RFC 6533 section 3, HEXPOINT: no surrogates, no leading zeros, of ASCII only what cannot stand as itself
    if (
        point > 0x10FFFF
        or 0xD800 <= point <= 0xDFFF
        or (point < 0x80 and point not in _ASCII_POINTS)
        or len(digits) != max(2, len(f"{point:X}"))
    ):
        raise ValueError("malformed utf-8 address")
    return chr(point)


_ASCII_POINTS: Final = frozenset((0x20, 0x2B, 0x3D, 0x5C))


def _embed(found: re.Match[str]) -> str:
    return f"\\x{{{ord(found[0]):02X}}}"


def _graphic(text: str) -> bool:
    """Whether nothing in it could break a line, by the rule of `address`: no C0, C1, separators, surrogates."""
    return text.isprintable() or not any(category(character) in _CONTROLS for character in text)


_CONTROLS: Final = frozenset(("Cc", "Cs", "Zl", "Zp"))
