"""Places being filled and emptied: what the journal's records make of one account's folders.

The methods block; they run on the journal's lane, at a replay, or in pool threads.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

from twisted.logger import Logger

from ..mailboxes import FIRST_KEYWORD
from . import maildir
from .errors import mailbox_broken, no_mailbox
from .flags import bits_of, info_of, names_of
from .folder import Folder, read_keywords
from .home import Home, Locked
from .index import Row
from .maildir import FileName
from .scan import measure

__all__ = ["Filler", "Filling", "Moved", "Picked", "Source", "Wanted"]

_log = Logger()


class Source(Protocol):
    """A message's bytes, ready to get one more name."""

    size: int
    wire: int
    ascii: int | None

    def link(self, target: str) -> None:
        """Give it the name `target`. Raises OSError; FileExistsError when the name is taken."""

    def mend(self, path: str) -> None:
        """See that the file `path`, which is this message and may be damaged, is whole, and dated as it was."""

    def close(self) -> None:
        """Let go of what is open."""


@dataclass(slots=True)
class Filling:
    """One place to be filled: this source, under this base name, in the folder with this id.

    `flags`: names of flags; None for mail that arrives, which lies in ``new`` until somebody looks. `date`:
    INTERNALDATE, seconds; None: now. `uid`: the one that it got, once it is filled; `validity` goes with it.
    """

    folder: str
    base: str
    source: Source | None
    flags: Sequence[str] | None = None
    date: int | None = None
    uid: int = 0
    validity: int = 0


@dataclass(slots=True)
class Wanted:
    """A place that the journal says is filled; without a source: that the message is in, if it is anywhere.

    `left`: folders that it was moved away from; found in one of them, it has yet to be moved. `check`: what is there
    may be damaged (another boot). `filled`: it was there on this boot, so nobody fills it again.
    """

    filling: Filling
    check: bool = False
    left: Collection[str] = ()
    filled: bool = False


class Picked(NamedTuple):
    """A message to be copied, as it is now. `flags` are names, `date` is in seconds."""

    uid: int
    base: str
    path: str
    size: int
    wire: int
    ascii: int | None
    flags: tuple[str, ...]
    date: int


class Moved(NamedTuple):
    """What was moved: (UID before, UID now) of each, in the folder with this validity; and what could not be."""

    validity: int
    uids: Sequence[tuple[int, int]]
    failed: Sequence[tuple[str, OSError]]


