"""The response line of a message that is too large to be in memory, piece by piece.

A literal that was begun is ended with as many octets as it said, or `Unfinished` is raised: then the connection cannot
go on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ..mailboxes import LargeContent
from ..message.decode import IDENTITY, UnknownEncoding, decoder
from ..message.part import Part
from ..turns import Pace
from .fetch_binary import decoded_blocks, encoding_of, undecodable
from .fetch_large import Mark, bytes_of, octets, stored_range
from .fetch_plan import Batch, Plan
from .fetch_preview import large_preview
from .fetch_sections import picker, without_nul
from .fetching import BinarySection, BinarySize, BodySection, Preview
from .refusal import Unfinished

__all__ = ["MAX_HEADER", "Streaming"]

MAX_HEADER = 262_144
"""Octets of a header in which fields are looked for."""
NO_END = 1 << 63


class Streaming:
    """Message `uid`: its file and its structure. Whoever made `content` closes it.

    `elsewhere` calls in a thread (None: there is none).
    """

    def __init__(
        self,
        uid: int,
        content: LargeContent,
        root: Part,
        mark: Mark,
        pace: Pace,
        elsewhere: Callable[..., Awaitable[Any]] | None = None,
    ) -> None:
        self._uid = uid
        self._content = content
        self._root = root
        self._mark = mark
        self._pace = pace
        self._elsewhere = elsewhere
        self.unknown_cte = False

    async def line(self, plan: Plan, batch: Batch) -> AsyncIterator[bytes]:
        """`batch` is of this message alone; what it has for sections is not looked at."""
        said = b"* %d FETCH (" % batch.numbers[0]
        between = b""
        for item in plan.items(batch):
            said += between
            between = b" "
            if isinstance(item, bytes):
                said += item
                continue
            if isinstance(item, Preview):
                said += await large_preview(item, self._content, self._root, self._elsewhere)
                continue
            try:
                if isinstance(item, BinarySize):
                    said += await self._binary_size(item)
                    continue
                size, blocks = await (
                    self._body(item) if isinstance(item, BodySection) else self._binary(item)
                )
            except UnknownEncoding:
                assert not isinstance(item, BodySection)
                self.unknown_cte = True
                said += undecodable(item)
                continue
            mark = b"" if isinstance(item, BodySection) else b"~"
            yield said + b"%b %b{%d}\r\n" % (item.label, mark, size)
            said = b""
            try:
                async for block in blocks:
                    size -= len(block)
                    yield block
                    if self._pace.due():
                        await self._pace.rest()
            except Exception as error:
                raise Unfinished from error
            if size:
                raise Unfinished
        yield said + b")\r\n"

    async def _body(self, item: BodySection) -> tuple[int, AsyncIterator[bytes]]:
        if item.fields:
            return _sliced(without_nul(await self._fields(item)), item.partial)
        where = stored_range(self._root, item.part, item.text)
        if where is None:
            return 0, _given(b"")
        first, size = _bounds(item.partial, where[2])
        if not size:
            return 0, _given(b"")
        return size, _without_nul(self._octets(where, first, size))

    def _octets(self, where: tuple[int, int, int], first: int, size: int) -> AsyncIterator[bytes]:
        return octets(self._content, self._uid, where, first, size, self._mark, self._pace.rest)

    async def _fields(self, item: BodySection) -> bytes:
        where = stored_range(self._root, item.part, "HEADER")
        if where is None:
            return b""
        start, end, _ = where
        return picker(item)(await bytes_of(self._content, start, min(end, start + MAX_HEADER)))

    # RFC 3516

    async def _binary(self, item: BinarySection) -> tuple[int, AsyncIterator[bytes]]:
        where = stored_range(self._root, item.part, "")
        if where is None:
            return 0, _given(b"")
        encoding = encoding_of(self._root, item.part)
        first, size = _bounds(item.partial, where[2])
        if encoding in IDENTITY:
            return size, (self._octets(where, first, size) if size else _given(b""))
        last = NO_END if item.partial is None else sum(item.partial)
        size = await self._count(where, encoding, first, last)
        return size, self._decoded(where, encoding, first, last)

    async def _binary_size(self, item: BinarySize) -> bytes:
        where = stored_range(self._root, item.part, "")
        size = 0
        if where is not None:
            encoding = encoding_of(self._root, item.part)
            size = where[2]
            if encoding not in IDENTITY:
                size = await self._count(where, encoding, 0, NO_END)
        return b"%b %d" % (item.label, size)

    def _decoded(
        self, where: tuple[int, int, int], encoding: bytes, first: int, last: int
    ) -> AsyncIterator[bytes]:
        blocks = self._octets(where, 0, where[2]) if where[2] else _given(b"")
        return decoded_blocks(decoder(encoding), blocks, first, last)

    async def _count(
        self, where: tuple[int, int, int], encoding: bytes, first: int, last: int
    ) -> int:
        """A literal begins with its size: what is to be said is decoded twice."""
        key = (self._uid, where[0], first, last)
        if self._mark.counted == key:
            return self._mark.count
        size = 0
        async for block in self._decoded(where, encoding, first, last):
            size += len(block)
            if self._pace.due():
                await self._pace.rest()
        self._mark.counted, self._mark.count = key, size
        return size


def _bounds(partial: tuple[int, int] | None, size: int) -> tuple[int, int]:
    """(first, octets) of what is there of a partial."""
    if partial is None:
        return 0, size
    first, count = partial
    return first, max(0, min(count, size - first))


def _sliced(data: bytes, partial: tuple[int, int] | None) -> tuple[int, AsyncIterator[bytes]]:
    first, size = _bounds(partial, len(data))
    return size, _given(data[first : first + size])


async def _without_nul(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for block in blocks:
        yield without_nul(block)


async def _given(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data
