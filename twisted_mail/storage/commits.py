"""What IMAP commits: APPEND, COPY, MOVE, REPLACE, EXPUNGE, a folder's end.

Each is one record of the journal, durable and done when its method returns; one that moves or removes very many
messages is several.

A copy needs no bytes where it goes, but its record does, as the message copied may be gone by the next start: few small
ones stand in the record, others get one more name in the journal's spill directory, synced before.

Folders are ids, "" is the inbox; messages are base names.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..mailboxes import Appending, Filed
from ..message.downgrade import ascii_size
from ..world import World, call_or_drop
from .account import AccountStore
from .draft import Draft
from .errors import expunged, refusal
from .filling import Picked
from .journal import Entry, Journal
from .maildir import read_file
from .quota import Limits, Quota
from .record import Kind, Place, filed
from .scan import BLOCK, downgraded_size
from .settling import moving, removing
from .source import InlineSource, LinkedSource, SpilledSource
from .sweeping import DELETED

__all__ = ["Commits"]

_log = Logger()
INLINE = 1024 * 1024
"""Octets of several messages that stand in one record; what is over has spill files."""
SYNC_ALL = 8
"""Files to be synced one by one; when they are more, the file system is."""
SLICE = 250
"""Messages of a copy that are got ready in one turn of the reactor."""
AT_ONCE = 1000
"""Messages moved or removed by one record: nobody else commits meanwhile."""
TRIES = 5
"""How often a file is looked for that is renamed by others while it is being copied."""


class Commits:
    """For the store that has this `journal`. `unique` makes base names, `limits` tells an account's quota."""

    def __init__(
        self,
        world: World,
        journal: Journal,
        account: Callable[[str], AccountStore],
        unique: Callable[[], str],
        limits: Callable[[str], Limits | None],
    ) -> None:
        self._world = world
        self._disk = world.disk
        self._journal = journal
        self._account = account
        self._unique = unique
        self._limits = limits

    async def append(self, key: str, folder: str, messages: Sequence[Appending]) -> Filed:
        """Put new messages into a folder, all or none. Their contents are `Draft`s, and ours, whatever happens.

        `Filed.validity` is 0 when the UIDs are not known yet (they could not be filled at once). Raises MailError
        imap="OVERQUOTA", imap="TRYCREATE", or 452, 451.
        """
        return await self._append(key, self._folder(key, folder), messages, (), (0, 0))

    async def replace(
        self, key: str, source: str, base: str, target: str, message: Appending
    ) -> Filed:
        """RFC 8508: `message` in the folder `target`, in the place of `base` in `source`.

        MailError imap="EXPUNGEISSUED" when that is gone; else as `append`.
        """
        source = self._folder(key, source)
        try:
            old = await self._world.threads.call(self._picked, key, source, [base])
        except BaseException:
            message.content.discard()
            raise
        if not old:
            message.content.discard()
            raise expunged()
        removes = [(key, source, [base])]
        freed = (old[0].size, 1)
        put = await self._append(key, self._folder(key, target), [message], removes, freed)
        return put._replace(sources=(old[0].uid,))

    async def _append(
        self,
        key: str,
        folder: str,
        messages: Sequence[Appending],
        removes: Sequence[Any],
        freed: tuple[int, int],
    ) -> Filed:
        drafts: list[Draft] = [message.content for message in messages]
        try:
            room = INLINE
            for draft in drafts:
                await draft.finish(spill=len(drafts) > 1 and draft.size > room)
                room -= draft.size if draft.spill is None else 0
            ascii_sizes = [await self._ascii_size(draft) for draft in drafts]
        except BaseException:
            for draft in drafts:
                draft.discard()
            raise
        parts: list[tuple[Place, dict[str, Any]]] = []
        sources: list[Any] = []
        content: list[bytes] = []
        for message, draft, ascii_octets in zip(messages, drafts, ascii_sizes, strict=True):
            flags = tuple(dict.fromkeys(message.flags))
            place = Place(key, folder, self._unique(), flags, message.date)
            wire = draft.size + draft.lines
            parts.append((place, _piece(draft.size, wire, ascii_octets, draft.crc, draft.spill)))
            sizes: dict[str, Any] = {
                "size": draft.size,
                "wire": wire,
                "ascii_size": ascii_octets,
                "date": message.date,
            }
            if draft.spill is None:
                sources.append(
                    InlineSource(self._disk, self._journal.scratch, draft.blocks, **sizes)
                )
                content += draft.blocks
            else:
                sources.append(SpilledSource(self._disk, self._path(draft.spill), **sizes))
            draft.forget()
        size = sum(draft.size for draft in drafts)
        quota = self._quota(key, size - freed[0], len(drafts) - freed[1])
        return _filed(await self._put(parts, sources, content, quota, removes))

    async def copy(self, key: str, source: str, bases: Sequence[str], target: str) -> Filed:
        """Copies of messages, with their flags and dates, all or none. Those that are gone by now are left out:
        `Filed.sources` are the UIDs of the others. As `append` else.
        """
        source, target = self._folder(key, source), self._folder(key, target)
        try:
            taken, contents, spills = await call_or_drop(
                self._world.threads,
                lambda made: self._world.threads.call(self._forget_spills, made[2]),
                self._take,
                key,
                source,
                bases,
            )
        except OSError as error:
            raise refusal(error) from error
        if not taken:
            return Filed(0, ())
        parts: list[tuple[Place, dict[str, Any]]] = []
        sources: list[Any] = []
        try:
            for start in range(0, len(taken), SLICE):
                if start:
                    # Other sessions have their turn
                    await self._world.turns.breath()
                for number, one in enumerate(taken[start : start + SLICE], start):
                    spill = spills[number] if spills else None
                    block = b"" if spills else contents[number]
                    place = Place(key, target, self._unique(), one.flags, one.date)
                    parts.append((place, _copied(one, block, spill)))
                    sources.append(self._copy_source(one, block, spill))
        except BaseException:
            if spills:
                self._world.threads.call(self._forget_spills, spills)
            raise
        quota = self._quota(key, sum(one.size for one in taken), len(taken))
        put = _filed(await self._put(parts, sources, contents, quota))
        return put._replace(sources=[one.uid for one in taken])

    def _copy_source(self, one: Picked, block: bytes, spill: str | None) -> Any:
        size, wire, ascii_size = one.size, one.wire, one.ascii
        if spill is not None:
            # One more name of the file that is copied: it has its date already.
            path = f"{self._journal.spill}/{spill}"
            return SpilledSource(self._disk, path, size=size, wire=wire, ascii_size=ascii_size)
        written = InlineSource(
            self._disk,
            self._journal.scratch,
            [block],
            size=size,
            wire=wire,
            ascii_size=ascii_size,
            date=one.date,
        )
        return LinkedSource(self._disk, one.path, written)

    async def move(self, key: str, source: str, bases: Sequence[str], target: str) -> Filed:
        """Messages to another folder; those that are gone by now are left out. MailError imap="TRYCREATE".

        `Filed.validity` is 0 when nothing was moved, or could not be yet.
        """
        source, target = self._folder(key, source), self._folder(key, target)
        validity = 0
        pairs: list[tuple[int, int]] = []
        for start in range(0, len(bases), AT_ONCE):
            part = bases[start : start + AT_ONCE]
            entry = Entry(Kind.MOVE, moving(key, source, target, part), size=64 * len(part))
            await self._commit(entry)
            if entry.moved is not None and entry.moved.uids:
                validity = entry.moved.validity
                pairs += entry.moved.uids
        return Filed(validity, [now for _, now in pairs], [before for before, _ in pairs])

    async def expunge(self, key: str, folder: str, bases: Sequence[str]) -> None:
        """Delete messages for good."""
        await self.remove(key, folder, bases)

    async def remove(
        self, key: str, folder: str, bases: Sequence[str], *, noticed: bool = False
    ) -> None:
        """Messages have left a folder: deleted now, or ``noticed`` as taken away by another program."""
        folder = self._folder(key, folder)
        for start in range(0, len(bases), AT_ONCE):
            part = bases[start : start + AT_ONCE]
            meta = removing(key, folder, part, noticed=noticed)
            await self._commit(Entry(Kind.REMOVE, meta, size=64 * len(part)))

    async def remove_folder(self, key: str, folder: str) -> None:
        """A folder and what is in it, for good. What is on its way there goes to the inbox."""
        target = os.path.join(DELETED, f"{int(self._world.now())}-{self._world.entropy(8).hex()}")
        meta = {"account": key, "folder": folder, "target": target}
        await self._commit(Entry(Kind.FOLDER_REMOVED, meta, size=256))

    # -- inside

    def _folder(self, key: str, folder: str) -> str:
        """As records name it: the inbox is "" even if its id should be lost one day."""
        return "" if folder and folder == self._account(key).inbox else folder

    def _path(self, spill: str) -> str:
        return os.path.join(self._journal.spill, spill)

    def _quota(self, key: str, octets: int, messages: int) -> Quota | None:
        limits = self._limits(key)
        return Quota({key: limits}, octets, messages) if limits else None

    async def _put(
        self,
        parts: Sequence[tuple[Place, dict[str, Any]]],
        sources: Sequence[Any],
        content: Sequence[bytes],
        quota: Quota | None,
        removes: Sequence[Any] = (),
    ) -> Entry:
        places = [place for place, _ in parts]
        size = sum(map(len, content))
        if len(parts) == 1:
            meta: dict[str, Any] = {"places": [places[0].to_json()], **parts[0][1]}
            entry = Entry(Kind.ACCEPT, meta, places, content=content, size=size, quota=quota)
            entry.source = sources[0]
        else:
            meta = filed(parts)
            entry = Entry(Kind.FILE, meta, places, content=content, size=size, quota=quota)
            entry.sources = sources
        if removes:
            meta["removes"] = removes
        entry.fillings = []
        await self._commit(entry, [of["spill"] for _, of in parts if of["spill"]])
        return entry

    async def _commit(self, entry: Entry, spills: Sequence[str] = ()) -> None:
        # The caller may be cancelled (its connection is lost) while the commit goes on.
        outcome: Deferred[None] = Deferred()

        def committed(result: Any) -> None:
            if isinstance(result, Failure) and spills:
                self._world.threads.call(self._forget_spills, spills)
            outcome.callback(result)

        self._journal.commit(entry).addBoth(committed)
        await outcome

    def _forget_spills(self, names: Sequence[str]) -> None:
        for name in names:
            try:
                self._disk.unlink(self._path(name))
            except OSError as error:
                _log.error("{path} stays: {error}", path=self._path(name), error=str(error))

    async def _ascii_size(self, draft: Draft) -> int | None:
        """RFC 6858: the size of the downgraded form; None when the header is ASCII."""
        wire = draft.size + draft.lines
        if draft.spill is not None:
            return await self._world.threads.call(self._spilled_size, self._path(draft.spill), wire)
        if all(map(bytes.isascii, draft.blocks)):
            return None
        return ascii_size(b"".join(draft.blocks), wire)

    def _spilled_size(self, path: str, wire: int) -> int | None:
        """In a thread."""
        return downgraded_size(self._disk, path, read_file(self._disk, path, BLOCK), wire)

    def _picked(self, key: str, folder: str, bases: Sequence[str]) -> list[Picked]:
        return self._account(key).filler.pick(folder, bases)

    def _take(
        self, key: str, folder: str, bases: Sequence[str]
    ) -> tuple[list[Picked], list[bytes], list[str]]:
        """What is to be copied, and either its bytes or the names of spill files, synced."""
        picked = self._account(key).filler.pick(folder, bases, look=False)
        taken: list[Picked] = []
        contents: list[bytes] = []
        spills: list[str] = []
        small = sum(one.size for one in picked) <= INLINE
        own = self._world.entropy(12).hex()
        try:
            for one in picked:
                found: Picked | None = one
                for _ in range(TRIES):
                    if found is None:
                        break
                    try:
                        if small:
                            block = read_file(self._disk, found.path, found.size)
                            contents.append(block)
                            found = found._replace(size=len(block))
                        else:
                            name = f"{own}{len(spills):06x}"
                            self._disk.link(found.path, self._path(name))
                            spills.append(name)
                        taken.append(found)
                        break
                    except FileNotFoundError:
                        found = next(iter(self._picked(key, folder, [one.base])), None)
            self._sync(spills)
        except BaseException:
            self._forget_spills(spills)
            raise
        return taken, contents, spills

    def _sync(self, spills: Sequence[str]) -> None:
        """The record that names them may be all that is left of what is copied."""
        if not spills:
            return
        few = len(spills) <= SYNC_ALL
        for path in map(self._path, spills) if few else [self._journal.spill]:
            fd = self._disk.open(path, os.O_RDONLY)
            try:
                if few:
                    self._disk.fdatasync(fd)
                else:
                    self._disk.syncfs(fd)
            finally:
                self._disk.close(fd)
        self._disk.sync_directory(self._journal.spill)


def _piece(
    size: int, wire: int, ascii_octets: int | None, crc: int | None, spill: str | None
) -> dict[str, Any]:
    return {"size": size, "wire": wire, "ascii": ascii_octets, "crc": crc, "spill": spill}


def _copied(one: Picked, block: bytes, spill: str | None) -> dict[str, Any]:
    crc = zlib.crc32(block) if spill is None else None
    return _piece(one.size, one.wire, one.ascii, crc, spill)


def _filed(entry: Entry) -> Filed:
    """Where it went. The UIDs of what is parked are not known yet."""
    fillings = entry.fillings or ()
    if not fillings or not all(filling.uid for filling in fillings):
        return Filed(0, ())
    return Filed(fillings[0].validity, [filling.uid for filling in fillings])
