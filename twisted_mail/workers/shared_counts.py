"""Counts that all processes of a site share: how many connections a client has, sessions an account, in all of them.

One region of memory (memfd_create(2)), made by the main process and given to the workers by its descriptor. Each
process has a *slot*: it writes the cells of its slot only, and reads all; so there is no lock and no atomic operation.
Processes that take for one key in the same instant may all find room for one: the count may go over `most` by one less
than there are processes, for as long as those connections last.

A key is not in it, but counted in a sketch (count-min; G. Cormode, S. Muthukrishnan, 2005): `ROWS` rows of `WIDTH`
cells, in each row one cell by a keyed hash of the key; the least of its cells, each summed over the slots, is its
count. It is never too small. It is too great only where somebody else shares a cell in *every* row: where n clients
have as many connections as one may, a client that has none is refused with a probability of (n / `WIDTH`)^`ROWS`, 2e-16
for n = 1, 4e-7 for n = 200 (10 000 connections, 50 each). Nobody can aim: the key of the hash is new with each start,
and never leaves this memory. The key "" is not hashed: it has cells of its own, for what is counted as a whole, and is
exact.

Memory: 64 KiB a slot and name.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

__all__ = ["NAMES", "SharedCounts", "make_shared_counts"]

NAMES: Final = ("connections", "seats")
"""What is counted. A name is a region of its own."""

ROWS: Final = 4
WIDTH: Final = 8192
MAX_SLOTS: Final = 1024
_MOST: Final = 0xFFFF
_HEADER: Final = struct.Struct("=16s32sI")
_START: Final = 64
# fcntl(2); not in Python 3.11's fcntl
_F_ADD_SEALS: Final = 1033
_F_SEAL_SHRINK_GROW: Final = 0x2 | 0x4


def make_shared_counts(slots: int, entropy: Callable[[int], bytes]) -> int:
    """The descriptor of new memory for `slots` processes, all counts 0. It is closed in programs that are executed,
    unless they are given it.

    Raises OSError, and ValueError for what is no number of processes.
    """
    if not 1 <= slots <= MAX_SLOTS:
        raise ValueError(f"1 to {MAX_SLOTS} processes may count together, not {slots}")
    fd = os.memfd_create("mail-counts", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, _size(slots))
        # Nobody who holds it can make it smaller under the others, which would kill them (SIGBUS).
        fcntl.fcntl(fd, _F_ADD_SEALS, _F_SEAL_SHRINK_GROW)
        os.pwrite(fd, _HEADER.pack(_layout(), entropy(32), slots), 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


class SharedCounts:
    """The memory behind `fd`, as the process in `slot` uses it. The descriptor may be closed afterwards.

    No two living processes may have one slot; whoever gives a slot away again clears it first. Raises OSError, and
    ValueError when that is not such memory, or of another version of this program.
    """

    def __init__(self, fd: int, slot: int) -> None:
        memory = mmap.mmap(fd, os.fstat(fd).st_size)
        layout, self._key, slots = _HEADER.unpack_from(memory)
        if layout != _layout() or len(memory) != _size(slots):
            memory.close()
            raise ValueError("the counts are another version's: stop the server and start it again")
        if not 0 <= slot < slots:
            memory.close()
            raise ValueError(f"there are {slots} slots, no {slot}")
        self._slots: int = slots
        self._slot = slot
        # One integer a slot: loads, then the wholes of each name; then the sketches, a slot's cells beside the others'
        whole = memoryview(memory)
        cells = _START + 4 * slots * (1 + len(NAMES))
        self._wholes = whole[_START:cells].cast("I")
        self._cells = whole[cells:].cast("H")
        whole.release()
        self._memory = memory

    def counts(self, name: str) -> _SharedCount:
        """The counts of `name`, as `siblings.Counts`. KeyError: not one of `NAMES`."""
        if name not in NAMES:
            raise KeyError(name)
        number, size = NAMES.index(name), ROWS * WIDTH * self._slots
        cells = self._cells[number * size : (number + 1) * size]
        first = self._slots * (1 + number)
        wholes = self._wholes[first : first + self._slots]
        return _SharedCount(cells, wholes, self._slots, self._slot, self._key)

    def clear(self, slot: int) -> None:
        """The process of that slot is dead: what it had taken is given back."""
        cells, wholes = self._cells[slot :: self._slots], self._wholes[slot :: self._slots]
        cells[:] = memoryview(bytes(cells.nbytes)).cast("H")
        wholes[:] = memoryview(bytes(wholes.nbytes)).cast("I")

    def loads(self) -> Sequence[int]:
        """What each slot has said of itself, in their order: its open connections, say."""
        return self._wholes[: self._slots].tolist()

    def by_slot(self, name: str) -> Sequence[int]:
        """How many of `name` each slot has taken in the whole (the key "")."""
        first = self._slots * (1 + NAMES.index(name))
        return self._wholes[first : first + self._slots].tolist()

    def set_load(self, load: int) -> None:
        """Say it of our own slot; 0 to 2³² - 1."""
        self._wholes[self._slot] = load


class _SharedCount:
    """One name's `siblings.Counts`."""

    __slots__ = ("_cells", "_key", "_slot", "_slots", "_starts", "_wholes")

    def __init__(
        self,
        cells: memoryview[int],
        wholes: memoryview[int],
        slots: int,
        slot: int,
        key: bytes,
    ) -> None:
        self._cells = cells
        self._wholes = wholes
        self._slots = slots
        self._slot = slot
        self._key = key
        self._starts = lru_cache(1024)(self._find)

    def take(self, key: str, most: int) -> bool:
        slot = self._slot
        if not key:
            if sum(self._wholes) >= most:
                return False
            self._wholes[slot] += 1
            return True
        cells, slots = self._cells, self._slots
        first, second, third, fourth = starts = self._starts(key)
        least = min(
            sum(cells[first : first + slots]),
            sum(cells[second : second + slots]),
            sum(cells[third : third + slots]),
            sum(cells[fourth : fourth + slots]),
        )
        if least >= most:
            return False
        own = [start + slot for start in starts]
        before = [cells[one] for one in own]
        if max(before) == _MOST:
            return False
        for one, count in zip(own, before, strict=True):
            cells[one] = count + 1
        return True

    def give_back(self, key: str) -> None:
        slot = self._slot
        if not key:
            self._wholes[slot] -= 1
            return
        cells = self._cells
        for start in self._starts(key):
            cells[start + slot] -= 1

    def count(self, key: str) -> int:
        if not key:
            return sum(self._wholes)
        slots = self._slots
        return min([sum(self._cells[start : start + slots]) for start in self._starts(key)])

    def _find(self, key: str) -> tuple[int, int, int, int]:
        """Where the cells of `key` are in each row: the first slot's, the others follow it."""
        digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=self._key)
        one, two, three, four = _FOUR.unpack(digest.digest())
        slots = self._slots
        return (
            one % WIDTH * slots,
            (WIDTH + two % WIDTH) * slots,
            (2 * WIDTH + three % WIDTH) * slots,
            (3 * WIDTH + four % WIDTH) * slots,
        )


_FOUR: Final = struct.Struct("<HHHH")


def _size(slots: int) -> int:
    return _START + slots * (4 * (1 + len(NAMES)) + 2 * ROWS * WIDTH * len(NAMES))


def _layout() -> bytes:
    """What differs when two versions of this program would read the memory differently."""
    return blake2b(repr((1, NAMES, ROWS, WIDTH)).encode(), digest_size=16).digest()
