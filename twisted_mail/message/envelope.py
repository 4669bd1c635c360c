"""ENVELOPE as IMAP writes it (RFC 9051 section 7.5.2), from a header block of any bytes, as Dovecot gives it.

Strings stay encoded (RFC 2047) and folded lines become one. Several fields of one name: addresses are joined, so that
nobody hides a second From; of other fields the last counts.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .addresses import Address, Budget, addresses
from .nstring import human, nstring

__all__ = [
    "MAX_HEADER",
    "Fields",
    "envelope",
    "envelope_fields",
    "field_value",
    "read_fields",
    "unfolded_block",
    "written",
]

MAX_HEADER: Final = 1_048_576
"""Octets of a header block in which fields are looked for."""

envelope_fields = re.compile(
    rb"\n(?i:(bcc|cc|date|from|in-reply-to|message-id|references|reply-to|sender|subject|to))[ \t]*+:([ \t]*+)"
    rb"([^\n]*+(?:\n[ \t][^\n]*+)*)"
)
"""(name, white space, value) of each field that an envelope, or a thread, is made of."""
_fields = envelope_fields.finditer
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


class Fields(NamedTuple):
    """Of one header block, by lower-case names. `texts`: the last field of each name; `lists`: addresses of all fields
    of one name; `raw`: the values of all fields of one name that holds addresses, or is Subject."""

    texts: dict[bytes, bytes]
    lists: dict[bytes, list[Address]]
    raw: dict[bytes, list[bytes]]


def envelope(header: bytes) -> bytes:
    """Of a header block, with or without the empty line: complete with its parentheses."""
    return written(read_fields(unfolded_block(header)))


def read_fields(block: bytes) -> Fields:
    """The fields of an envelope, and References, of a block as `unfolded_block` gives it."""
    texts: dict[bytes, bytes] = {}
    lists: dict[bytes, list[Address]] = {}
    raw: dict[bytes, list[bytes]] = {}
    budget = Budget()
    for field in _fields(block):
        name = field[1].lower()
        if name not in _ADDRESSES:
            texts[name] = field_value(field)
            if name == b"subject":
                raw.setdefault(name, []).append(field[3])
            continue
        raw.setdefault(name, []).append(field[3])
        lists.setdefault(name, []).extend(addresses(field[3], budget))
    return Fields(texts, lists, raw)


def written(fields: Fields) -> bytes:
    """The envelope that they make."""
    texts, lists, _ = fields
    subject = texts.get(b"subject")
    lists_ = {name: _list(found) for name, found in lists.items() if found}
    sender = lists_.get(b"from", b"NIL")
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(texts.get(b"date")),
        b"NIL" if subject is None else human(subject),
        sender,
        # RFC 9051 section 7.5.2: the server defaults Sender and Reply-To to From
        lists_.get(b"sender", sender),
        lists_.get(b"reply-to", sender),
        lists_.get(b"to", b"NIL"),
        lists_.get(b"cc", b"NIL"),
        lists_.get(b"bcc", b"NIL"),
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
