"""Which messages a command is about, as chunks of positions.

A `Chunk` says where its messages stand in the snapshot's arrays, and how the client numbers them: the two differ
by the ghosts before them (`imap.view`). Ranges stay ranges as long as they can: a mailbox of a million messages is
cut into slices, not into numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Final, NamedTuple

from ..mailboxes import Snapshot
from .fetch_plan import taken

if TYPE_CHECKING:
    from .sequence import Positions
    from .view import View

__all__ = ["CHUNK", "LOOKED_UP", "Chosen", "Chunk", "changed_since", "choose", "chunks"]

CHUNK: Final = 1024
"""Messages that are written at once, at most …"""
LOOKED_UP: Final = 2000
"""… and that are looked up at once, in the index."""
LONG: Final = 256
"""Chunks that are looked through in one go, for what was changed."""
_SHORT: Final = 64
"""Ranges up to here are put together, as single numbers."""


class Chunk(NamedTuple):
    """Messages `positions` of the snapshot, ascending; the client's numbers of them, both as ranges or both not."""

    positions: range | Sequence[int]
    numbers: range | Sequence[int]


NOTHING: Final = Chunk((), ())


class Chosen(NamedTuple):
    """`spans`: (start, stop, ghosts before them), positions in the snapshot. `ghosts`: how many are gone."""

    spans: list[tuple[int, int, int]]
    ghosts: int


def choose(view: View, positions: Positions) -> Chosen:
    """`positions` (of `View.positions`: in the client's numbering) as they stand in ``view.snapshot``."""
    if not view.ghosts:
        return Chosen([(start, stop, 0) for start, stop in positions], 0)
    gone = [view.number(uid) - 1 for uid in sorted(view.ghosts)]
    spans: list[tuple[int, int, int]] = []
    before = hidden = 0
    for start, stop in positions:
        while before < len(gone) and gone[before] < start:
            before += 1
        while start < stop:
            end = min(stop, gone[before]) if before < len(gone) else stop
            if start < end:
                spans.append((start - before, end - before, before))
            if end < stop:
                before += 1
                hidden += 1
            start = end + 1
    return Chosen(spans, hidden)


def chunks(spans: Iterable[tuple[int, int, int]], size: int = CHUNK) -> Iterator[Chunk]:
    """All messages of `spans`, in order, at most `size` at a time."""
    positions: list[int] = []
    numbers: list[int] = []
    for start, stop, before in spans:
        if stop - start <= _SHORT:
            positions += range(start, stop)
            numbers += range(start + before + 1, stop + before + 1)
            if len(positions) > size - _SHORT:
                yield Chunk(positions, numbers)
                positions, numbers = [], []
            continue
        if positions:
            yield Chunk(positions, numbers)
            positions, numbers = [], []
        for low in range(start, stop, size):
            high = min(low + size, stop)
            yield Chunk(range(low, high), range(low + before + 1, high + before + 1))
    if positions:
        yield Chunk(positions, numbers)


def changed_since(snapshot: Snapshot, some: Iterable[Chunk], modseq: int) -> Iterator[Chunk]:
    """What of `some` has a mod-sequence above `modseq` (RFC 7162 section 3.1.4.1). Chunks may be empty: so he who takes
    them can give others their turn where nothing is found for long."""
    if modseq >= snapshot.modseq:
        return
    modseqs = snapshot.modseqs
    passed = 0
    for chunk in some:
        marks = taken(modseqs, chunk.positions)
        if max(marks) <= modseq:
            passed += 1
            if passed % LONG == 0:
                yield NOTHING
            continue
        newer = [mark > modseq for mark in marks]
        if all(newer):
            yield chunk
        else:
            yield Chunk(
                list(compress(chunk.positions, newer)), list(compress(chunk.numbers, newer))
            )
