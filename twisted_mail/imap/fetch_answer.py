"""The pieces of the answer to one FETCH, made as the client reads.

What is in the snapshot is written in slices; what is in the index comes in batches of columns; contents come in
batches, too, and large ones are streamed (`fetch_stream`). A message that is gone meanwhile is left out, and
`Answering.expunged` says so. \\Seen is set once a batch, before the batch is answered, so that FLAGS can be told
with it.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final

from ..mailboxes import SEEN, Message, Snapshot, StoreMode
from ..message.decode import UnknownEncoding
from ..message.part import Part, from_bytes
from ..status import MailError
from ..turns import Pace, Turns
from .fetch_binary import Decoded, binary_reader, undecodable
from .fetch_chosen import Chunk
from .fetch_large import Mark
from .fetch_plan import Batch, FlagTexts, Plan, Section, taken
from .fetch_preview import preview_reader
from .fetch_sections import Reader, reader
from .fetch_stream import Streaming
from .fetching import BinarySection, BinarySize, BodySection, Preview
from .view import View

__all__ = ["Answering"]

GROUP: Final = 49_152
"""Octets of contents that are written together: with labels and CRLF, a piece of some 64 KiB."""
ROWS: Final = 128
"""Rows from the index that are written together."""
LONG: Final = 16_384
"""Octets of a structure, of some hundred parts, that is not read on the reactor thread."""
HEAVY: Final = 262_144
"""Octets that are looked at for one message, an item at a time when they are more …"""
SLOW: Final = 8192
"""… and when they have to be decoded."""
_NO_ROW: Final[tuple[Any, ...]] = ()


class Answering:
    """`plan` is what was asked for; `told` the same with FLAGS, for messages that become \\Seen by it.

    `expunged`: a message was gone. `unknown_cte`: a part could not be decoded. `seen`: UIDs that became \\Seen.
    `turns` are shared with others; `elsewhere` calls in a thread (None: there is none). Raises what
    `mailboxes.OpenMailbox` raises.
    """

    def __init__(
        self,
        view: View,
        plan: Plan,
        told: Plan,
        mark: Mark,
        turns: Turns,
        elsewhere: Callable[..., Awaitable[Any]] | None = None,
    ) -> None:
        self._view = view
        self._opened = view.opened
        self._snapshot = view.snapshot
        self._plan = plan
        self._told = told
        self._texts = FlagTexts(self._snapshot)
        self._mark = mark
        self._breathe = turns.breath
        self._pace = Pace(turns)
        self._elsewhere = elsewhere
        self._readers = [_reader(one) for one in plan.sections]
        self._decodes = any(not isinstance(one, BodySection) for one in plan.sections)
        self.expunged = False
        self.unknown_cte = False
        self.seen: list[int] = []

    def pieces(self, chunks: Iterable[Chunk]) -> AsyncIterator[bytes]:
        """Blocks of response lines, of about 64 KiB."""
        if self._plan.sections:
            return self._with_contents(chunks)
        if self._plan.columns:
            return self._with_columns(chunks)
        return self._from_snapshot(chunks)

    def at_once(self, chunk: Chunk) -> bytes:
        """All there is to say of a chunk, when it is in the snapshot."""
        return self._plan.write(
            Batch(self._snapshot, chunk.positions, chunk.numbers, self._texts, {}, ())
        )

    async def _from_snapshot(self, chunks: Iterable[Chunk]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            if chunk.numbers:
                yield self.at_once(chunk)
            else:
                await self._breathe()

    # From the index

    async def _with_columns(self, chunks: Iterable[Chunk]) -> AsyncIterator[bytes]:
        names = self._plan.columns
        for chunk in chunks:
            if not chunk.numbers:
                await self._breathe()
                continue
            uids = taken(self._snapshot.uids, chunk.positions)
            at = found = 0
            async for rows in self._opened.columns(uids, names):
                for start in range(0, len(rows), ROWS):
                    some = rows[start : start + ROWS]
                    part, at = _among(chunk, uids, some, at)
                    found += len(some)
                    columns = list(zip(*some, strict=True))
                    yield self._plan.write(
                        Batch(
                            self._snapshot,
                            part.positions,
                            part.numbers,
                            self._texts,
                            dict(zip(names, islice(columns, 1, None), strict=True)),
                            (),
                        )
                    )
                    await self._between()
            if found < len(uids):
                self.expunged = True

    # From the contents

    async def _with_contents(self, chunks: Iterable[Chunk]) -> AsyncIterator[bytes]:
        uids = array("I")
        for chunk in chunks:
            if not chunk.numbers:
                await self._breathe()
            uids.extend(taken(self._snapshot.uids, chunk.positions))
        async for batch in self._opened.contents(uids):
            large = {m.uid: m.content for m in batch if not isinstance(m.content, bytes | None)}
            try:
                async for piece in self._batch(batch, large):
                    yield piece
            finally:
                for content in large.values():
                    content.close()

    async def _batch(self, batch: Sequence[Message], large: dict[int, Any]) -> AsyncIterator[bytes]:
        there = [message.uid for message in batch if message.content is not None]
        names = self._plan.columns
        if (self._plan.structure or large) and "structure" not in names:
            names = (*names, "structure")
        rows: dict[int, tuple[Any, ...]] = {}
        if names and there:
            async for some in self._opened.columns(there, names):
                rows.update([(row[0], row) for row in some])
            there = [uid for uid in there if uid in rows]
        if len(there) < len(batch):
            self.expunged = True
        fresh = await self._become_seen(there)
        now = self._opened.snapshot
        self._pace.begin()
        group = _Group(self, self._plan, names, None)
        wanted = frozenset(there)
        for uid, content in batch:
            if uid not in wanted:
                continue
            if self._pace.due():
                await self._pace.rest()
            new = uid in fresh and now.index(uid) >= 0
            plan, snapshot = (self._told, now) if new else (self._plan, None)
            if group.snapshot is not snapshot or group.octets >= GROUP or uid in large:
                if group.uids:
                    yield group.write()
                group = _Group(self, plan, names, snapshot)
            row = rows.get(uid, _NO_ROW)
            root: Part | None = None
            if self._plan.structure or uid in large:
                stored = row[1 + names.index("structure")]
                if len(stored) > LONG and self._elsewhere is not None:
                    root = await self._elsewhere(from_bytes, stored)
                else:
                    root = from_bytes(stored)
            if uid not in large:
                if not self._heavy(content):
                    group.add(uid, row, self._sections(content, root), len(content))
                    continue
                if group.uids:
                    yield group.write()
                    group = _Group(self, plan, names, snapshot)
                group.add(uid, row, [b""] * len(self._readers), 0)
                async for piece in self._line(plan, group.batch(), content, root):
                    yield piece
                group = _Group(self, plan, names, snapshot)
                continue
            assert root is not None
            group.add(uid, row, [b""] * len(self._readers), 0)
            streaming = Streaming(uid, content, root, self._mark, self._pace, self._elsewhere)
            async for piece in streaming.line(plan, group.batch()):
                yield piece
            self.unknown_cte = self.unknown_cte or streaming.unknown_cte
            group = _Group(self, plan, names, snapshot)
        if group.uids:
            yield group.write()

    def _heavy(self, content: bytes) -> bool:
        """Whether the items of this message are answered one by one: it may be asked for hundreds of them."""
        size = len(content)
        return size * len(self._readers) > HEAVY or (self._decodes and size > SLOW)

    async def _line(
        self, plan: Plan, batch: Batch, content: bytes, root: Part | None
    ) -> AsyncIterator[bytes]:
        """The response line of a message, its items one by one; what `batch` has for sections is not looked at."""
        decoded = Decoded(content, root, self._between)
        readers = iter(self._readers)
        said = [b"* %d FETCH (" % batch.numbers[0]]
        octets = 0
        between = b""
        for item in plan.items(batch):
            said.append(between)
            between = b" "
            if isinstance(item, bytes):
                said.append(item)
                continue
            read = next(readers)
            if isinstance(item, BodySection):
                said.append(read(content, root))
            elif isinstance(item, Preview):
                call = self._elsewhere
                said.append(
                    read(content, root) if call is None else await call(read, content, root)
                )
            else:
                try:
                    said.append(await decoded.answer(item))
                except UnknownEncoding:
                    self.unknown_cte = True
                    said.append(undecodable(item))
            octets += len(said[-1])
            if octets > GROUP:
                yield b"".join(said)
                said.clear()
                octets = 0
            await self._between()
        said.append(b")\r\n")
        yield b"".join(said)

    async def _between(self) -> None:
        if self._pace.due():
            await self._pace.rest()

    def _sections(self, content: bytes, root: Part | None) -> list[bytes]:
        made = []
        for one, read in zip(self._plan.sections, self._readers, strict=True):
            try:
                made.append(read(content, root))
            except UnknownEncoding:
                assert isinstance(one, BinarySection | BinarySize)
                self.unknown_cte = True
                made.append(undecodable(one))
        return made

    async def _become_seen(self, uids: Sequence[int]) -> frozenset[int]:
        """RFC 9051 section 6.4.5: those of `uids` that are \\Seen by being read; not in EXAMINE (section 6.3.3)."""
        if not self._plan.seen or self._opened.read_only:
            return frozenset()
        snapshot = self._opened.snapshot
        fresh = []
        for uid in uids:
            at = snapshot.index(uid)
            if at >= 0 and not snapshot.flags[at] & SEEN:
                fresh.append(uid)
        if fresh:
            try:
                await self._opened.store(fresh, StoreMode.ADD, ("\\Seen",))
            except MailError:
                # No space for a flag is no reason not to let anybody read
                return frozenset()
            self.seen += fresh
        return frozenset(fresh)


class _Group:
    """Messages that are written together. `snapshot`: their flags are told from it."""

    def __init__(
        self, answering: Answering, plan: Plan, names: tuple[str, ...], snapshot: Snapshot | None
    ) -> None:
        self._answering = answering
        self._plan = plan
        self._names = names
        self.snapshot = snapshot
        self.uids: list[int] = []
        self.octets = 0
        self._rows: list[tuple[Any, ...]] = []
        self._sections: list[list[bytes]] = []

    def add(self, uid: int, row: tuple[Any, ...], sections: list[bytes], octets: int) -> None:
        self.uids.append(uid)
        self._rows.append(row)
        self._sections.append(sections)
        self.octets += octets

    def batch(self) -> Batch:
        view, snapshot = self._answering._view, self._answering._snapshot
        uids, names = self.uids, self._names
        columns: dict[str, Sequence[Any]] = {}
        if names:
            columns = dict(zip(names, islice(zip(*self._rows, strict=True), 1, None), strict=True))
        texts, flags, modseqs = self._answering._texts, None, None
        now = self.snapshot
        if now is not None:
            texts = FlagTexts(now)
            places = [now.index(uid) for uid in uids]
            flags = [now.flags[at] for at in places]
            modseqs = [now.modseqs[at] for at in places]
        return Batch(
            snapshot,
            [snapshot.index(uid) for uid in uids],
            [view.number(uid) for uid in uids],
            texts,
            columns,
            list(zip(*self._sections, strict=True)),
            flags,
            modseqs,
        )

    def write(self) -> bytes:
        return self._plan.write(self.batch())


def _among(
    chunk: Chunk, uids: Sequence[int], rows: Sequence[tuple[Any, ...]], at: int
) -> tuple[Chunk, int]:
    """Which messages of the chunk `rows` are, looked for from `at`; and where the next ones are looked for."""
    end = at + len(rows)
    # Both are ascending and without doubles: where the ends agree all do
    if end <= len(uids) and uids[at] == rows[0][0] and uids[end - 1] == rows[-1][0]:
        return Chunk(chunk.positions[at:end], chunk.numbers[at:end]), end
    places = []
    for row in rows:
        while uids[at] != row[0]:
            at += 1
        places.append(at)
        at += 1
    return Chunk([chunk.positions[n] for n in places], [chunk.numbers[n] for n in places]), at


def _reader(item: Section) -> Reader:
    if isinstance(item, BodySection):
        return reader(item)
    return preview_reader(item) if isinstance(item, Preview) else binary_reader(item)
