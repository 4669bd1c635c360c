"""Places being filled and emptied: what the journal's records make of one account's folders.

The methods block; they run on the journal's lane, at a replay, or in pool threads.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.logger import Logger

from . import maildir
from .flags import info_of, names_of
from .folder import Folder
from .home import Home, Locked
from .index import Row
from .maildir import FileName, read_file

__all__ = ["Filler", "Filling", "Source", "Wanted"]

_log = Logger()


class Source(Protocol):
    """A message's bytes, ready to get one more name."""

    size: int
    wire: int
    ascii: int | None

    def link(self, target: str) -> None:
        """Give it the name `target`. Raises OSError; FileExistsError when the name is taken."""

    def replace(self, target: str) -> None:
        """Put it, synced, in the place of the file `target`."""

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
    source: Source
    flags: Sequence[str] | None = None
    date: int | None = None
    uid: int = 0
    validity: int = 0


@dataclass(slots=True)
class Wanted:
    """A place that the journal says is filled. `crc`: the content's CRC-32 when it has to be checked (another boot)."""

    filling: Filling
    crc: int | None


class Filler:
    """Fills and empties the folders of one account."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._disk = home.disk

    def fill(self, fillings: Sequence[Filling]) -> list[tuple[Filling, Exception]]:
        """Fill places: take a UID, link, insert; one transaction. Returns those that could not be, with the reason.

        A place is filled when its file is linked: that is what a reader finds, with or without its row.
        """
        failed: list[tuple[Filling, Exception]] = []
        linked = 0
        self._home.prepare()
        try:
            with self._home.locked() as locked:
                for filling in fillings:
                    try:
                        self._link(locked.folder(filling.folder), filling)
                    except OSError as error:
                        failed.append((filling, error))
                    linked += 1
        except sqlite3.Error as error:
            _log.error("index of {path}: {error}", path=self._home.path, error=str(error))
            failed += [(filling, error) for filling in fillings[linked:]]
        return failed

    def _link(self, folder: Folder, filling: Filling) -> None:
        bits = folder.bits(filling.flags, lenient=True) if filling.flags else 0
        uid = folder.take_uid()
        source = filling.source
        size, wire, ascii_size = source.size, source.wire, source.ascii
        validity = folder.state.validity
        name = str(FileName(filling.base, size, wire, ascii_size, validity, uid))
        sub = "new"
        if filling.flags is not None:
            sub = "cur"
            name += info_of("", bits)
        source.link(f"{folder.path}/{sub}/{name}")
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

    def remove(self, folder: str, bases: Sequence[str]) -> None:
        """Unlink messages of one folder and forget their rows. What is gone already is no error.

        A message that another program has moved to another folder meanwhile is not ours to delete.
        """
        with self._home.locked() as locked:
            self._remove(locked, folder, bases)

    def forget(self, folder: str, bases: Sequence[str]) -> None:
        """Delete the rows of messages that another program took out of a folder."""
        with self._home.locked() as locked:
            locked.folder(folder).expunge(bases)

    def _remove(self, locked: Locked, folder: str, bases: Sequence[str]) -> None:
        found = locked.folder(folder)
        there: dict[str, tuple[str, str]] | None = None
        for base in bases:
            known = locked.index.by_base(found.row.key, base)
            if known is not None and self._unlink(os.path.join(found.path, known.sub, known.name)):
                continue
            if there is None:
                there = maildir.listing(self._disk, found.path)
            if base in there:
                self._unlink(os.path.join(found.path, *there[base]))
        found.expunge(bases)

    def settle(
        self, wanted: Sequence[Wanted], gone: Mapping[str, Sequence[str]]
    ) -> list[tuple[Filling, Exception]]:
        """Bring the account to what the journal says: `wanted` is there exactly once, `gone` (by folder) is not.

        Returns the places that could not be filled.
        """
        missing: list[Filling] = []
        with self._home.locked() as locked:
            elsewhere: dict[str, str] | None = None
            for want in wanted:
                folder = locked.folder(want.filling.folder)
                row = locked.index.by_base(folder.row.key, want.filling.base)
                path = os.path.join(folder.path, row.sub, row.name) if row is not None else None
                if path is None or not self._disk.exists(path):
                    if elsewhere is None:
                        elsewhere = self._everything()
                    path = elsewhere.get(want.filling.base)
                if path is None:
                    # A row without its file: another program removed the message, unless a power cut did.
                    if row is None or want.crc is not None:
                        missing.append(want.filling)
                elif want.crc is not None and not self._whole(path, want):
                    want.filling.source.replace(path)
            for name, bases in gone.items():
                self._remove(locked, name, bases)
        return self.fill(missing) if missing else []

    def _everything(self) -> dict[str, str]:
        """base → path of every message in every folder."""
        return {
            base: os.path.join(folder, sub, name)
            for folder in maildir.folders(self._disk, self._home.maildir)
            for base, (sub, name) in maildir.listing(self._disk, folder).items()
        }

    def _whole(self, path: str, want: Wanted) -> bool:
        size = want.filling.source.size
        return (
            self._disk.stat(path).st_size == size
            and zlib.crc32(read_file(self._disk, path, size)) == want.crc
        )

    # -- moving and removing folders' contents

    def move(self, source: str, target: str, bases: Sequence[str]) -> list[tuple[int, int]]:
        """Messages from one folder to another, one rename each. Gives (UID before, UID now) of each that was there."""
        moved: list[tuple[int, int]] = []
        with self._home.locked() as locked:
            before, after = locked.folder(source), locked.folder(target)
            if before is after:
                return moved
            there: dict[str, tuple[str, str]] | None = None
            left: list[str] = []
            for base in bases:
                row = locked.index.by_base(before.row.key, base)
                if row is None:
                    continue
                sub, name = row.sub, row.name
                if not self._disk.exists(os.path.join(before.path, sub, name)):
                    if there is None:
                        there = maildir.listing(self._disk, before.path)
                    if base not in there:
                        continue
                    sub, name = there[base]
                bits = after.bits(names_of(row.flags, before.keywords), lenient=True)
                uid = after.take_uid()
                new = str(
                    FileName(base, row.size, row.wire, row.ascii, after.state.validity, uid)
                ) + info_of(name, bits)
                self._disk.rename(
                    os.path.join(before.path, sub, name), os.path.join(after.path, "cur", new)
                )
                left.append(base)
                after.add(
                    row._replace(
                        uid=uid,
                        sub="cur",
                        name=new,
                        flags=bits,
                        modseq=after.touch(),
                        saved=int(self._home.now()),
                    )
                )
                moved.append((row.uid, uid))
            before.expunge(left)
        return moved

    def _unlink(self, path: str) -> bool:
        try:
            self._disk.unlink(path)
        except FileNotFoundError:
            return False
        return True
