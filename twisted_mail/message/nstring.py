"""Strings as IMAP writes them in its answers (RFC 9051 section 4.3): quoted where that is possible, else a literal."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["human", "nstring", "one_line", "params", "string"]

# RFC 9051 section 9: TEXT-CHAR without quoted-specials
_plain = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-!#-\[\]-\x7f]*").fullmatch
_quotable = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*").fullmatch
_specials = re.compile(rb'(["\\])')
_line_end = re.compile(rb"[\r\n]+(?=(.?))", re.DOTALL)
# What a person reads stays as it is: no blank at the ends, one between words
_neat = re.compile(rb"(?:[!#-\[\]-\x7e]+(?: [!#-\[\]-\x7e]+)*)?").fullmatch


def string(text: bytes) -> bytes:
    """`text` as a string; NUL, which IMAP has no place for, becomes U+FFFD."""
    if _plain(text):
        return b'"' + text + b'"'
    if b"\0" in text:
        text = text.replace(b"\0", b"\xef\xbf\xbd")
    if _quotable(text):
        return b'"' + _specials.sub(rb"\\\1", text) + b'"'
    # 8-bit text in a literal is right for every client: RFC 3501, 6855, 9051
    return b"{%d}\r\n%b" % (len(text), text)


def nstring(text: bytes | None) -> bytes:
    """`string`, or NIL; without line ends."""
    return b"NIL" if text is None else string(one_line(text))


def human(text: bytes) -> bytes:
    """A subject or name as a string: white space at the ends goes, what is between words becomes one blank."""
    if _neat(text):
        return b'"' + text + b'"'
    return string(b" ".join(text.replace(b"\0", b"\xef\xbf\xbd").split()))


def one_line(text: bytes) -> bytes:
    """`text` unfolded (RFC 5322 section 2.2.3); a line end that no white space follows becomes a blank."""
    if b"\n" in text or b"\r" in text:
        return _line_end.sub(lambda found: b"" if found[1] in b" \t" else b" ", text)
    return text


def params(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A list of names and values, or NIL."""
    texts = [string(name) + b" " + string(value) for name, value in pairs]
    return b"(" + b" ".join(texts) + b")" if texts else b"NIL"
