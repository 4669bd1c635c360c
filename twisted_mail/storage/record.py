"""Journal records as bytes: what one looks like, and how a segment is read back. Pure; no disk.

A record is a header and a payload::

    magic 4 · crc 4 · length 4 · epoch 8 · writer 8 · sequence 8 · kind 1 · 3 spare      (little-endian)
    payload: `length` bytes

`crc` (CRC-32) covers the header behind itself and the payload. `epoch` is a random number of the segment: bytes of an
older file that lie in reserved space are never taken for records, nor is a message that contains a copy of one.
`writer` and `sequence` name the record for ever, so that a later one can void it.

A flipped byte hides its own record only: reading goes on at the next whole one. A torn tail ends the segment.
"""

from __future__ import annotations

import enum
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = [
    "Kind",
    "Piece",
    "Place",
    "Record",
    "decode_meta",
    "encode",
    "epoch_of",
    "filed",
    "first",
    "is_torn",
    "scan",
]

MAGIC = b"TMJ1"
_HEADER = struct.Struct("<4sIIQQQB3x")
_REST = struct.Struct("<IQQQB3x")
_META = struct.Struct("<I")
HEADER_SIZE = _HEADER.size
MAX_PAYLOAD = 1 << 30


class Kind(enum.IntEnum):
    """What a record says."""

    SEGMENT = 1
    """The first of every segment: version, number, boot id."""
    ACCEPT = 2
    """A message and the places it goes to, mailboxes and queue; the bytes follow, or lie in a spill file of their own.
    With `changes` of queued messages, when it is the bounce that they cause; with `removes`, a folder and bases of the
    same account, when it comes in their place."""
    REMOVE = 3
    """Messages that leave a folder for good: deleted by us, or ``noticed`` as taken away by another program. ``in`` is
    the folder; records without it are of a program that knew the inbox alone."""
    VOID = 4
    """Records of a batch whose sync failed: they never happened."""
    ACCOUNT_REMOVED = 5
    """Everything before this about the account is over."""
    CHANGE = 6
    """What becomes of queued messages: outcomes of attempts, and what somebody did by hand."""
    FILE = 7
    """Several messages for one folder of one account, all or none; the bytes of those without a spill file follow."""
    MOVE = 8
    """Messages that go from one folder of an account to another: ``from``, ``to``, ``bases``."""
    FOLDER_REMOVED = 9
    """Everything before this in a folder is over; its directory is the ``target`` now."""


class Place(NamedTuple):
    """One place a message goes to: the account's key, the folder's id, the file's base name.

    The folder "" is the inbox. `flags` are names, as letters are a folder's own; None for mail that arrives. `date`
    (INTERNALDATE) in seconds since 1970, None for that of its arrival.
    """

    account: str
    folder: str
    base: str
    flags: tuple[str, ...] | None = None
    date: int | None = None

    def to_json(self) -> list[Any]:
        """What a record holds."""
        if self.flags is None and self.date is None:
            return [self.account, self.folder, self.base]
        return [self.account, self.folder, self.base, self.flags, self.date]

    @classmethod
    def from_json(cls, stored: Sequence[Any]) -> Place:
        """What `to_json` made."""
        account, folder, base, *rest = stored
        if not rest:
            return cls(account, folder, base)
        flags, date = rest
        return cls(account, folder, base, tuple(flags) if flags is not None else None, date)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One message's bytes, as a record has them. `meta` says of them what an ACCEPT does: ``size`` as stored, ``wire``
    with CRLF, ``ascii`` downgraded, ``crc``, ``spill``. Where ``crc`` is None it is that of `content`; of a spill file,
    what has its inode is whole.
    """

    meta: dict[str, Any]
    content: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Record:
    """One record as read back. `meta` is the JSON object before the `content`."""

    kind: Kind
    writer: int
    sequence: int
    meta: dict[str, Any]
    content: memoryview

    def pieces(self) -> list[tuple[Piece, list[Place]]]:
        """What an ACCEPT or a FILE puts where."""
        meta = self.meta
        if self.kind is Kind.ACCEPT:
            places = [Place.from_json(place) for place in meta["places"]]
            return [(Piece(meta, self.content), places)]
        found: list[tuple[Piece, list[Place]]] = []
        at = 0
        for base, flags, date, size, wire, ascii_size, crc, spill in meta["messages"]:
            end = at if spill else at + size
            of = {"size": size, "wire": wire, "ascii": ascii_size, "crc": crc, "spill": spill}
            place = Place(meta["account"], meta["folder"], base, tuple(flags), date)
            found.append((Piece(of, self.content[at:end]), [place]))
            at = end
        return found

    def spills(self) -> list[str]:
        """The names of the spill files that it needs."""
        if self.kind is Kind.ACCEPT:
            return [self.meta["spill"]] if self.meta["spill"] else []
        if self.kind is Kind.FILE:
            return [message[-1] for message in self.meta["messages"] if message[-1]]
        return []


def filed(messages: Sequence[tuple[Place, dict[str, Any]]]) -> dict[str, Any]:
    """The `meta` of a FILE: places in one folder, and that of the `Piece` that goes there."""
    first_place = messages[0][0]
    return {
        "account": first_place.account,
        "folder": first_place.folder,
        "messages": [
            [place.base, place.flags, place.date, *(of[name] for name in _PIECE)]
            for place, of in messages
        ],
    }


def encode(
    kind: Kind,
    meta: dict[str, Any],
    content: Sequence[bytes] = (),
    *,
    epoch: int,
    writer: int,
    sequence: int,
) -> list[bytes]:
    """The record as buffers for one `writev`; `content` is not copied."""
    text = _to_json(meta).encode()
    head = _META.pack(len(text)) + text
    length = len(head) + sum(map(len, content))
    crc = zlib.crc32(head, zlib.crc32(_REST.pack(length, epoch, writer, sequence, kind)))
    for block in content:
        crc = zlib.crc32(block, crc)
    return [_HEADER.pack(MAGIC, crc, length, epoch, writer, sequence, kind), head, *content]


def first(data: bytes | memoryview) -> tuple[int, Record, int] | None:
    """The epoch, the segment's own record and where it ends; None when the segment has no whole one."""
    view = memoryview(data)
    if len(view) < HEADER_SIZE or bytes(view[:4]) != MAGIC:
        return None
    epoch = _HEADER.unpack_from(view)[3]
    found = _read(view, 0, epoch)
    return None if found is None or found[0].kind is not Kind.SEGMENT else (epoch, *found)


