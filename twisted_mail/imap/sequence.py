"""Sets of message numbers (RFC 9051 section 9, ``sequence-set``) as ranges, never as single numbers.

A `SequenceSet` costs what its text costs, whatever it spans: ``1:*`` is one range over a million
messages. Resolving gives positions: half-open, zero-based index ranges into the mailbox's arrays,
ascending and apart, the same for sequence numbers and for UIDs.

``*`` is the greatest number in use, so ``7:*`` always holds the last message (RFC 9051 section 6.4.8),
and in an empty mailbox nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import compress, count, islice
from operator import sub
from typing import Final, TypeAlias

__all__ = ["MAX_RANGES", "STAR", "Positions", "SequenceSet", "compact", "join"]

STAR: Final = 1 << 32
"""Stands for ``*`` in `SequenceSet.ranges`: greater than any number."""
MAX_RANGES: Final = 10_000
"""Ranges that one set may have."""

Positions: TypeAlias = list[tuple[int, int]]
"""Index ranges (start, stop), half-open, ascending, apart from one another."""

_SET: Final = re.compile(
    rb"(?:[1-9][0-9]{0,9}|\*|\$)(?::(?:[1-9][0-9]{0,9}|\*))?"
    rb"(?:,(?:[1-9][0-9]{0,9}|\*|\$)(?::(?:[1-9][0-9]{0,9}|\*))?)*+",
)
_CHUNK: Final = 512


class SequenceSet:
    """A parsed set; a value. `ranges`: (first, last), inclusive, ascending, neither overlapping nor
    touching; `saved`: ``$`` is in it, the result of the last SEARCH that was saved (RFC 5182)."""

    __slots__ = ("ranges", "saved")

    ranges: tuple[tuple[int, int], ...]
    saved: bool

    def __init__(self, ranges: Iterable[tuple[int, int]] = (), saved: bool = False) -> None:
        self.ranges = tuple(_merged(ranges))
        self.saved = saved

    @classmethod
    def parse(cls, text: bytes, max_ranges: int = MAX_RANGES) -> SequenceSet:
        """Raises ValueError, with a text for people."""
        known = _COMMON.get(text)
        if known is not None:
            return known
        if _SET.fullmatch(text) is None:
            raise ValueError("not a set of message numbers")
        parts = text.split(b",")
        if len(parts) > max_ranges:
            raise ValueError("too many ranges in a set of message numbers")
        saved = False
        ranges = []
        for part in parts:
            first, colon, last = part.partition(b":")
            if first == b"$":
                if colon:
                    raise ValueError("$ cannot be an end of a range")
                saved = True
                continue
            low = STAR if first == b"*" else _number(first)
            high = low if not colon else STAR if last == b"*" else _number(last)
            # RFC 9051 section 9: 3:1 is 1:3
            ranges.append((low, high) if low <= high else (high, low))
        return cls(ranges, saved)

    @classmethod
    def of(cls, numbers: Sequence[int]) -> SequenceSet:
        """Of strictly ascending numbers (a list, an array)."""
        made = cls.__new__(cls)
        made.ranges = tuple(_runs(numbers))
        made.saved = False
        return made

    @property
    def fixed(self) -> bool:
        """Neither ``*`` nor ``$`` is in it: it says the same of every mailbox."""
        return not self.saved and not self.star

    @property
    def star(self) -> bool:
        """Whether ``*`` is in it."""
        return bool(self.ranges) and self.ranges[-1][1] == STAR

    def __len__(self) -> int:
        """How many numbers a fixed set holds."""
        return sum(high - low + 1 for low, high in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges) or self.saved

    def within(self, greatest: int) -> list[tuple[int, int]]:
        """The ranges (inclusive) when `greatest` is the greatest number in use (0: none is). What a
        fixed range has above it stays. ``$`` is left out."""
        ranges = self.ranges
        if not ranges or ranges[-1][1] != STAR:
            return list(ranges)
        if not greatest:
            return list(ranges[:-1])
        low = ranges[-1][0]
        star = (min(low, greatest), greatest)
        return list(_merged([*ranges[:-1], star]))

    def positions(self, messages: int) -> Positions:
        """Which positions sequence numbers mean in a mailbox of so many messages; numbers above are
        left out (`exceeds` tells)."""
        return [
            (low - 1, min(high, messages)) for low, high in self.within(messages) if low <= messages
        ]

    def exceeds(self, messages: int) -> bool:
        """Whether it has a sequence number that no message has; RFC 9051 section 9: BAD then. For
        ``*`` only an empty mailbox is too small."""
        if self.star and not messages:
            return True
        return any(
            (low > messages and low != STAR) or (high > messages and high != STAR)
            for low, high in self.ranges
        )

    def positions_of(self, uids: Sequence[int]) -> Positions:
        """Which positions UIDs mean in `uids`, strictly ascending; UIDs that are not there are left
        out (RFC 9051 section 6.4.9)."""
        if not uids:
            return []
        found: Positions = []
        stop = 0
        for low, high in self.within(uids[-1]):
            start = bisect_left(uids, low, stop)
            stop = bisect_right(uids, high, start)
            if start < stop:
                if found and found[-1][1] == start:
                    found[-1] = (found[-1][0], stop)
                else:
                    found.append((start, stop))
        return found

    def holds(self, number: int, greatest: int) -> bool:
        """Whether `number` is in it when `greatest` is the greatest in use. ``$`` is left out."""
        if self.star and number == greatest:
            return True
        ranges = self.ranges
        at = bisect_right(ranges, (number, STAR + 1)) - 1
        return at >= 0 and number <= ranges[at][1]

    def __bytes__(self) -> bytes:
        parts = [_text(low, high) for low, high in self.ranges]
        if self.saved:
            parts.append("$")
        return ",".join(parts).encode()

    def __repr__(self) -> str:
        return f"SequenceSet({bytes(self).decode()!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SequenceSet):
            return NotImplemented
        return self.ranges == other.ranges and self.saved == other.saved

    def __hash__(self) -> int:
        return hash((self.ranges, self.saved))


def compact(numbers: Sequence[int]) -> bytes:
    """Strictly ascending numbers (a list, an array) as a set's text: ``1:5,9``; empty for none.

    A million in one run take a millisecond, a million apart some 0.4 s: slice those; the texts of
    slices, joined by commas, are a valid set.
    """
    return ",".join([_text(low, high) for low, high in _runs(numbers)]).encode()


def join(*some: Positions) -> Positions:
    """The union."""
    ranges = sorted(one for positions in some for one in positions)
    joined: Positions = []
    for start, stop in ranges:
        if joined and start <= joined[-1][1]:
            if stop > joined[-1][1]:
                joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def _number(digits: bytes) -> int:
    number = int(digits)
    if number >= STAR:
        raise ValueError("a message number is at most 4294967295")
    return number


def _text(low: int, high: int) -> str:
    first = "*" if low == STAR else str(low)
    if low == high:
        return first
    return f"{first}:*" if high == STAR else f"{first}:{high}"


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    last = -1
    for low, high in sorted(ranges):
        # * does not touch 4294967295: it may be any number
        if merged and low <= last + (high < STAR):
            if high > last:
                merged[-1] = (merged[-1][0], high)
                last = high
        else:
            merged.append((low, high))
            last = high
    return merged


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Looks at a chunk's ends first, so that dense numbers cost nothing; the gaps of the others are
    found without a step of Python for each."""
    runs: list[tuple[int, int]] = []
    size = len(numbers)
    if not size:
        return runs
    first = last = numbers[0]
    for start in range(0, size, _CHUNK):
        stop = min(start + _CHUNK, size)
        low, high = numbers[start], numbers[stop - 1]
        if start and low != last + 1:
            runs.append((first, last))
            first = low
        if high - low != stop - start - 1:
            chunk = numbers[start:stop]
            gaps = map((1).__ne__, map(sub, islice(chunk, 1, None), chunk))
            for at in compress(count(1), gaps):
                runs.append((first, chunk[at - 1]))
                first = chunk[at]
        last = high
    runs.append((first, last))
    return runs


_COMMON: Final = {
    text: SequenceSet(ranges)
    for text, ranges in (
        (b"1:*", [(1, STAR)]),
        (b"*", [(STAR, STAR)]),
        (b"1", [(1, 1)]),
    )
}
