"""What clients call a mailbox: modified UTF-7 (`twisted_mail.modified_utf7`) or UTF-8, and what both mean."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import is_normalized, normalize

from ..modified_utf7 import decode, encode

__all__ = ["Normalized", "decode", "encode", "mailbox_name", "pattern"]

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Normalized(str):
    """A name in NFC that the client gave otherwise: as `given`."""

    given: str


def mailbox_name(raw: bytes, utf8: bool = False) -> str:
    """What a client calls a mailbox: INBOX in any case is INBOX, the rest in NFC, `Normalized`
    where it was not.

    `utf8`: UTF8=ACCEPT or IMAP4rev2 is enabled, so `raw` is UTF-8 (RFC 6855 section 3, RFC 9051
    section 5.1). Without it, it is modified UTF-7; octets over 127 are taken for UTF-8 then, too.
    Raises ValueError with a text for people.
    """
    if raw.isascii():
        # RFC 9051 section 5.1: INBOX is case-insensitive
        if len(raw) == 5 and raw.upper() == b"INBOX":
            return "INBOX"
        name = raw.decode("ascii") if utf8 or b"&" not in raw else decode(raw)
    else:
        name = _utf8(raw)
    _check(name)
    if is_normalized("NFC", name):
        return name
    made = Normalized(normalize("NFC", name))
    made.given = name
    return made


def pattern(raw: bytes, utf8: bool = False) -> str:
    """As `mailbox_name`, of a pattern of LIST: a wildcard may stand in the midst of a shift, so what
    is not modified UTF-7 stays as it is. INBOX is left in its case."""
    shifted = not utf8 and raw.isascii() and b"&" in raw
    name = decode(raw, lenient=True) if shifted else _utf8(raw)
    _check(name)
    return normalize("NFC", name)


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("a mailbox name is neither modified UTF-7 nor UTF-8") from None


def _check(name: str) -> None:
    # RFC 9051 section 5.1: no controls, and Net-Unicode (RFC 5198) has no U+2028 and U+2029
    if _CONTROL.search(name):
        raise ValueError("control characters in a mailbox name")
