"""The digest of a header in which nothing is unusual, in a third of the time: as most headers of a mailbox are.

`plain_digest` says what `digest.header_digest` says by `envelope`, `addresses`, `text` and `subject`, or that it does
not know (None): for a header with encoded-words, with octets that are not ASCII, with two fields of one name, or with
an address that has to be read word by word. That both agree where it knows is tested with any bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, TypeAlias

from .addresses import usual_address
from .date import parse_date
from .envelope import envelope_fields
from .nstring import human, nstring
from .subject import base_subject
from .text import one_blank

__all__ = ["MAX_KEY", "MAX_PLAIN", "MAX_REFERENCES", "message_ids", "plain_digest", "references"]

MAX_PLAIN: Final = 32_768
"""Octets of a header; none of the other limits is reached then."""
MAX_KEY: Final = 500
"""Characters of a sort key."""
MAX_REFERENCES: Final = 100
"""Message ids that are kept: the first and the last ones."""

KNOWN: Final = 200
"""Octets of a list of addresses that is remembered."""

Values: TypeAlias = tuple[
    bytes,
    str,
    str,
    str,
    str,
    str,
    int | None,
    int | None,
    str,
    str,
    str,
    int,
    str,
    str,
    str,
    str,
    str,
]
"""Of `digest.HeaderDigest`, in its order."""

_ids = re.compile(rb"<[ \t\n]*([^<>\s]{1,998})[ \t\n]*>").findall
_fields = envelope_fields.findall
_ADDRESSES: Final = frozenset((b"bcc", b"cc", b"from", b"reply-to", b"sender", b"to"))
_NOBODY: Final = (b"NIL", "", "", "")
_LF: Final = 0x0A


def plain_digest(block: bytes) -> Values | None:
    """Of a header block as `envelope.unfolded_block` gives it; None: it is to be read in full. Never raises."""
    if (
        len(block) > MAX_PLAIN
        or not block.isascii()
        or b"\\" in block
        or b"=?" in block
        or b"\0" in block
    ):
        return None
    found: dict[bytes, bytes] = {}
    lists: dict[bytes, tuple[bytes, str, str, str]] = {}
    for name, _, value in _fields(block):
        name = name.lower()
        if name in found or not value or value[0] == _LF:
            return None
        found[name] = value
        if name in _ADDRESSES:
            read = _known_list(value) if len(value) <= KNOWN else _list(value)
            if read is None:
                return None
            lists[name] = read
    subject = found.get(b"subject")
    if subject is None:
        text = searched = ""
    else:
        text = _text(subject)
        searched = one_blank(text.upper())
    base, reply = base_subject(text)
    date = found.get(b"date")
    sent, sent_day = (None if date is None else parse_date(date)) or (None, None)
    id_ = found.get(b"message-id")
    ids = message_ids(id_) if id_ is not None else ()
    sender, from_, sort_from, display_from = lists.get(b"from", _NOBODY)
    to_list, to, sort_to, display_to = lists.get(b"to", _NOBODY)
    cc_list, cc, sort_cc, _ = lists.get(b"cc", _NOBODY)
    bcc_list, bcc, _, _ = lists.get(b"bcc", _NOBODY)
    return (
        b"(%b %b %b %b %b %b %b %b %b %b)"
        % (
            _string(date),
            b"NIL" if subject is None else human(subject),
            sender,
            # RFC 9051 section 7.5.2: the server defaults Sender and Reply-To to From
            lists[b"sender"][0] if b"sender" in lists else sender,
            lists[b"reply-to"][0] if b"reply-to" in lists else sender,
            to_list,
            cc_list,
            bcc_list,
            _string(found.get(b"in-reply-to")),
            _string(id_),
        ),
        searched,
        from_,
        to,
        cc,
        bcc,
        sent,
        sent_day,
        ids[0] if ids else "",
        references(found),
        base.upper(),
        int(reply),
        sort_from,
        sort_to,
        sort_cc,
        display_from,
        display_to,
    )


def _list(value: bytes) -> tuple[bytes, str, str, str] | None:
    """(as ENVELOPE has it, the text, sort key and display key of the first address) of addresses as they mostly are."""
    out = b""
    first = ("", "")
    at, end = 0, len(value)
    while at < end:
        found = usual_address(value, at)
        if found is None:
            return None
        quoted, words, mailbox, domain, bare, bare_domain = found.groups()
        at = found.end()
        if mailbox is None:
            name, mailbox, domain = b"", bare, bare_domain
            out += b'(NIL NIL "%b" "%b")' % (mailbox, domain)
        else:
            name = quoted or words or b""
            out += b'(%b NIL "%b" "%b")' % (human(name) if name else b"NIL", mailbox, domain)
        if not first[0]:
            shown = name.decode("ascii").strip(" \t")
            key = mailbox.decode("ascii").upper()
            if not shown:
                shown = f"{key}@{domain.decode('ascii')}"
            first = key[:MAX_KEY], shown[:MAX_KEY].upper()
    return b"(%b)" % out, _text(value).upper(), *first


# Most mail of a mailbox is from a few, and to one
_known_list = lru_cache(512)(_list)


def _text(value: bytes) -> str:
    """As `text.header_text`."""
    if b"\n" in value:
        value = value.replace(b"\n\t", b"\n ").replace(b"\n", b"")
    return value.decode("ascii").strip(" \t")


def _string(value: bytes | None) -> bytes:
    """As `nstring.nstring`."""
    if value is None:
        return b"NIL"
    if b'"' in value or b"\n" in value:
        return nstring(value)
    return b'"%b"' % value


def references(texts: Mapping[bytes, bytes]) -> str:
    """The message ids of References, one a line, among the fields `texts`."""
    value = texts.get(b"references")
    refs = message_ids(value) if value is not None else []
    if not refs:
        # RFC 5256 section 3, REFERENCES, step 1: the first one of In-Reply-To
        value = texts.get(b"in-reply-to")
        refs = message_ids(value)[:1] if value is not None else []
    elif len(refs) > MAX_REFERENCES:
        refs = refs[:1] + refs[1 - MAX_REFERENCES :]
    return "\n".join(refs)


def message_ids(value: bytes) -> list[str]:
    """RFC 5256 section 3, step 1: normalised, so that a quoted left side is the same as one without."""
    found = _ids(value)
    out = []
    for id_ in found:
        left, at, right = id_.rpartition(b"@")
        if at and left.startswith(b'"') and left.endswith(b'"'):
            id_ = left[1:-1].replace(b"\\", b"") + at + right
        out.append(id_.decode("utf-8", "replace"))
    return out
