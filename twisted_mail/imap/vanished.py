"""VANISHED (EARLIER): what a client need not ask for any more (RFC 7162 section 3.2.5 and 3.2.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ..mailboxes import OpenMailbox, Snapshot
from .sequence import SequenceSet

__all__ = ["absent", "earlier"]

Ranges = Iterable[tuple[int, int]]
SLICE: Final = 1000
"""Ranges in one response."""


async def earlier(
    opened: OpenMailbox, snapshot: Snapshot, asked: Ranges, since: int
) -> Iterator[bytes]:
    """VANISHED (EARLIER) responses for the UIDs of `asked` (ranges, inclusive, ascending) that were expunged after the
    mod-sequence `since`. When the mailbox does not know any more, for all of them that are not there: RFC 7162
    section 3.2.5.1 allows what the client has never seen. Nothing is said that is in `snapshot`.
    """
    gone = await opened.vanished(since)
    if gone is None:
        return _lines(absent(snapshot, asked))
    known = SequenceSet(asked)
    top = snapshot.uidnext
    # A message that is expunged just now is still numbered
    told = [uid for uid in gone if uid < top and known.holds(uid, 0) and snapshot.index(uid) < 0]
    return _lines(SequenceSet.of(told).ranges)


def absent(snapshot: Snapshot, asked: Ranges) -> Iterator[tuple[int, int]]:
    """Those of `asked` that were given to messages and have none now, as ranges."""
    top = snapshot.uidnext - 1
    runs = SequenceSet.of(snapshot.uids).ranges
    at = 0
    for low, high in asked:
        high = min(high, top)
        while at < len(runs) and runs[at][1] < low:
            at += 1
        n = at
        while low <= high:
            if n == len(runs) or runs[n][0] > high:
                yield low, high
                break
            if runs[n][0] > low:
                yield low, runs[n][0] - 1
            low = runs[n][1] + 1
            n += 1


def _lines(ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    texts: list[bytes] = []
    for low, high in ranges:
        texts.append(b"%d" % low if low == high else b"%d:%d" % (low, high))
        if len(texts) == SLICE:
            yield _line(texts)
            texts.clear()
    if texts:
        yield _line(texts)


def _line(texts: Sequence[bytes]) -> bytes:
    return b"* VANISHED (EARLIER) %s\r\n" % b",".join(texts)
