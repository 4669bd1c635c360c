"""What the client of one session knows of the mailbox it has selected: its message sequence numbers and flags.

A client's numbering changes only by what it is told (RFC 9051 section 2.3.1.2). So a view is behind the mailbox until
`View.advance` tells the difference: EXPUNGE or VANISHED, EXISTS, FETCH with flags. Where EXPUNGE may not be told
(section 7.5.1), messages that are gone keep their numbers: they are `ghosts`.

It promises: numbers never diverge from what was told; nothing is copied while nothing is pending (`uids` is the
snapshot's own array); what is told costs what has changed, read from `Snapshot.log`, or a pass over the mailbox when
the log does not reach back; long texts are made lazily, in pieces.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, compress, count, islice
from operator import ne
from typing import Any, Final, NamedTuple

from ..mailboxes import MAX_KEYWORDS, SEEN, SYSTEM_FLAGS, OpenMailbox, Snapshot, StoreMode
from .encode import compact, flag_list
from .refusal import Bad
from .sequence import Positions, SequenceSet, join

__all__ = ["Quiet", "RenumberedError", "Style", "View", "first_unseen", "flags_text"]

_SEEN_BIT: Final = bytes(bits & SEEN for bits in range(256))
PIECE: Final = 1000
"""Responses that are made at once: some 40 KiB."""
FIRST_LOOK: Final = 512
"""Messages among which the first unseen one is looked for first."""


class RenumberedError(Exception):
    """The mailbox was changed as none may be: another UIDVALIDITY, or new messages below old ones."""


class Style(NamedTuple):
    """What the client has enabled. `uid`: UID in every FETCH that it did not ask for (RFC 9051 section 7.5.2)."""

    condstore: bool = False
    qresync: bool = False
    uid: bool = False


class Quiet(NamedTuple):
    """A STORE with .SILENT: of these messages the client knows the new flags, if nobody else changed them."""

    uids: frozenset[int]
    mode: StoreMode
    bits: int

    def expected(self, before: int) -> int:
        if self.mode is StoreMode.ADD:
            return before | self.bits
        return before & ~self.bits if self.mode is StoreMode.REMOVE else self.bits


class View:
    """The client's side of `opened`.

    `snapshot`: the newest of which everything was told, but that `ghosts` are gone. `uids`: the client's numbering;
    message sequence number n is ``uids[n - 1]``. `saved`: UIDs of the last SEARCH that was saved (RFC 5182), ascending;
    what is gone meanwhile is left out when it is used. `quiet` is for the next `advance` only.
    `reading`: what FETCH keeps of a message that is read in steps.
    """

    __slots__ = ("ghosts", "opened", "quiet", "reading", "saved", "snapshot", "uids")

    def __init__(self, opened: OpenMailbox) -> None:
        self.opened = opened
        self.snapshot = opened.snapshot
        self.uids = self.snapshot.uids
        self.ghosts: frozenset[int] = frozenset()
        self.saved: Sequence[int] = ()
        self.quiet: Quiet | None = None
        self.reading: Any = None

    def __len__(self) -> int:
        """EXISTS, as the client knows it."""
        return len(self.uids)

    @property
    def read_only(self) -> bool:
        return self.opened.read_only

    @property
    def top(self) -> int:
        """The highest UID that the client has heard of; 0 when there is none."""
        return self.uids[-1] if self.uids else 0

    @property
    def behind(self) -> bool:
        """Whether there is something to tell."""
        return self.opened.snapshot is not self.snapshot or bool(self.ghosts)

    # Numbers

    def positions(self, sequence: SequenceSet, uid: bool) -> Positions:
        """What the client means, as ranges of indexes into `uids`, ghosts among them.

        Raises Bad for a sequence number that no message has (RFC 9051 section 9); UIDs without a message are passed
        over.
        """
        if uid:
            found = sequence.positions_of(self.uids)
        else:
            if sequence.exceeds(len(self.uids)):
                raise Bad("There is no message with that number")
            found = sequence.positions(len(self.uids))
        # RFC 5182 section 2.1: $ holds messages, whatever numbers are asked for
        if sequence.saved and self.saved:
            found = join(found, SequenceSet.of(self.saved).positions_of(self.uids))
        return found

    def chosen(self, positions: Positions) -> array[int]:
        """The UIDs at `positions`; the mailbox's own array when they are all."""
        if len(positions) == 1 and positions[0] == (0, len(self.uids)):
            return self.uids
        chosen = array("I")
        for start, stop in positions:
            chosen += self.uids[start:stop]
        return chosen

    def present(self, uids: Sequence[int]) -> Sequence[int]:
        """`uids` without ghosts."""
        ghosts = self.ghosts
        return [uid for uid in uids if uid not in ghosts] if ghosts else uids

    def number(self, uid: int) -> int:
        """The client's message sequence number; 0 when it knows of no such message."""
        at = bisect_left(self.uids, uid)
        return at + 1 if at < len(self.uids) and self.uids[at] == uid else 0

    # Telling

    def advance(
        self, style: Style, expunges: bool, snapshot: Snapshot | None = None, flags: bool = True
    ) -> Iterator[bytes] | None:
        """Bring the client up to `snapshot` (the mailbox as it is now): pieces of untagged responses, to be sent
        before anything else is numbered; None when there is nothing to say. With `expunges`, ghosts are laid to rest;
        without `flags`, of changed flags nothing is said, now or later.

        The view has moved on when this returns, the texts are made as they are taken. Raises RenumberedError.
        """
        new = self.opened.snapshot if snapshot is None else snapshot
        old, quiet = self.snapshot, self.quiet
        self.quiet = None
        if new is old and not (self.ghosts and expunges):
            return None
        if new.validity != old.validity:
            raise RenumberedError("UIDVALIDITY has changed")
        changed, gone = _difference(old, new)
        before, ghosts = self.uids, self.ghosts.union(gone) if gone else self.ghosts
        # Where in the mailbox the messages begin that the client has not heard of
        new_from = bisect_right(new.uids, before[-1]) if before else 0
        if new_from + len(ghosts) != len(before):
            raise RenumberedError("UIDs are not in order")
        told: list[Iterator[bytes]] = []
        uids = new.uids
        if ghosts and expunges:
            told.append(_vanished(ghosts) if style.qresync else _expunged(before, ghosts))
            ghosts = frozenset()
        elif ghosts:
            added = uids[new_from:]
            uids = before + added if added else before
        self.uids, self.ghosts, self.snapshot = uids, ghosts, new
        if new.keywords != old.keywords:
            told.append(iter((flags_text(new, self.read_only),)))
        # RFC 9051 section 7.3.1
        if new_from != len(new.uids):
            told.append(iter((b"* %d EXISTS\r\n" % len(uids),)))
        if changed and flags:
            told.append(_flags(uids, old, new, changed, style, quiet))
        return chain.from_iterable(told) if told else None

    def fetch_flags(self, uids: Sequence[int], style: Style) -> Iterator[bytes]:
        """FETCH responses with the flags (and MODSEQ, UID as `style` says) of `uids`, ascending and present, as of
        `snapshot`."""
        return _flags(self.uids, None, self.snapshot, uids, style, None)


