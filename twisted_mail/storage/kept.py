"""A large folder's snapshot, kept beside its rows: a hundred thousand rows are 100 ms to read, their columns are 2.

It stands in the index (a cache of a cache), written in the same transaction as the rows it was made from, with the
mod-sequence that the folder had then. Every change of rows has a higher one; so a snapshot of the folder's mod-sequence
is right, and what an older one lacks is found by mod-sequences. It is written anew when that has become much.
"""

from __future__ import annotations

import sys
from array import array
from typing import Final, TypeAlias

from .index import Index

__all__ = ["Columns", "is_much", "load", "save"]

LEAST: Final = 2000
"""Messages of a folder for which it is worth it."""
FEW: Final = 200
"""Changes for which it is not written anew …"""
SHARE: Final = 50
"""… or one in so many messages."""
Columns: TypeAlias = "tuple[array[int], array[int], array[int], array[int], array[int]]"
"""UIDs, flags, mod-sequences, sizes, dates."""

_CODES: Final = ("I", "I", "Q", "Q", "q")
_ORDER: Final = sys.byteorder


def is_much(changes: int, messages: int) -> bool:
    """Whether so many changes are to be written down."""
    return changes > max(FEW, messages // SHARE)


def save(index: Index, key: int, modseq: int, columns: Columns) -> None:
    """`columns` are the folder's, and `modseq` is its mod-sequence, in this transaction."""
    if len(columns[0]) >= LEAST:
        index.keep(key, modseq, _ORDER, columns)


def load(index: Index, key: int) -> tuple[int, Columns] | None:
    """What was saved last, and the mod-sequence that the folder had then."""
    found = index.kept(key)
    if found is None or found[1] != _ORDER:
        return None
    columns = tuple(array(code) for code in _CODES)
    for part, column in enumerate(columns):
        # One at a time: they are large
        data = index.kept_part(key, part)
        if len(data) % column.itemsize:
            return None
        column.frombytes(data)
    uids, flags, modseqs, sizes, dates = columns
    if len({len(column) for column in columns}) != 1:
        return None
    return found[0], (uids, flags, modseqs, sizes, dates)
