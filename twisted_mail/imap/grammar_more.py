"""QUOTA (RFC 9208), METADATA (RFC 5464), NOTIFY (RFC 5465) and ID (RFC 2971)."""

from __future__ import annotations

from functools import partial
from typing import Final

from .commands import (
    EventGroup,
    GetMetadata,
    GetQuota,
    GetQuotaRoot,
    Id,
    Notify,
    SetMetadata,
    SetQuota,
)
from .fetching import FetchItem
from .grammar_fetch import fetch_item
from .reader import MAX_UNSIGNED_63, Malformed, Reader

__all__ = [
    "get_metadata",
    "get_quota",
    "get_quota_root",
    "id_",
    "notify",
    "set_metadata",
    "set_quota",
]

MAX_ID_PAIRS: Final = 30
"""RFC 2971 section 3.3."""
MAX_ENTRIES: Final = 1000
_MAX_DEPTH_TEXT: Final[dict[str, int | None]] = {"0": 0, "1": 1, "INFINITY": None}
_EVENTS: Final = {
    name.upper(): name
    for name in (
        "AnnotationChange",
        "FlagChange",
        "MailboxMetadataChange",
        "MailboxName",
        "MessageExpunge",
        "MessageNew",
        "ServerMetadataChange",
        "SubscriptionChange",
    )
}
_ALONE: Final = frozenset(("SELECTED", "SELECTED-DELAYED", "INBOXES", "PERSONAL", "SUBSCRIBED"))


def id_(reader: Reader) -> Id:
    reader.sp()
    if reader.nil():
        return Id(None)
    reader.need(b"(")
    made: list[tuple[bytes, bytes | None]] = []
    while not reader.take(b")"):
        if made:
            reader.sp()
        if len(made) >= MAX_ID_PAIRS:
            raise Malformed("too many pairs in ID")
        name = reader.string()
        reader.sp()
        made.append((name, reader.nstring()))
    return Id(tuple(made))


# -- quota


def get_quota(reader: Reader) -> GetQuota:
    reader.sp()
    return GetQuota(_root(reader))


def get_quota_root(reader: Reader) -> GetQuotaRoot:
    reader.sp()
    return GetQuotaRoot(reader.mailbox())


def set_quota(reader: Reader) -> SetQuota:
    reader.sp()
    root = _root(reader)
    reader.sp()
    reader.need(b"(")
    limits: list[tuple[str, int]] = []
    while not reader.take(b")"):
        if limits:
            reader.sp()
        resource = reader.word()
        reader.sp()
        limits.append((resource, reader.number(MAX_UNSIGNED_63)))
    return SetQuota(root, tuple(limits))


def _root(reader: Reader) -> str:
    try:
        return reader.astring().decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("a quota root's name is not UTF-8") from None


# -- metadata


def get_metadata(reader: Reader) -> GetMetadata:
    reader.sp()
    max_size: int | None = None
    depth: int | None = 0
    options = reader.comes(b"(")
    if options:
        max_size, depth = _options(reader)
        reader.sp()
    mailbox = reader.mailbox()
    reader.sp()
    # RFC 5464's examples have the options here, its grammar has them in front (erratum 1692)
    if not options and reader.data[reader.at : reader.at + 6].upper() in (b"(MAXSI", b"(DEPTH"):
        max_size, depth = _options(reader)
        while reader.take(b" "):
            pass
    entry = partial(_entry, reader)
    if reader.comes(b"("):
        entries = reader.list_of(entry)
    else:
        # Section 4.2.1's examples have several without parentheses, which the grammar has not.
        some = [entry()]
        while reader.comes(b" /") or reader.comes(b' "'):
            reader.sp()
            some.append(entry())
        entries = tuple(some)
    if len(entries) > MAX_ENTRIES:
        raise Malformed("too many entries")
    return GetMetadata(mailbox, tuple(dict.fromkeys(entries)), max_size, depth)


def _options(reader: Reader) -> tuple[int | None, int | None]:
    max_size: int | None = None
    depth: int | None = 0
    reader.need(b"(")
    while True:
        name = reader.word()
        reader.sp()
        if name == "MAXSIZE":
            max_size = reader.number()
        elif name == "DEPTH":
            text = reader.word()
            if text not in _MAX_DEPTH_TEXT:
                raise Malformed("DEPTH is 0, 1 or infinity")
            depth = _MAX_DEPTH_TEXT[text]
        else:
            raise Malformed("an option of GETMETADATA is not known")
        if not reader.take(b" "):
            break
    reader.need(b")")
    return max_size, depth


def set_metadata(reader: Reader) -> SetMetadata:
    reader.sp()
    mailbox = reader.mailbox()
    reader.sp()
    entries = reader.list_of(lambda: _pair(reader))
    if len(entries) > MAX_ENTRIES:
        raise Malformed("too many entries")
    return SetMetadata(mailbox, entries)


def _pair(reader: Reader) -> tuple[str, bytes | None]:
    name = _entry(reader)
    reader.sp()
    return name, reader.nstring(literal8=True)


def _entry(reader: Reader) -> str:
    raw = reader.astring()
    # RFC 5464 section 3.2: case-insensitive; no "*", "%", control, "//", and no "/" at its end
    if (
        not raw.startswith(b"/")
        or raw.endswith(b"/")
        or b"//" in raw
        or b"*" in raw
        or b"%" in raw
        or not raw.isascii()
        or not raw.decode("ascii").isprintable()
    ):
        raise Malformed("an entry's name is not valid")
    return raw.decode("ascii").lower()


# -- notify


def notify(reader: Reader) -> Notify:
    reader.sp()
    what = reader.word()
    if what == "NONE":
        return Notify(False, None)
    if what != "SET":
        raise Malformed("NOTIFY takes SET or NONE")
    status = reader.take_word(b" STATUS")
    reader.sp()
    groups = [_group(reader)]
    while reader.comes(b" ("):
        reader.sp()
        groups.append(_group(reader))
    return Notify(status, tuple(groups))


def _group(reader: Reader) -> EventGroup:
    reader.need(b"(")
    filter_ = reader.word()
    mailboxes: tuple[str, ...] = ()
    if filter_ in ("SUBTREE", "MAILBOXES"):
        reader.sp()
        mailboxes = reader.list_of(reader.mailbox) if reader.comes(b"(") else (reader.mailbox(),)
    elif filter_ not in _ALONE:
        raise Malformed("a mailbox filter of NOTIFY is not known")
    reader.sp()
    events: dict[str, None] = {}
    items: tuple[FetchItem, ...] = ()
    if not reader.take_word(b"NONE"):
        reader.need(b"(")
        while True:
            raw = reader.atom().decode("ascii")
            event = _EVENTS.get(raw.upper(), raw)
            events[event] = None
            if event == "MessageNew" and reader.take(b" ("):
                reader.at -= 1
                items = reader.list_of(lambda: fetch_item(reader))
            if not reader.take(b" "):
                break
        reader.need(b")")
    reader.need(b")")
    return EventGroup(filter_, mailboxes, tuple(events), tuple(dict.fromkeys(items)))