def first_unseen(snapshot: Snapshot) -> int:
    """As `Snapshot.first_unseen`, without a step of Python for each message, nor a look at all of them when it stands
    near the beginning: SELECT says it (RFC 3501)."""
    flags = snapshot.flags
    width = flags.itemsize
    low = 0 if sys.byteorder == "little" else width - 1
    start, some = 0, FIRST_LOOK
    while start < len(flags):
        found = flags[start : start + some].tobytes()[low::width].translate(_SEEN_BIT).find(b"\0")
        if found >= 0:
            return start + found
        start += some
        some *= 8
    return -1


def flags_text(snapshot: Snapshot, read_only: bool) -> bytes:
    """FLAGS and PERMANENTFLAGS (RFC 9051 section 7.3.5 and 7.1)."""
    names = [*SYSTEM_FLAGS, *filter(None, snapshot.keywords)]
    flags = flag_list(names)
    if read_only:
        return b"* FLAGS %s\r\n* OK [PERMANENTFLAGS ()] Read-only\r\n" % flags
    if sum(1 for _ in filter(None, snapshot.keywords)) < MAX_KEYWORDS:
        names.append("\\*")
    return b"* FLAGS %s\r\n* OK [PERMANENTFLAGS %s] Kept\r\n" % (flags, flag_list(names))