def epoch_of(data: bytes) -> int | None:
    """The epoch of a segment whose own record is damaged: that of its first whole one."""
    view = memoryview(data)
    at = data.find(MAGIC)
    while 0 <= at <= len(view) - HEADER_SIZE:
        epoch: int = _HEADER.unpack_from(view, at)[3]
        if _read(view, at, epoch) is not None:
            return epoch
        at = data.find(MAGIC, at + 1)
    return None


def scan(data: Any, epoch: int, hidden: list[tuple[int, int]] | None = None) -> Iterator[Record]:
    """Every whole record of a segment, in order. `data` is bytes or an mmap.

    `Record.content` is a view of `data`: copy what shall outlive it. `hidden` gets where octets lie that are no whole
    record: from, to.
    """
    view = memoryview(data)
    at = last = 0
    while at + HEADER_SIZE <= len(view):
        found = _read(view, at, epoch)
        if found is None:
            at = data.find(MAGIC, at + 1)
            if at < 0:
                break
            continue
        if at > last and hidden is not None:
            hidden.append((last, at))
        record, at = found
        last = at
        yield record
    if last < len(view) and hidden is not None:
        hidden.append((last, len(view)))


def is_torn(data: Any, at: int, epoch: int) -> bool:
    """Whether what begins there is the beginning of a record that was not written to its end, or nothing: what a
    process leaves that dies writing, and a file system that had not written all."""
    view = memoryview(data)[at:]
    if len(view) < HEADER_SIZE:
        return True
    magic, _, length, of, *_ = _HEADER.unpack_from(view)
    if magic == MAGIC and of == epoch and HEADER_SIZE + length > len(view):
        return True
    return not bytes(view).strip(b"\0")


def decode_meta(payload: memoryview) -> tuple[dict[str, Any], memoryview] | None:
    """The JSON object and the content behind it; None when it is neither."""
    if len(payload) < _META.size:
        return None
    size = _META.unpack_from(payload)[0]
    if size > len(payload) - _META.size:
        return None
    try:
        meta = json.loads(bytes(payload[_META.size : _META.size + size]))
    except (ValueError, RecursionError):
        return None
    return (meta, payload[_META.size + size :]) if isinstance(meta, dict) else None


def _read(view: memoryview, at: int, epoch: int) -> tuple[Record, int] | None:
    magic, crc, length, of, writer, sequence, kind = _HEADER.unpack_from(view, at)
    end = at + HEADER_SIZE + length
    if magic != MAGIC or of != epoch or length > MAX_PAYLOAD or end > len(view):
        return None
    if zlib.crc32(view[at + 8 : end]) != crc:
        return None
    decoded = decode_meta(view[at + HEADER_SIZE : end])
    if decoded is None or kind not in _KINDS:
        return None
    return Record(Kind(kind), writer, sequence, *decoded), end


_KINDS = frozenset(Kind)
_PIECE = ("size", "wire", "ascii", "crc", "spill")
# json.dumps would make an encoder for each record.
_to_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
