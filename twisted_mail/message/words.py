"""Encoded-words read back (RFC 2047): a header field's value as its reader sees it. No bytes make it raise."""

from __future__ import annotations

import codecs
import re
from binascii import Error, a2b_base64, a2b_qp
from typing import Final
from unicodedata import category

__all__ = ["MAX_VALUE", "codec_name", "decode_words", "one_line", "unencoded"]

MAX_VALUE: Final = 4096
"""Octets of a field's value that are looked at; what follows is left out."""

# RFC 2047 section 2; section 6.2: the white space between two of them is not shown
_WORD: Final = re.compile(rb"=\?([^?\s*]{1,40})(?:\*[^?\s]{0,40})?\?([bBqQ])\?([^?\s]*)\?=")
_BETWEEN: Final = re.compile(rb"(\?=)\s+(?==\?[^?\s]{1,80}\?[bBqQ]\?)")

# No character sets of mail, and slow or noisy
_NO_CHARSETS: Final = frozenset(
    ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem")
)

# Embeddings, overrides and isolates turn a line around, the text of ours behind them too
_HIDDEN: Final = dict.fromkeys(
    (0x200E, 0x200F, 0x061C, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
)
_BROKEN: Final = frozenset(("Cc", "Zl", "Zp", "Cs"))


def decode_words(value: bytes) -> str:
    """The value unfolded, its encoded-words decoded, in one line. What is not ASCII is taken for UTF-8."""
    return one_line(unencoded(value[:MAX_VALUE]))


def unencoded(value: bytes) -> str:
    """The whole value unfolded, its encoded-words decoded, whatever they hold."""
    value = value.replace(b"\n", b"")
    if b"=?" not in value:
        return value.decode("utf-8", "replace")
    value = _BETWEEN.sub(rb"\1", value)
    out = []
    start = 0
    pending = b""
    charset = "utf-8"
    for word in _WORD.finditer(value):
        name = codec_name(word[1])
        if pending and (name != charset or word.start() != start):
            out.append(pending.decode(charset, "replace"))
            pending = b""
        out.append(value[start : word.start()].decode("utf-8", "replace"))
        # One character may be cut in two by careless senders: words that touch are joined before they are decoded
        pending += _octets(word)
        charset = name
        start = word.end()
    out.append(pending.decode(charset, "replace"))
    out.append(value[start:].decode("utf-8", "replace"))
    return "".join(out)


def one_line(text: str, limit: int = MAX_VALUE) -> str:
    """`text` in one line of at most `limit` characters: no controls, nothing that turns its direction around."""
    if len(text) <= limit and text.isprintable() and "  " not in text and text == text.strip():
        return text  # nearly always
    text = text[: 2 * limit]
    if not text.isprintable():
        text = text.translate(_HIDDEN)
        text = "".join(" " if category(character) in _BROKEN else character for character in text)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def codec_name(name: bytes) -> str:
    """Python's name of a character set of mail; latin-1 when it knows none."""
    try:
        found = codecs.lookup(name.decode("ascii")).name.replace("-", "_")
        # One that is no text encoding at all (zlib, hex) says so only when there is something to decode
        b"a".decode(found, "replace")
    except (LookupError, ValueError):
        return "latin-1"
    return "latin-1" if found in _NO_CHARSETS else found


def _octets(word: re.Match[bytes]) -> bytes:
    text = word[3]
    if word[2] in b"qQ":
        return a2b_qp(text, header=True)
    try:
        return a2b_base64(text + b"===")
    except Error:
        return b"?"