def _difference(old: Snapshot, new: Snapshot) -> tuple[Sequence[int], Collection[int]]:
    """UIDs of `old` that changed and are there, ascending, and those that are gone."""
    if new is old:
        return (), ()
    last = old.uids[-1] if old.uids else 0
    if new.log_floor <= old.modseq < new.modseq:
        gone: set[int] = set()
        touched: set[int] = set()
        for change in reversed(new.log):
            if change.modseq <= old.modseq:
                break
            gone.update(change.expunged)
            touched.update(change.changed)
        if gone:
            # What came and went meanwhile was never told
            gone = {uid for uid in gone if old.index(uid) >= 0}
        if len(old) - len(gone) == bisect_right(new.uids, last):
            return sorted(uid for uid in touched if uid <= last and uid not in gone), gone
    return _compared(old, new, bisect_right(new.uids, last))


def _compared(old: Snapshot, new: Snapshot, kept: int) -> tuple[Sequence[int], Collection[int]]:
    """As `_difference`, by a pass over both; `kept` are in both. No step of Python for each message."""
    marks: Iterable[int] = old.modseqs
    missing: Collection[int] = ()
    if old.uids != new.uids[:kept]:
        there = frozenset(islice(new.uids, kept))
        missing = frozenset(old.uids) - there
        marks = compress(marks, map(there.__contains__, old.uids))
    return list(compress(new.uids, map(ne, new.modseqs, marks))), missing


def _expunged(before: array[int], gone: Collection[int]) -> Iterator[bytes]:
    """From the end, so that each number is that of `before` (RFC 9051 section 7.5.1: they move down at once)."""
    if len(gone) * 16 < len(before):
        numbers = sorted([bisect_left(before, uid) + 1 for uid in gone], reverse=True)
    else:
        numbers = list(compress(count(1), map(gone.__contains__, before)))
        numbers.reverse()
    for start in range(0, len(numbers), PIECE):
        yield b"".join([b"* %d EXPUNGE\r\n" % number for number in numbers[start : start + PIECE]])


def _vanished(gone: Collection[int]) -> Iterator[bytes]:
    """RFC 7162 section 3.2.10."""
    uids = sorted(gone)
    for start in range(0, len(uids), PIECE):
        yield b"* VANISHED %s\r\n" % compact(uids[start : start + PIECE])


def _flags(
    uids: array[int],
    old: Snapshot | None,
    new: Snapshot,
    changed: Sequence[int],
    style: Style,
    quiet: Quiet | None,
) -> Iterator[bytes]:
    """`old`: what the client knows; None: tell it all."""
    texts: dict[int, bytes] = {}
    shared = uids is new.uids
    here, flags = new.uids, new.flags
    # Mostly one stands behind the other: who looks there first need not search
    count, at = len(here), -1
    old_count, old_at = len(old) if old is not None else 0, -1
    for start in range(0, len(changed), PIECE):
        lines = []
        for uid in changed[start : start + PIECE]:
            at += 1
            if at >= count or here[at] != uid:
                at = new.index(uid)
            number = (at if shared else bisect_left(uids, uid)) + 1
            bits = flags[at]
            known = False
            if old is not None:
                old_at += 1
                if old_at >= old_count or old.uids[old_at] != uid:
                    old_at = old.index(uid)
                before = old.flags[old_at]
                if quiet is not None and uid in quiet.uids:
                    known = quiet.expected(before) == bits
                elif before == bits:
                    known = True
                # RFC 7162 section 3.1.3: the mod-sequence is told even with .SILENT
                if known and not style.condstore:
                    continue
            items = [] if not style.uid else [b"UID %d" % uid]
            if not known:
                text = texts.get(bits)
                if text is None:
                    text = texts[bits] = b"FLAGS " + flag_list(new.names(bits))
                items.append(text)
            if style.condstore:
                items.append(b"MODSEQ (%d)" % new.modseqs[at])
            lines.append(b"* %d FETCH (%s)\r\n" % (number, b" ".join(items)))
        if lines:
            yield b"".join(lines)
