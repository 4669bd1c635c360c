"""What SEARCH and SORT answer: SEARCH, SORT and ESEARCH responses (RFC 9051 section 7.3.4, RFC 4731, 5267, 7162)."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from .encode import quoted
from .search import Search
from .sequence import compact
from .view import View

__all__ = ["Result", "esearch", "plain", "result", "to_save"]

PIECE: Final = 5000
"""Numbers that are written at once: under 64 KiB."""
SLICE: Final = 16_384
"""Numbers that are looked up at once: some ms."""


class Result(NamedTuple):
    """`numbers`: as the client is told them, in the order of the answer; `uids` and `modseqs`: parallel to it, or empty
    when nobody asks for them.

    `sorted_`: they are not in ascending order.
    """

    numbers: Sequence[int]
    uids: Sequence[int]
    modseqs: Sequence[int]
    sorted_: bool = False


async def result(
    view: View, search: Search, selected: int, uid: bool, mod_sequence: bool, uids_too: bool = True
) -> Result:
    """What a search has selected, in ascending order. `mod_sequence`, `uids_too`: whether those are asked for."""
    snapshot = search.snapshot
    told, there = view.uids, snapshot.uids
    uids = array("I")
    if uid or uids_too or told is not there:
        uids = await search.taken(selected, there)
    numbers = uids
    if not uid and told is there:
        numbers = await search.taken(selected, range(1, len(there) + 1))
    elif not uid:
        # Messages that are gone have numbers, too, until the client has heard of it
        numbers = array("I")
        for start in range(0, len(uids), SLICE):
            numbers.extend([bisect_left(told, one) + 1 for one in uids[start : start + SLICE]])
            await search.breathe()
    modseqs = await search.taken(selected, snapshot.modseqs) if mod_sequence else array("Q")
    return Result(numbers, uids, modseqs)


def plain(name: bytes, found: Result) -> Iterator[bytes]:
    """A SEARCH or SORT response, in pieces."""
    yield b"* " + name
    numbers = found.numbers
    for start in range(0, len(numbers), PIECE):
        yield (" " + " ".join(map(str, numbers[start : start + PIECE]))).encode()
    # RFC 7162 section 3.1.5: not when nothing was found
    if found.modseqs:
        yield b" (MODSEQ %d)" % max(found.modseqs)
    yield b"\r\n"


def esearch(tag: bytes, uid: bool, returns: Collection[str], found: Result) -> Iterator[bytes]:
    """An ESEARCH response, in pieces; nothing when nothing but SAVE was asked for."""
    if not any(one != "SAVE" for one in returns):
        # RFC 5182 section 2.1
        return
    yield b"* ESEARCH (TAG %b)" % quoted(tag)
    if uid:
        yield b" UID"
    numbers = found.numbers
    if numbers:
        # RFC 5267 section 3.3: the first and the last in the order asked for
        if "MIN" in returns:
            yield b" MIN %d" % numbers[0]
        if "MAX" in returns:
            yield b" MAX %d" % numbers[-1]
    if "COUNT" in returns:
        yield b" COUNT %d" % len(numbers)
    # RFC 4731 section 3.1: neither MIN nor MAX nor ALL when nothing was found
    if "ALL" in returns and numbers:
        yield from _all(numbers, found.sorted_)
    if found.modseqs:
        yield b" MODSEQ %d" % max(_modseqs(returns, found))
    yield b"\r\n"


def _all(numbers: Sequence[int], is_sorted: bool) -> Iterator[bytes]:
    separator = b" ALL "
    for start in range(0, len(numbers), PIECE):
        some = numbers[start : start + PIECE]
        if is_sorted:
            # RFC 5267 section 3.3: the order counts
            yield separator + ",".join(map(str, some)).encode()
        else:
            yield separator + compact(some)
        separator = b","


def _modseqs(returns: Collection[str], found: Result) -> Iterable[int]:
    """RFC 4731 section 3.2: of the messages that the answer names, or counts."""
    if "ALL" in returns or "COUNT" in returns:
        return found.modseqs
    named = []
    if "MIN" in returns:
        named.append(found.modseqs[0])
    if "MAX" in returns:
        named.append(found.modseqs[-1])
    return named or found.modseqs


def to_save(returns: Collection[str], found: Result, ascending: Sequence[int]) -> Sequence[int]:
    """RFC 5182 section 2.1: which UIDs become ``$``, ascending; `ascending` are those of all that was found."""
    if "ALL" in returns or "COUNT" in returns or not found.uids:
        return ascending
    ends = []
    if "MIN" in returns:
        ends.append(found.uids[0])
    if "MAX" in returns:
        ends.append(found.uids[-1])
    return sorted(set(ends)) if ends else ascending
