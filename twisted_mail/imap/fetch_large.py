"""Sections of messages that are too large to be in memory: octets of the wire form, block by block from the file.

A section's size is known before (`message.part.Part`), so its literal can begin at once, and what follows has exactly
that many octets: `Changed` is raised when the file gives others. A partial begins where the `Mark` of the one before
it ended: who reads a big part in steps does not read its beginning again for each.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from ..mailboxes import LargeContent
from ..message.part import Part, find

__all__ = ["BLOCK", "Changed", "Mark", "bytes_of", "octets", "stored_range"]

BLOCK: Final = 98_304
"""Octets read at once; twice as many on the wire at most."""
SKIPPED: Final = 262_144
"""Octets read at once that are only counted."""


class Changed(Exception):
    """The file is not what its structure says. The answer cannot be ended: the connection has to be."""


class Mark:
    """A place in a message of which both offsets are known: in the file, and on the wire, of the section at `start`."""

    __slots__ = ("count", "counted", "start", "stored", "uid", "wire")

    def __init__(self) -> None:
        self.uid = 0
        self.start = self.stored = self.wire = self.count = 0
        self.counted: tuple[int, ...] = ()

    def set(self, uid: int, start: int, stored: int, wire: int) -> None:
        self.uid, self.start, self.stored, self.wire = uid, start, stored, wire

    def before(self, uid: int, start: int, first: int) -> tuple[int, int]:
        """(stored, wire) of a place not behind wire offset `first` of the section."""
        if self.uid == uid and self.start == start and self.wire <= first:
            return self.stored, self.wire
        return start, 0


def stored_range(
    root: Part, numbers: tuple[int, ...], specifier: str
) -> tuple[int, int, int] | None:
    """(start, end, octets of the wire form) of a section; None when the message has none."""
    part = find(root, numbers)
    if part is None:
        return None
    if specifier == "MIME":
        return (part.start, part.body, part.header_octets) if numbers else None
    if numbers and specifier:
        if not part.children or part.type.lower() == b"multipart":
            return None
        part = part.children[0]
    if specifier == "HEADER":
        return part.start, part.body, part.header_octets
    if specifier == "TEXT" or numbers:
        return part.body, part.end, part.octets
    return part.start, part.end, part.header_octets + part.octets


async def bytes_of(content: LargeContent, start: int, end: int) -> bytes:
    """The bytes of a range as they are stored."""
    blocks = []
    while start < end:
        block = await content.read(start, min(end - start, SKIPPED))
        if not block:
            raise Changed
        blocks.append(block)
        start += len(block)
    return b"".join(blocks)


async def octets(
    content: LargeContent,
    uid: int,
    where: tuple[int, int, int],
    first: int,
    count: int,
    mark: Mark,
    breathe: Callable[[], Awaitable[None]],
) -> AsyncIterator[bytes]:
    """`count` octets from `first` of the section `where` (of `stored_range`); both lie within it.

    `breathe` is awaited between blocks that give nothing to be sent.
    """
    start, end, _ = where
    stored, wire = mark.before(uid, start, first)
    last = first + count
    while wire < last:
        skipping = first - wire > SKIPPED * 2
        raw = await _block(content, stored, end, SKIPPED if skipping else BLOCK)
        after = stored + len(raw)
        if skipping:
            wire += len(raw) + raw.count(b"\n")
            if b"\r" in raw:
                wire -= raw.count(b"\r\n")
            stored = after
            await breathe()
            continue
        block = raw
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b" ")
        block = block.replace(b"\n", b"\r\n")
        if after >= content.size and not block.endswith(b"\n"):
            block += b"\r\n"
        # The next partial mostly begins where this one ends: in this block, or behind it
        mark.set(uid, start, stored, wire)
        low, high = max(first - wire, 0), last - wire
        wire += len(block)
        stored = after
        if low or high < len(block):
            block = block[low:high]
        if block:
            yield block
    if wire == last:
        mark.set(uid, start, stored, wire)


async def _block(content: LargeContent, at: int, end: int, size: int) -> bytes:
    """Bytes from `at`; never with a CR last, unless `end` is there: what it means is said by what follows."""
    raw = await content.read(at, min(size, end - at))
    while raw.endswith(b"\r") and at + len(raw) < end:
        if len(raw) > 1:
            return raw[:-1]
        more = await content.read(at + len(raw), min(size, end - at - len(raw)))
        if not more:
            break
        raw += more
    if not raw:
        raise Changed
    return raw
