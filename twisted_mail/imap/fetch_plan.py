"""What a FETCH asks for, put into one pattern that writes many messages at once.

A `Plan` is made once a command. `Plan.write` turns a `Batch` (messages by their positions, and what was looked up for
them) into response lines: a column of values an item, and one formatting of all of them; no step of Python for each
message where the values are at hand. Measured: 100 000 (UID FLAGS) in 16 ms.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from ..mailboxes import Snapshot
from ..message.bodystructure import body, bodystructure
from ..message.part import from_bytes
from .dates import date_time
from .fetch_sections import RFC822, needs_structure
from .fetching import BinarySection, BinarySize, BodySection, FetchItem, Preview

__all__ = ["Batch", "FlagTexts", "Plan", "Positions", "Section", "plan", "taken"]

Positions: TypeAlias = range | Sequence[int]
"""Indexes into a snapshot's arrays, ascending."""
Section: TypeAlias = BodySection | BinarySection | BinarySize | Preview
"""An item for which the content is looked at."""


class FlagTexts(dict[int, bytes]):
    """Bits of flags → their list as FETCH writes it; each is made once."""

    __slots__ = ("_snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def __missing__(self, bits: int) -> bytes:
        text = ("(" + " ".join(self._snapshot.names(bits)) + ")").encode()
        self[bits] = text
        return text


class Batch(NamedTuple):
    """Messages of `snapshot`, and the client's numbers of them.

    `columns`: what was looked up, by its name; `sections`: a column for each of `Plan.sections`. `flags` and
    `modseqs`: None for those of the snapshot.
    """

    snapshot: Snapshot
    positions: Positions
    numbers: Sequence[int]
    flag_texts: FlagTexts
    columns: Mapping[str, Sequence[Any]]
    sections: Sequence[Sequence[bytes]]
    flags: Sequence[int] | None = None
    modseqs: Sequence[int] | None = None


MAX_DAYS: Final = 20_000
SECTION: Final = b"%b"
"""Alone, for an item whose value has its name in it."""

_Column: TypeAlias = Callable[[Batch], Iterable[object]]


class Plan(NamedTuple):
    """`template` is of a line; `texts` are of its items, each with one value of `values`.

    `columns`: names for `OpenMailbox.columns`. `sections`: what needs the content, in the order of `Batch.sections`;
    `structure`: it is needed for one of them. `seen`: it sets \\Seen.
    """

    template: bytes
    texts: tuple[bytes, ...]
    values: tuple[_Column, ...]
    columns: tuple[str, ...]
    sections: tuple[Section, ...]
    structure: bool
    seen: bool

    def write(self, batch: Batch) -> bytes:
        """The response lines of the batch."""
        count = len(batch.numbers)
        width = len(self.values) + 1
        flat: list[object] = [None] * (count * width)
        flat[::width] = batch.numbers
        for at, value in enumerate(self.values, 1):
            flat[at::width] = value(batch)
        return self.template * count % tuple(flat)

    def items(self, batch: Batch) -> Iterator[bytes | Section]:
        """The items of one message, for who writes a section himself: it is left as it was asked for."""
        sections = iter(self.sections)
        for text, value in zip(self.texts, self.values, strict=True):
            if text == SECTION:
                yield next(sections)
            else:
                (one,) = value(batch)
                yield text % one


def plan(items: Iterable[FetchItem], *, rev2: bool = False) -> Plan:
    """For `items`, none twice. `rev2`: the client has enabled IMAP4rev2."""
    texts: list[bytes] = []
    values: list[_Column] = []
    columns: list[str] = []
    sections: list[Section] = []
    seen = structure = False
    for item in items:
        if isinstance(item, str) and item in RFC822:
            item = RFC822[item]
        if not isinstance(item, str):
            texts.append(SECTION)
            values.append(_section(len(sections)))
            sections.append(item)
            structure = structure or not isinstance(item, BodySection) or needs_structure(item)
            seen = seen or (isinstance(item, BodySection | BinarySection) and not item.peek)
            continue
        text, value, needed = _REV2[item] if rev2 and item in _REV2 else _ITEMS[item]
        texts.append(text)
        values.append(value)
        columns += [column for column in needed if column not in columns]
    return Plan(
        b"* %d FETCH (" + b" ".join(texts) + b")\r\n",
        tuple(texts),
        tuple(values),
        tuple(columns),
        tuple(sections),
        structure,
        seen,
    )


def taken(values: array[int], positions: Positions) -> Sequence[int]:
    """The values at the positions."""
    if isinstance(positions, range):
        return values[positions.start : positions.stop]
    return [values[position] for position in positions]


def _flags(batch: Batch) -> Iterable[object]:
    bits = batch.flags
    if bits is None:
        bits = taken(batch.snapshot.flags, batch.positions)
    return map(batch.flag_texts.__getitem__, bits)


def _modseqs(batch: Batch) -> Iterable[object]:
    marks = batch.modseqs
    return taken(batch.snapshot.modseqs, batch.positions) if marks is None else marks


class _Days(dict[int, bytes]):
    """Days since 1970 → how an INTERNALDATE of that day begins."""

    def __missing__(self, day: int) -> bytes:
        if len(self) > MAX_DAYS:
            self.clear()
        text = self[day] = date_time(day * 86400)[:12]
        return text


_days = _Days()
_minutes = [b" %02d:%02d:" % divmod(minute, 60) for minute in range(1440)]
_seconds = [b'%02d +0000"' % second for second in range(60)]


def _dates(batch: Batch) -> Iterable[object]:
    # As `date_time`, in a quarter of its time: clients ask it of all messages at once
    return [
        _days[date // 86400] + _minutes[date % 86400 // 60] + _seconds[date % 60]
        for date in taken(batch.snapshot.dates, batch.positions)
    ]


def _looked_up(column: str) -> _Column:
    return lambda batch: batch.columns[column]


def _section(number: int) -> _Column:
    return lambda batch: batch.sections[number]


def _save_dates(batch: Batch) -> Iterable[object]:
    # RFC 8514 section 4.2: NIL where it is not known
    return [b"NIL" if date is None else date_time(date) for date in batch.columns["save_date"]]


def _ids(column: str) -> _Column:
    def ids(batch: Batch) -> Iterable[object]:
        # RFC 8474 section 5: THREADID may be NIL
        return [
            b"NIL" if one is None else b"(%b)" % (one.encode() if isinstance(one, str) else one)
            for one in batch.columns[column]
        ]

    return ids


def _bodies(rev2: bool) -> _Column:
    def bodies(batch: Batch) -> Iterable[object]:
        return [body(from_bytes(one), rev2) for one in batch.columns["structure"]]

    return bodies


def _structures(batch: Batch) -> Iterable[object]:
    """What is kept is for IMAP4rev1, which knows no message/global."""
    columns = batch.columns
    return [
        bodystructure(from_bytes(structure), True) if b'"global"' in kept.lower() else kept
        for kept, structure in zip(columns["bodystructure"], columns["structure"], strict=True)
    ]


_ITEMS: Final[dict[str, tuple[bytes, _Column, tuple[str, ...]]]] = {
    "FLAGS": (b"FLAGS %b", _flags, ()),
    "UID": (b"UID %d", lambda batch: taken(batch.snapshot.uids, batch.positions), ()),
    "INTERNALDATE": (b"INTERNALDATE %b", _dates, ()),
    "RFC822.SIZE": (
        b"RFC822.SIZE %d",
        lambda batch: taken(batch.snapshot.sizes, batch.positions),
        (),
    ),
    # RFC 7162 section 7: fetch-mod-resp
    "MODSEQ": (b"MODSEQ (%d)", _modseqs, ()),
    "ENVELOPE": (b"ENVELOPE %b", _looked_up("envelope"), ("envelope",)),
    "BODY": (b"BODY %b", _bodies(False), ("structure",)),
    "BODYSTRUCTURE": (b"BODYSTRUCTURE %b", _looked_up("bodystructure"), ("bodystructure",)),
    "SAVEDATE": (b"SAVEDATE %b", _save_dates, ("save_date",)),
    "EMAILID": (b"EMAILID %b", _ids("emailid"), ("emailid",)),
    "THREADID": (b"THREADID %b", _ids("threadid"), ("threadid",)),
}
_REV2: Final[dict[str, tuple[bytes, _Column, tuple[str, ...]]]] = {
    "BODY": (b"BODY %b", _bodies(True), ("structure",)),
    "BODYSTRUCTURE": (b"BODYSTRUCTURE %b", _structures, ("bodystructure", "structure")),
}
