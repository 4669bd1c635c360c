"""SEARCH, SORT and THREAD (RFC 9051 section 6.4.4; RFC 4731, 5032, 5182, 5256, 5957, 7162, 8474, 8514).

Keys may be nested `MAX_NESTING` deep: what walks the tree may call itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Final, Literal

from .commands import Search, Sort, SortCriterion, Thread
from .dates import parse_date
from .reader import MAX_UNSIGNED_63, Malformed, Reader
from .searching import (
    All,
    And,
    Day,
    Flag,
    Header,
    ModSeq,
    Not,
    Numbers,
    ObjectId,
    Or,
    SaveDateSupported,
    SearchKey,
    Size,
    Text,
    Within,
)

__all__ = ["search", "sort", "thread"]

MAX_NESTING: Final = 100
TEXT_KEY: Final = 20
"""Keys that one counts as which looks for a text: each may have to read all messages."""

_RETURNS: Final = frozenset(("MIN", "MAX", "ALL", "COUNT", "SAVE"))
_SORT_KEYS: Final = frozenset(
    ("ARRIVAL", "CC", "DATE", "DISPLAYFROM", "DISPLAYTO", "FROM", "SIZE", "SUBJECT", "TO")
)
_NAME: Final = re.compile(rb"[A-Za-z]+")
_DATE: Final = re.compile(rb'("?)([0-9A-Za-z-]+)\1')
_OBJECT_ID: Final = re.compile(rb"[A-Za-z0-9_-]{1,255}")
_ENTRY: Final = re.compile(
    rb'"/flags/(?:[^"\\\x00-\x1f]|\\["\\])+" (?:priv|shared|all) ', re.IGNORECASE
)


def search(reader: Reader, uid: bool) -> Search:
    returns = _returns(reader)
    reader.sp()
    charset: str | None = None
    if reader.take_word(b"CHARSET "):
        charset = _charset(reader)
        reader.sp()
    return Search(uid, charset, _program(reader), returns)


def sort(reader: Reader, uid: bool) -> Sort:
    returns = _returns(reader)  # RFC 5267 section 3
    reader.sp()
    criteria = reader.list_of(lambda: _criterion(reader))
    reader.sp()
    charset = _charset(reader)
    reader.sp()
    return Sort(uid, criteria, charset, _program(reader), returns)


def thread(reader: Reader, uid: bool) -> Thread:
    reader.sp()
    algorithm = reader.word()
    reader.sp()
    charset = _charset(reader)
    reader.sp()
    return Thread(uid, algorithm, charset, _program(reader))


def _returns(reader: Reader) -> frozenset[str] | None:
    if not reader.take_word(b" RETURN "):
        return None
    words = frozenset(reader.words())
    if not words <= _RETURNS:
        raise Malformed("an option of RETURN is not known")
    return words or frozenset(("ALL",))


def _charset(reader: Reader) -> str:
    try:
        return reader.astring().upper().decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("a charset's name is not valid") from None


def _criterion(reader: Reader) -> SortCriterion:
    word = reader.word()
    reverse = word == "REVERSE"
    if reverse:
        reader.sp()
        word = reader.word()
    if word not in _SORT_KEYS:
        raise Malformed("a sort criterion is not known")
    return SortCriterion(word, reverse)


def _program(reader: Reader) -> SearchKey:
    made = _keys(reader, MAX_NESTING)
    reader.end()
    return made


def _keys(reader: Reader, deeper: int) -> SearchKey:
    keys = [_key(reader, deeper)]
    data = reader.data
    while reader.comes(b" ") and data[reader.at + 1 : reader.at + 2] not in (b"", b" "):
        reader.at += 1
        keys.append(_key(reader, deeper))
    return keys[0] if len(keys) == 1 else And(tuple(keys))


def _key(reader: Reader, deeper: int) -> SearchKey:
    reader.keys_left -= 1
    if not deeper or reader.keys_left <= 0:
        raise Malformed("too many search keys, or nested too deeply", "LIMIT", "NO")
    found = _NAME.match(reader.data, reader.at)
    if found is not None:
        name = found[0].upper()
        simple = _SIMPLE.get(name)
        if simple is not None:
            reader.at = found.end()
            return simple
        make = _WITH_ARGUMENT.get(name)
        if make is None:
            raise Malformed("a search key is not known")
        reader.at = found.end()
        reader.sp()
        return make(reader, deeper - 1)
    if reader.take(b"("):
        made = _keys(reader, deeper - 1)
        reader.need(b")")
        return made
    return Numbers(reader.sequence(), False)


def _not(reader: Reader, deeper: int) -> SearchKey:
    return Not(_key(reader, deeper))


def _or(reader: Reader, deeper: int) -> SearchKey:
    left = _key(reader, deeper)
    reader.sp()
    return Or(left, _key(reader, deeper))


def _uid(reader: Reader, deeper: int) -> SearchKey:
    return Numbers(reader.sequence(), True)


def _header(reader: Reader, deeper: int) -> SearchKey:
    name = reader.astring()
    reader.sp()
    return Header(name, _wanted(reader))


def _field(name: bytes) -> Callable[[Reader, int], SearchKey]:
    return lambda reader, deeper: Header(name, _wanted(reader))


def _text(header: bool) -> Callable[[Reader, int], SearchKey]:
    return lambda reader, deeper: Text(header, _wanted(reader))


def _wanted(reader: Reader) -> bytes:
    reader.keys_left -= TEXT_KEY - 1
    return reader.astring()


def _keyword(reader: Reader, deeper: int) -> SearchKey:
    return Flag(reader.atom().decode("ascii"))


def _unkeyword(reader: Reader, deeper: int) -> SearchKey:
    return Not(_keyword(reader, deeper))


def _date(reader: Reader) -> date:
    found = _DATE.match(reader.data, reader.at)
    if found is None:
        raise Malformed("a date is missing")
    try:
        day = parse_date(found[2])
    except ValueError:
        raise Malformed("a date is not valid") from None
    reader.at = found.end()
    return day


def _day(
    of: Literal["internal", "sent", "saved"], is_: Literal["before", "on", "since"]
) -> Callable[[Reader, int], SearchKey]:
    return lambda reader, deeper: Day(of, is_, _date(reader))


def _size(larger: bool) -> Callable[[Reader, int], SearchKey]:
    return lambda reader, deeper: Size(larger, reader.number(MAX_UNSIGNED_63))


def _within(older: bool) -> Callable[[Reader, int], SearchKey]:
    # RFC 5032 section 4: nz-number
    return lambda reader, deeper: Within(older, reader.number(least=1))


def _mod_sequence(reader: Reader, deeper: int) -> SearchKey:
    found = _ENTRY.match(reader.data, reader.at)
    if found is not None:
        reader.at = found.end()
    return ModSeq(reader.mod_sequence())


def _object_id(of: Literal["EMAILID", "THREADID"]) -> Callable[[Reader, int], SearchKey]:
    def make(reader: Reader, deeper: int) -> SearchKey:
        found = _OBJECT_ID.match(reader.data, reader.at)
        if found is None:
            raise Malformed("an object id is missing")
        reader.at = found.end()
        return ObjectId(of, found[0].decode("ascii"))

    return make


_SIMPLE: Final[dict[bytes, SearchKey]] = {
    b"ALL": All(),
    b"ANSWERED": Flag("\\Answered"),
    b"DELETED": Flag("\\Deleted"),
    b"DRAFT": Flag("\\Draft"),
    b"FLAGGED": Flag("\\Flagged"),
    # RFC 3501 section 6.4.4
    b"NEW": And((Flag("\\Recent"), Not(Flag("\\Seen")))),
    b"OLD": Not(Flag("\\Recent")),
    b"RECENT": Flag("\\Recent"),
    b"SAVEDATESUPPORTED": SaveDateSupported(),
    b"SEEN": Flag("\\Seen"),
    b"UNANSWERED": Not(Flag("\\Answered")),
    b"UNDELETED": Not(Flag("\\Deleted")),
    b"UNDRAFT": Not(Flag("\\Draft")),
    b"UNFLAGGED": Not(Flag("\\Flagged")),
    b"UNSEEN": Not(Flag("\\Seen")),
}

_WITH_ARGUMENT: Final[dict[bytes, Callable[[Reader, int], SearchKey]]] = {
    b"BCC": _field(b"Bcc"),
    b"BEFORE": _day("internal", "before"),
    b"BODY": _text(False),
    b"CC": _field(b"Cc"),
    b"EMAILID": _object_id("EMAILID"),
    b"FROM": _field(b"From"),
    b"HEADER": _header,
    b"KEYWORD": _keyword,
    b"LARGER": _size(True),
    b"MODSEQ": _mod_sequence,
    b"NOT": _not,
    b"OLDER": _within(True),
    b"ON": _day("internal", "on"),
    b"OR": _or,
    b"SAVEDBEFORE": _day("saved", "before"),
    b"SAVEDON": _day("saved", "on"),
    b"SAVEDSINCE": _day("saved", "since"),
    b"SENTBEFORE": _day("sent", "before"),
    b"SENTON": _day("sent", "on"),
    b"SENTSINCE": _day("sent", "since"),
    b"SINCE": _day("internal", "since"),
    b"SMALLER": _size(False),
    b"SUBJECT": _field(b"Subject"),
    b"TEXT": _text(True),
    b"THREADID": _object_id("THREADID"),
    b"TO": _field(b"To"),
    b"UID": _uid,
    b"UNKEYWORD": _unkeyword,
    b"YOUNGER": _within(False),
}
