"""ENVELOPE as IMAP writes it (RFC 9051 section 7.5.2), from a header block of any bytes, as Dovecot gives it.

Strings stay encoded (RFC 2047) and folded lines become one. Several fields of one name: addresses are joined, so that
nobody hides a second From; of other fields the last counts.
"""

from __future__ import annotations

import re
from typing import Final

from .addresses import MAX_ADDRESSES, Address, addresses
from .nstring import human, nstring

__all__ = ["MAX_HEADER", "envelope", "field_value", "unfolded_block"]

MAX_HEADER: Final = 1_048_576
"""Octets of a header block in which fields are looked for."""

_fields = re.compile(
    rb"\n(?i:(bcc|cc|date|from|in-reply-to|message-id|reply-to|sender|subject|to))[ \t]*+:([ \t]*+)"
    rb"([^\n]*+(?:\n[ \t][^\n]*+)*)"
).finditer
_ADDRESSES: Final = frozenset((b"bcc", b"cc", b"from", b"reply-to", b"sender", b"to"))


def unfolded_block(header: bytes) -> bytes:
    """A header block with LF line ends, one before its first field: so each field begins behind a line end."""
    if b"\r" in header:
        header = header.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    return b"\n" + header[:MAX_HEADER]


def field_value(field: re.Match[bytes]) -> bytes:
    """Of a field found as (name, white space, rest): white space before it goes, but of an empty line only one."""
    value = field[3]
    return value if value and value[0] != _LF else field[2][1:] + value


def envelope(header: bytes) -> bytes:
    """Of a header block, with or without the empty line: complete with its parentheses."""
    texts: dict[bytes, bytes] = {}
    lists: dict[bytes, list[Address]] = {}
    left = MAX_ADDRESSES
    for field in _fields(unfolded_block(header)):
        name = field[1].lower()
        if name not in _ADDRESSES:
            texts[name] = field_value(field)
        elif left > 0:
            found = addresses(field[3], left)
            left -= len(found)
            lists.setdefault(name, []).extend(found)
    subject = texts.get(b"subject")
    written = {name: _list(found) for name, found in lists.items() if found}
    sender = written.get(b"from", b"NIL")
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(texts.get(b"date")),
        b"NIL" if subject is None else human(subject),
        sender,
        # RFC 9051 section 7.5.2: the server defaults Sender and Reply-To to From
        written.get(b"sender", sender),
        written.get(b"reply-to", sender),
        written.get(b"to", b"NIL"),
        written.get(b"cc", b"NIL"),
        written.get(b"bcc", b"NIL"),
        nstring(texts.get(b"in-reply-to")),
        nstring(texts.get(b"message-id")),
    )


def _list(found: list[Address]) -> bytes:
    return b"(" + b"".join([_address(*one) for one in found]) + b")"


def _address(
    name: bytes | None, route: bytes | None, mailbox: bytes | None, domain: bytes | None
) -> bytes:
    return b"(%b %b %b %b)" % (
        b"NIL" if name is None else human(name),
        b"NIL" if route is None else nstring(route),
        b"NIL" if mailbox is None else nstring(mailbox),
        b"NIL" if domain is None else nstring(domain),
    )


_LF = 0x0A
