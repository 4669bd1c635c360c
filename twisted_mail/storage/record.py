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
from typing import Any

__all__ = ["Kind", "Place", "Record", "decode_meta", "encode", "epoch_of", "first", "scan"]

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
    With `changes` of queued messages, when it is the bounce that they cause."""
    REMOVE = 3
    """Messages that leave a folder for good: deleted by us, or ``noticed`` as taken away by another program."""
    VOID = 4
    """Records of a batch whose sync failed: they never happened."""
    ACCOUNT_REMOVED = 5
    """Everything before this about the account is over."""
    CHANGE = 6
    """What becomes of queued messages: outcomes of attempts, and what somebody did by hand."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place a message goes to: the account's key, the folder's id, the file's base name."""

    account: str
    folder: str
    base: str


@dataclass(frozen=True, slots=True)
class Record:
    """One record as read back. `meta` is the JSON object before the `content`."""

    kind: Kind
    writer: int
    sequence: int
    meta: dict[str, Any]
    content: memoryview

    @property
    def places(self) -> list[Place]:
        """The places of an ACCEPT."""
        return [Place(*place) for place in self.meta["places"]]


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


def scan(data: Any, epoch: int) -> Iterator[Record]:
    """Every whole record of a segment, in order. `data` is bytes or an mmap.

    `Record.content` is a view of `data`: copy what shall outlive it.
    """
    view = memoryview(data)
    at = 0
    while at + HEADER_SIZE <= len(view):
        found = _read(view, at, epoch)
        if found is None:
            at = data.find(MAGIC, at + 1)
            if at < 0:
                return
            continue
        record, at = found
        yield record


def decode_meta(payload: memoryview) -> tuple[dict[str, Any], memoryview] | None:
    """The JSON object and the content behind it; None when it is neither."""
    if len(payload) < _META.size:
        return None
    size = _META.unpack_from(payload)[0]
    if size > len(payload) - _META.size:
        return None
    try:
        meta = json.loads(bytes(payload[_META.size : _META.size + size]))
    except ValueError:
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
# json.dumps would make an encoder for each record.
_to_json = json.JSONEncoder(separators=(",", ":")).encode
