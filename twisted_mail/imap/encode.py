"""Octets for responses: strings, names, lists, status lines (RFC 9051 section 9).

Everything takes and gives bytes that can be joined; nothing here ends with CRLF but what says
"line". Text for people is kept to one printable ASCII line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .dates import date_time, parse_date_time
from .names import encode as modified_utf7
from .sequence import compact

__all__ = [
    "NIL",
    "astring",
    "bad",
    "bye",
    "compact",
    "continuation",
    "date_time",
    "flag_list",
    "literal",
    "literal8",
    "mailbox",
    "no",
    "nstring",
    "ok",
    "parse_date_time",
    "preauth",
    "quoted",
    "status_line",
    "string",
    "untagged",
]

NIL: Final = b"NIL"
MAX_QUOTED: Final = 1000
"""Octets; longer strings become literals, so that a client's line need not hold them."""

_ATOM: Final = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
_QUOTABLE: Final = re.compile(rb"[^\x00\r\n\x7f-\xff]*")
_QUOTABLE_UTF8: Final = re.compile(rb"[^\x00\r\n]*")
_ESCAPE: Final = re.compile(rb'["\\]')
_NOT_TEXT: Final = re.compile(r"[^!-~]+")


def quoted(value: bytes) -> bytes:
    """In quotes. `value` has neither NUL nor line ends in it."""
    if b'"' in value or b"\\" in value:
        value = _ESCAPE.sub(rb"\\\g<0>", value)
    return b'"%s"' % value


def literal(value: bytes) -> bytes:
    return b"{%d}\r\n%s" % (len(value), value)


def literal8(value: bytes) -> bytes:
    """RFC 3516 section 4.2: NUL may be in it."""
    return b"~{%d}\r\n%s" % (len(value), value)


def string(value: bytes, utf8: bool = False) -> bytes:
    """Quoted where that can be, else a literal. `utf8`: the client has enabled UTF8=ACCEPT or IMAP4rev2,
    so valid UTF-8 may stand in quotes. NUL becomes 0x80, as no literal may have it (RFC 9051
    section 9: CHAR8)."""
    if len(value) <= MAX_QUOTED:
        if _QUOTABLE.fullmatch(value):
            return quoted(value)
        if utf8 and _QUOTABLE_UTF8.fullmatch(value) and _is_utf8(value):
            return quoted(value)
    return literal(value.replace(b"\0", b"\x80") if b"\0" in value else value)


def nstring(value: bytes | None, utf8: bool = False) -> bytes:
    return NIL if value is None else string(value, utf8)


def astring(value: bytes, utf8: bool = False) -> bytes:
    """An atom where that can be. NIL is quoted: it would be mistaken."""
    if _ATOM.fullmatch(value) and value.upper() != NIL:
        return value
    return string(value, utf8)


def mailbox(name: str, utf8: bool = False) -> bytes:
    """As UTF-8 with `utf8`, else in modified UTF-7. An atom, quoted or a literal."""
    if utf8:
        return astring(name.encode("utf-8", "replace"), True)
    try:
        return astring(modified_utf7(name))
    except ValueError:  # a lone surrogate
        return astring(modified_utf7(name.encode("utf-8", "replace").decode("utf-8")))


def flag_list(flags: Iterable[str]) -> bytes:
    return ("(" + " ".join(flags) + ")").encode("ascii")


def untagged(*words: bytes) -> bytes:
    """A line."""
    return b"* " + b" ".join(words) + b"\r\n"


def continuation(text: bytes = b"OK") -> bytes:
    """A line; `text` may be BASE64 of a SASL exchange."""
    return b"+ " + text + b"\r\n"


def status_line(tag: bytes, status: str, text: str, code: str | bytes = "") -> bytes:
    """A line: ``tag OK [code] text``. `text` must not be empty in the grammar: then it is "."."""
    said = _NOT_TEXT.sub(" ", text).strip() or "."
    if said.startswith("[") and not code:
        said = "." + said  # it would be taken for a code
    head = b"%s %s " % (tag, status.encode("ascii"))
    if code:
        raw = code.encode("ascii", "replace") if isinstance(code, str) else code
        head += b"[%s] " % raw
    return head + said.encode("ascii") + b"\r\n"


def ok(tag: bytes, text: str, code: str | bytes = "") -> bytes:
    return status_line(tag, "OK", text, code)


def no(tag: bytes, text: str, code: str | bytes = "") -> bytes:
    return status_line(tag, "NO", text, code)


def bad(tag: bytes, text: str, code: str | bytes = "") -> bytes:
    return status_line(tag, "BAD", text, code)


def bye(text: str, code: str | bytes = "") -> bytes:
    return status_line(b"*", "BYE", text, code)


def preauth(text: str, code: str | bytes = "") -> bytes:
    return status_line(b"*", "PREAUTH", text, code)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
