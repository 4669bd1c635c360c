"""FETCH and STORE (RFC 9051 section 6.4.5 and 6.4.6, RFC 3516, 7162, 8970)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from ..mailboxes import StoreMode
from .commands import Fetch, Store
from .encode import astring
from .fetching import (
    MACROS,
    PLAIN,
    BinarySection,
    BinarySize,
    BodySection,
    FetchItem,
    Preview,
)
from .reader import MAX_UNSIGNED_63, Malformed, Reader

__all__ = ["fetch", "fetch_item", "store"]

MAX_DEPTH: Final = 100
"""Numbers in a section part."""
_CACHED: Final = 256
"""Octets of what is asked for that are remembered with their meaning: clients ask the same again."""

_NAME: Final = re.compile(rb"[A-Za-z0-9.]+")
_PART: Final = rb"[1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*+"
_SECTION: Final = re.compile(
    rb"\[(?:(" + _PART + rb")(?:\.(HEADER\.FIELDS(?:\.NOT)?|HEADER|TEXT|MIME))?"
    rb"|(HEADER\.FIELDS(?:\.NOT)?|HEADER|TEXT))?",
    re.IGNORECASE,
)
_BINARY: Final = re.compile(rb"\[(" + _PART + rb")?\]")
_PARTIAL: Final = re.compile(rb"<([0-9]{1,19})\.([1-9][0-9]{0,18})>")
_STORE: Final = re.compile(rb"([+-]?)FLAGS(\.SILENT)? ", re.IGNORECASE)
_MODES: Final = {b"": StoreMode.REPLACE, b"+": StoreMode.ADD, b"-": StoreMode.REMOVE}


def fetch(reader: Reader, uid: bool) -> Fetch:
    reader.sp()
    sequence = reader.sequence()
    reader.sp()
    tail = reader.data[reader.at :]
    reader.at = len(reader.data)
    items, since, vanished = (_cached if len(tail) <= _CACHED else _wanted)(tail)
    if vanished and not uid:
        raise Malformed("VANISHED goes with UID FETCH only")  # RFC 7162 section 3.2.6
    return Fetch(uid, sequence, items, since, vanished)


def _wanted(tail: bytes) -> tuple[tuple[FetchItem, ...], int | None, bool]:
    reader = Reader(tail)
    if reader.comes(b"("):
        items = reader.list_of(lambda: fetch_item(reader))
    else:
        found = _NAME.match(tail)
        macro = MACROS.get(found[0].upper().decode("ascii")) if found else None
        if found and macro is not None:
            reader.at = found.end()
            items = macro
        else:
            items = (fetch_item(reader),)
    since, vanished = _modifiers(reader)
    reader.end()
    return tuple(dict.fromkeys(items)), since, vanished


_cached: Final = lru_cache(maxsize=128)(_wanted)


def _modifiers(reader: Reader) -> tuple[int | None, bool]:
    since: int | None = None
    vanished = False
    if reader.take(b" ("):
        while True:
            name = reader.word()
            if name == "CHANGEDSINCE" and since is None:
                reader.sp()
                since = reader.mod_sequence()
            elif name == "VANISHED" and not vanished:
                vanished = True
            else:
                raise Malformed("a modifier of FETCH is not known or there twice")
            if not reader.take(b" "):
                break
        reader.need(b")")
        if vanished and since is None:
            raise Malformed("VANISHED goes with CHANGEDSINCE only")
    return since, vanished


def fetch_item(reader: Reader) -> FetchItem:
    """One ``fetch-att``."""
    data = reader.data
    found = _NAME.match(data, reader.at)
    if found is None:
        raise Malformed("a FETCH item is missing")
    name = found[0].upper().decode("ascii")
    reader.at = found.end()
    if reader.comes(b"["):
        if name == "BODY" or name == "BODY.PEEK":
            return _body_section(reader, name == "BODY.PEEK")
        if name.startswith("BINARY"):
            return _binary(reader, name)
    elif name in PLAIN:
        return name
    elif name == "PREVIEW":
        return Preview(reader.take_word(b" (LAZY)"))
    raise Malformed("there is no such FETCH item")


def _body_section(reader: Reader, peek: bool) -> BodySection:
    found = _SECTION.match(reader.data, reader.at)
    if found is None:
        raise Malformed("a section is not valid")
    reader.at = found.end()
    raw_part, text_of_part, text_of_message = found.groups()
    text = (text_of_part or text_of_message or b"").upper()
    fields: tuple[bytes, ...] = ()
    if text.startswith(b"HEADER.FIELDS"):
        reader.sp()
        fields = reader.list_of(reader.astring)
        listed = b" (" + b" ".join([astring(field) for field in fields]) + b")"
    else:
        listed = b""
    if not reader.take(b"]"):
        raise Malformed("a section is not valid")
    part = _part(raw_part)
    dot = b"." if part and text else b""
    partial, origin = _partial(reader)
    label = b"".join((b"BODY[", raw_part or b"", dot, text, listed, b"]", origin))
    return BodySection(part, text.decode("ascii"), fields, peek, partial, label)


def _binary(reader: Reader, name: str) -> BinarySection | BinarySize:
    found = _BINARY.match(reader.data, reader.at)
    if found is None or name not in ("BINARY", "BINARY.PEEK", "BINARY.SIZE"):
        raise Malformed("a section is not valid")
    reader.at = found.end()
    part = _part(found[1])
    if name == "BINARY.SIZE":
        return BinarySize(part, b"BINARY.SIZE" + found[0])
    partial, origin = _partial(reader)
    return BinarySection(part, name == "BINARY.PEEK", partial, b"BINARY" + found[0] + origin)


def _part(raw: bytes | None) -> tuple[int, ...]:
    if not raw:
        return ()
    if raw.count(b".") >= MAX_DEPTH:
        raise Malformed("a section is too deep")
    return tuple(map(int, raw.split(b".")))


def _partial(reader: Reader) -> tuple[tuple[int, int] | None, bytes]:
    found = _PARTIAL.match(reader.data, reader.at)
    if found is None:
        return None, b""
    reader.at = found.end()
    first, size = int(found[1]), int(found[2])
    if max(first, size) > MAX_UNSIGNED_63:
        raise Malformed("a number is out of range")
    return (first, size), b"<%d>" % first


def store(reader: Reader, uid: bool) -> Store:
    reader.sp()
    sequence = reader.sequence()
    reader.sp()
    since: int | None = None
    if reader.take(b"("):  # RFC 7162 section 3.1.3
        if reader.word() != "UNCHANGEDSINCE":
            raise Malformed("a modifier of STORE is not known")
        reader.sp()
        since = reader.mod_sequence()
        reader.need(b")")
        reader.sp()
    found = _STORE.match(reader.data, reader.at)
    if found is None:
        raise Malformed("FLAGS, +FLAGS or -FLAGS is missing")
    reader.at = found.end()
    named = reader.flag_list() if reader.comes(b"(") else reader.bare_flags()
    return Store(uid, sequence, since, _MODES[found[1]], found[2] is not None, named)