class Filler:
    """Fills and empties the folders of one account."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._disk = home.disk

    def fill(
        self, fillings: Sequence[Filling], *, make: bool = True
    ) -> list[tuple[Filling, Exception]]:
        """Fill places: take a UID, link, insert; one transaction. Returns those that could not be, with the reason.

        A place is filled when its file is linked: that is what a reader finds, with or without its row.
        """
        failed: list[tuple[Filling, Exception]] = []
        linked = 0
        try:
            with self._home.locked(make=make) as locked:
                for filling in fillings:
                    try:
                        self._link(locked.folder(filling.folder), filling)
                    except OSError as error:
                        failed.append((filling, error))
                    linked += 1
        except sqlite3.Error as error:
            _log.error("index of {path}: {error}", path=self._home.path, error=str(error))
            failed += [(filling, error) for filling in fillings[linked:]]
            for filling in fillings[:linked]:
                # They are there, and nobody has their UIDs: those may be given to others.
                filling.uid = filling.validity = 0
        return failed

    def _link(self, folder: Folder, filling: Filling) -> None:
        bits = folder.bits(filling.flags, lenient=True) if filling.flags else 0
        uid = folder.take_uid()
        source = filling.source
        assert source is not None
        size, wire, ascii_size = source.size, source.wire, source.ascii
        validity = folder.state.validity
        name = maildir.numbered(filling.base, size, wire, ascii_size, validity, uid)
        sub = "new"
        if filling.flags is not None:
            sub = "cur"
            name += info_of("", bits)
        source.link(f"{folder.path}/{sub}/{name}")
        folder.did(sub, name, True)
        now = int(self._home.now())
        date = now if filling.date is None else filling.date
        folder.add(
            Row(
                uid,
                filling.base,
                sub,
                name,
                size,
                wire,
                ascii_size,
                None,
                bits,
                folder.touch(),
                date,
                now,
            )
        )
        filling.uid = uid
        filling.validity = validity

    def check(self, folder: str) -> None:
        """Raises MailError imap="TRYCREATE" when there is no such folder, 451 when it takes no mail."""
        with self._home.locked(make=False) as locked:
            found = locked.existing(folder)
            if found is None:
                raise no_mailbox()
            if not self._disk.writable(os.path.join(found.path, "cur")):
                raise mailbox_broken(f"{found.path}: not writable")

    def pick(self, folder: str, bases: Sequence[str], *, look: bool = True) -> list[Picked]:
        """Messages of a folder, for a copy; those that are gone are left out. Without `look` they are where they were
        last, if they are there."""
        picked: list[Picked] = []
        known: dict[int, tuple[str, ...]] = {}
        with self._home.locked(make=False) as locked:
            found = locked.existing(folder)
            if found is None:
                return picked
            for base, row, sub, name in self._files(locked, found, bases, look=look):
                row = row or measure(self._disk, found.path, sub, name, FileName.parse(name))
                if row is None:
                    continue
                bits = bits_of(name)
                flags = known.get(bits)
                if flags is None:
                    flags = known[bits] = tuple(names_of(bits, found.keywords))
                path = f"{found.path}/{sub}/{name}"
                picked.append(
                    Picked(row.uid, base, path, row.size, row.wire, row.ascii, flags, row.date)
                )
        return picked

    def _files(
        self, locked: Locked, folder: Folder, bases: Sequence[str], *, look: bool = True
    ) -> Iterator[tuple[str, Row | None, str, str]]:
        """(base, row, ``new`` or ``cur``, name) of the messages that are in the folder, wherever its rows say. Without
        `look` their rows are believed."""
        there: dict[str, tuple[str, str]] | None = None
        rows = locked.index.by_bases(folder.row.key, bases)
        for base in bases:
            row = rows.get(base)
            if row is not None and (
                not look or self._disk.exists(f"{folder.path}/{row.sub}/{row.name}")
            ):
                yield base, row, row.sub, row.name
                continue
            if there is None:
                there = maildir.listing(self._disk, folder.path)
            if base in there:
                yield base, row, *there[base]

    # -- emptying

    def remove(self, folder: str, bases: Sequence[str]) -> None:
        """Unlink messages of one folder and forget their rows. What is gone already is no error.

        A message that was moved to another folder meanwhile is not ours to delete.
        """
        with self._home.locked(make=False) as locked:
            self._remove(locked, folder, bases)

    def forget(self, folder: str, bases: Sequence[str]) -> None:
        """Delete the rows of messages that another program took out of a folder."""
        with self._home.locked(make=False) as locked:
            found = locked.existing(folder)
            if found is not None:
                found.expunge(bases)

    def _remove(self, locked: Locked, folder: str, bases: Sequence[str]) -> None:
        found = locked.existing(folder)
        if found is None:
            return
        there: dict[str, tuple[str, str]] | None = None
        # If a file cannot be unlinked the rows are not gone either: it is one transaction.
        seen = found.expunge(bases)
        for base in bases:
            known = seen.get(base)
            if known is not None and self._unlink(f"{found.path}/{known[0]}/{known[1]}"):
                found.did(*known, False)
                continue
            if there is None:
                there = maildir.listing(self._disk, found.path)
            if base in there:
                self._unlink(os.path.join(found.path, *there[base]))

    def taken(self, folder: str, bases: Sequence[str]) -> list[str]:
        """Those of `bases` that another message of this folder has: somebody copied files from one to the other."""
        with self._home.locked(make=False) as locked:
            found = locked.folder(folder)
            known = found.known(bases)
            return [base for base in bases if base in known]

    def move(self, source: str, target: str, bases: Sequence[str]) -> Moved:
        """Messages from one folder to another, one rename each. Those that are not there are passed over."""
        moved: list[tuple[int, int]] = []
        left: list[str] = []
        failed: list[tuple[str, OSError]] = []
        with self._home.locked(make=False) as locked:
            before, after = locked.existing(source), locked.folder(target)
            if before is not None and before is not after:
                path, keywords = before.path, before.keywords
                there: dict[str, tuple[str, str]] | None = None
                for base, row, sub, name in self._files(locked, before, bases, look=False):
                    try:
                        try:
                            new = self._carry(path, keywords, after, row, sub, name)
                        except FileNotFoundError:
                            # Another program has renamed it, or it is gone.
                            if there is None:
                                there = maildir.listing(self._disk, path)
                            if base not in there:
                                continue
                            sub, name = there[base]
                            new = self._carry(path, keywords, after, row, sub, name)
                    except FileNotFoundError:
                        continue  # taken away at this moment
                    except OSError as error:
                        failed.append((base, error))
                        continue
                    if new is not None:
                        before.did(sub, name, False)
                        after.did("cur", new.name, True)
                        left.append(base)
                        if row is not None:
                            moved.append((row.uid, new.uid))
                before.expunge(left)
            return Moved(after.state.validity, moved, failed)

    def _carry(
        self,
        path: str,
        keywords: tuple[str, ...],
        after: Folder,
        row: Row | None,
        sub: str,
        name: str,
    ) -> Row | None:
        """Move one file from the folder at `path`; its row there is left to the caller. None when it is no message."""
        row = row or measure(self._disk, path, sub, name, FileName.parse(name))
        if row is None:
            return None
        bits = bits_of(name)
        if bits >> FIRST_KEYWORD:
            bits = after.bits(names_of(bits, keywords), lenient=True)
        base, size, wire, ascii_size = row.base, row.size, row.wire, row.ascii
        uid = after.take_uid()
        new = maildir.numbered(base, size, wire, ascii_size, after.state.validity, uid)
        new += info_of(name, bits)
        self._disk.rename(f"{path}/{sub}/{name}", f"{after.path}/cur/{new}")
        now = int(self._home.now())
        modseq = after.touch()
        row = Row(
            uid, base, "cur", new, size, wire, ascii_size, row.uidl, bits, modseq, row.date, now
        )
        after.add(row)
        return row

    # -- what the journal says, at a replay

    def settle(
        self,
        wanted: Sequence[Wanted],
        gone: Mapping[str, Sequence[str]],
        removed: Mapping[str, str] = MappingProxyType({}),
    ) -> list[tuple[Filling, Exception]]:
        """Bring the account to what the journal says: `wanted` is there exactly once, `gone` (by folder) is not.

        `removed`: where folders went that are over; a message that had left one before may still be in it.
        Returns the places that could not be filled.
        """
        missing: list[Filling] = []
        failed: list[tuple[Filling, Exception]] = []
        # What was moved or removed in an account that is not there any more makes no account.
        make = any(want.filling.source is not None for want in wanted)
        with self._home.locked(make=make) as locked:
            everything: dict[str, tuple[str, str, str, str]] | None = None
            for want in wanted:
                folder = locked.folder(want.filling.folder)
                base, source = want.filling.base, want.filling.source
                row = locked.index.by_base(folder.row.key, base)
                path = os.path.join(folder.path, row.sub, row.name) if row is not None else None
                found = None
                if path is None or not self._disk.exists(path):
                    if everything is None:
                        everything = self._everything(removed)
                    found = everything.get(base)
                    if found is not None and source is not None and want.check:
                        # First of all: who moves it may have to measure it.
                        source.mend(os.path.join(*found[1:]))
                    try:
                        path = self._placed(locked, folder, want, found)
                    except OSError as error:
                        failed.append((want.filling, error))
                        continue
                if source is None:
                    continue
                if path is not None:
                    if want.check and found is None:
                        source.mend(path)
                # A row without its file: another program removed the message, unless a power cut did.
                elif want.check or not (
                    want.filled or self._known(locked, (want.filling.folder, *want.left), base)
                ):
                    missing.append(want.filling)
            for name, bases in gone.items():
                self._remove(locked, name, bases)
            failed += self._arrive_again(locked, missing)
            missing = [one for one in missing if not _arrives(one)]
        return failed + (self.fill(missing) if missing else [])

    def _arrive_again(
        self, locked: Locked, fillings: Sequence[Filling]
    ) -> list[tuple[Filling, Exception]]:
        """Mail that arrived for the inbox lies there unnumbered once more: whoever looks numbers it together with what
        had come before it and was not looked at either (`storage.arrivals`)."""
        failed: list[tuple[Filling, Exception]] = []
        for one in filter(_arrives, fillings):
            source = one.source
            assert source is not None
            name = maildir.arriving(one.base, source.size, source.wire, source.ascii)
            try:
                source.link(f"{locked.folder('').path}/new/{name}")
            except OSError as error:
                failed.append((one, error))
        return failed

    def _placed(
        self,
        locked: Locked,
        folder: Folder,
        want: Wanted,
        found: tuple[str, str, str, str] | None,
    ) -> str | None:
        """The path of a message that is not where its row says, moved when it has yet to be."""
        if found is None:
            return None
        of, path, sub, name = found
        if path == folder.path or not (
            of in want.left or (of == self._home.inbox and "" in want.left)
        ):
            return os.path.join(path, sub, name)
        base = want.filling.base
        before = locked.existing(of)
        row = locked.index.by_base(before.row.key, base) if before is not None else None
        if row is None:
            row = measure(self._disk, path, sub, name, FileName.parse(name))
            if row is not None and want.filling.date is not None:
                # The file may have lost its own; it gets it back, too.
                row = row._replace(date=want.filling.date)
        new = self._carry(path, read_keywords(self._disk, path), folder, row, sub, name)
        if before is not None:
            before.expunge([base])
        return os.path.join(folder.path, new.sub, new.name) if new is not None else None

    def _known(self, locked: Locked, folders: Sequence[str], base: str) -> bool:
        for name in folders:
            folder = locked.existing(name)
            if folder is not None and locked.index.by_base(folder.row.key, base) is not None:
                return True
        return False

    def _everything(self, removed: Mapping[str, str]) -> dict[str, tuple[str, str, str, str]]:
        """base → (folder, its path, ``new`` or ``cur``, name) of every message of the account."""
        folders = [(path, folder) for folder, path in removed.items() if self._disk.exists(path)]
        folders += [(path, state.folder) for path, state in self._home.look()]
        return {
            base: (folder, path, sub, name)
            for path, folder in folders
            for base, (sub, name) in maildir.listing(self._disk, path).items()
        }

    def _unlink(self, path: str) -> bool:
        try:
            self._disk.unlink(path)
        except FileNotFoundError:
            return False
        return True


def _arrives(filling: Filling) -> bool:
    return filling.flags is None and not filling.folder
