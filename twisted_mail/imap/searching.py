"""SEARCH keys as a tree of values; made by `imap.grammar_search`, never deeper than its bound.

FROM, TO, CC, BCC and SUBJECT are `Header`; SEEN, UNSEEN, KEYWORD, NEW and their like are made of
`Flag`, `Not` and `And`. Unlike tuples, two keys are equal only when they are of one kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeAlias

from .sequence import SequenceSet

__all__ = [
    "All",
    "And",
    "Day",
    "Flag",
    "Header",
    "ModSeq",
    "Not",
    "Numbers",
    "ObjectId",
    "Or",
    "SaveDateSupported",
    "SearchKey",
    "Size",
    "Text",
    "Within",
]


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class And:
    """All of `keys`: two or more."""

    keys: tuple[SearchKey, ...]


@dataclass(frozen=True, slots=True)
class Or:
    left: SearchKey
    right: SearchKey


@dataclass(frozen=True, slots=True)
class Not:
    key: SearchKey


@dataclass(frozen=True, slots=True)
class Numbers:
    """A set of sequence numbers, or of UIDs (`uid`)."""

    sequence: SequenceSet
    uid: bool


@dataclass(frozen=True, slots=True)
class Flag:
    """The flag or keyword is set. "\\\\Recent" is one of them here: NEW, OLD and RECENT ask for it."""

    flag: str


@dataclass(frozen=True, slots=True)
class Header:
    """A header field `name` (as it came) contains `value`; empty: there is such a field."""

    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Text:
    """`value` is in the body, or in header or body (`header`)."""

    header: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class Day:
    """`of`: the internal date, the Date field (``SENT…``) or the save date (RFC 8514). Times and zones
    are disregarded (RFC 9051 section 6.4.4)."""

    of: Literal["internal", "sent", "saved"]
    is_: Literal["before", "on", "since"]
    day: date


@dataclass(frozen=True, slots=True)
class Size:
    """More than (`larger`) or fewer than `octets`."""

    larger: bool
    octets: int


@dataclass(frozen=True, slots=True)
class Within:
    """RFC 5032: the internal date is at least `seconds` ago (`older`), or at most (YOUNGER)."""

    older: bool
    seconds: int


@dataclass(frozen=True, slots=True)
class ModSeq:
    """RFC 7162 section 3.1.5: the mod-sequence is `value` or greater. The entry, when one was named, is
    dropped: mod-sequences are kept per message, not per flag (as that section allows)."""

    value: int


@dataclass(frozen=True, slots=True)
class ObjectId:
    """RFC 8474: EMAILID or THREADID."""

    of: Literal["EMAILID", "THREADID"]
    value: str


@dataclass(frozen=True, slots=True)
class SaveDateSupported:
    """RFC 8514: all messages where the mailbox has save dates, else none."""


SearchKey: TypeAlias = (
    All
    | And
    | Day
    | Flag
    | Header
    | ModSeq
    | Not
    | Numbers
    | ObjectId
    | Or
    | SaveDateSupported
    | Size
    | Text
    | Within
)
