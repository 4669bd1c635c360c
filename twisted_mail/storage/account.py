"""One account's mail on the disk: ``Maildir/`` (Maildir++), ``index.sqlite3``, ``lock``, ``inbox.lock``.

Everything that changes the account runs in `AccountStore.locked`: a mutex between threads, then a `flock` between
processes, then the index. UIDs are taken there, so they become visible in order. Other programs know nothing of
the lock and may move or delete files at any moment; `refresh` finds out what they did.

The methods block; they run on the journal's lane or in pool threads.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from twisted.logger import Logger

from ..disk import Disk, make_directories
from . import maildir, scan
from .errors import mailbox_broken, mailbox_in_use
from .index import FolderRow, Index, Row, RowTuple, is_damage, set_aside
from .maildir import MAX_UID, FileName, FolderState, read_file

__all__ = ["AccountStore", "Filling", "Source", "Wanted"]

_log = Logger()
SETTLED_NS = 2_000_000_000
"""A directory that changed this long ago will show the next change in its modification time."""


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
    """One place to be filled: this source, under this base name, in the folder with this id."""

    folder: str
    base: str
    source: Source


@dataclass(slots=True)
class Wanted:
    """A place that the journal says is filled. `crc`: the content's CRC-32 when it has to be checked (another boot)."""

    filling: Filling
    crc: int | None


class _Place:
    """A folder while it is being filled."""

    __slots__ = ("new", "path", "row", "state", "uidnext")

    def __init__(self, path: str, state: FolderState, row: FolderRow) -> None:
        self.path = path
        self.state = state
        self.row = row
        self.uidnext = row.uidnext
        self.new: list[Row] = []


class AccountStore:
    """The mail of one account. `home` is its directory; `generation` counts the site's unclean stops."""

    def __init__(
        self,
        disk: Disk,
        home: str,
        *,
        generation: int,
        now: Callable[[], float],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._disk = disk
        self._generation = generation
        self._now = now
        self._entropy = entropy
        self._mutex = threading.RLock()
        self._lock = -1
        self._retired = False
        self._index: Index | None = None
        self._states: dict[str, tuple[str, FolderState]] = {}
        self.home = home
        self.maildir = os.path.join(home, "Maildir")
        self._index_path = os.path.join(home, "index.sqlite3")
        self.inbox = ""
        """The inbox's folder id; known after `prepare`."""

    # -- opening and closing

    def prepare(self) -> None:
        """Make sure that the inbox is there and can take mail. Raises MailError 451, or OSError."""
        with self._mutex:
            if self.inbox:
                if not self._disk.writable(os.path.join(self.maildir, "new")):
                    self._states.clear()
                    self.inbox = ""
                    raise mailbox_broken(f"{self.maildir}: not there, or not writable")
                return
            if self._disk.exists(self._index_path) and not maildir.is_maildir(
                self._disk, self.maildir
            ):
                # An index without its Maildir: taken away, or its file system is not mounted.
                raise mailbox_broken(f"{self.maildir}: not there")
            make_directories(self._disk, self.home)
            with self._flocked():
                state = maildir.make_folder(
                    self._disk,
                    self.maildir,
                    folder=self._entropy(8).hex(),
                    validity=max(1, int(self._now())) & MAX_UID,
                )
            if not self._disk.writable(os.path.join(self.maildir, "new")):
                raise mailbox_broken(f"{self.maildir}: not writable")
            self._states[state.folder] = (self.maildir, state)
            self.inbox = state.folder

    def release(self) -> None:
        """Close files; they are opened again when needed."""
        with self._mutex:
            if self._index is not None:
                index, self._index = self._index, None
                index.close()
            if self._lock >= 0:
                fd, self._lock = self._lock, -1
                self._disk.close(fd)

    def retire(self) -> None:
        """Close files for good: who still uses this store opens them for a moment only."""
        with self._mutex:
            self._retired = True
            self.release()

    def hold_inbox(self) -> int:
        """Take the lock of the one session that may write the inbox; close the descriptor to give it up.

        Raises MailError with ``pop3="IN-USE"``.
        """
        fd = self._disk.open(os.path.join(self.home, "inbox.lock"), os.O_RDWR | os.O_CREAT)
        try:
            self._disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._disk.close(fd)
            raise mailbox_in_use() from None
        except BaseException:
            self._disk.close(fd)
            raise
        return fd

    # -- filling and removing

    def fill(self, fillings: Sequence[Filling]) -> list[tuple[Filling, Exception]]:
        """Fill places: take a UID, link, insert; one transaction. Returns those that could not be, with the reason.

        A place is filled when its file is linked: that is what a reader finds, with or without its row.
        """
        failed: list[tuple[Filling, Exception]] = []
        linked = 0
        self.prepare()
        try:
            with self.locked() as index:
                places: dict[str, _Place] = {}
                for filling in fillings:
                    try:
                        place = places.get(filling.folder)
                        if place is None:
                            place = places[filling.folder] = _Place(
                                *self._folder(index, filling.folder)
                            )
                        self._link(place, filling)
                    except OSError as error:
                        failed.append((filling, error))
                    linked += 1
                for place in places.values():
                    index.insert(place.row.key, place.new)
                    index.set_uidnext(place.row.key, place.uidnext)
        except sqlite3.Error as error:
            _log.error("index {path}: {error}", path=self._index_path, error=str(error))
            failed += [(filling, error) for filling in fillings[linked:]]
        return failed

    def _link(self, place: _Place, filling: Filling) -> None:
        uid = self._take_uid(place)
        source = filling.source
        size, wire, ascii_size = source.size, source.wire, source.ascii
        name = str(FileName(filling.base, size, wire, ascii_size, place.state.validity, uid))
        source.link(f"{place.path}/new/{name}")
        place.new.append(Row(uid, filling.base, "new", name, size, wire, ascii_size))

    def remove(self, folder: str, bases: Sequence[str]) -> None:
        """Unlink messages of one folder and forget their rows. What is gone already is no error.

        A message that another program has moved to another folder meanwhile is not ours to delete.
        """
        self.prepare()
        with self.locked() as index:
            self._remove(index, folder, bases)

    def forget(self, folder: str, bases: Sequence[str]) -> None:
        """Delete the rows of messages that another program took out of a folder."""
        self.prepare()
        with self.locked() as index:
            _, _, row = self._folder(index, folder)
            index.delete(row.key, bases)

    def _remove(self, index: Index, folder: str, bases: Sequence[str]) -> None:
        path, _, row = self._folder(index, folder)
        there: dict[str, tuple[str, str]] | None = None
        for base in bases:
            known = index.by_base(row.key, base)
            if known is not None and self._unlink(os.path.join(path, known.sub, known.name)):
                continue
            if there is None:
                there = maildir.listing(self._disk, path)
            if base in there:
                self._unlink(os.path.join(path, *there[base]))
        index.delete(row.key, bases)

    def settle(
        self, wanted: Sequence[Wanted], gone: Mapping[str, Sequence[str]]
    ) -> list[tuple[Filling, Exception]]:
        """Bring the account to what the journal says: `wanted` is there exactly once, `gone` (by folder) is not.

        Returns the places that could not be filled.
        """
        self.prepare()
        missing: list[Filling] = []
        with self.locked() as index:
            elsewhere: dict[str, str] | None = None
            for want in wanted:
                folder, _, key = self._folder(index, want.filling.folder)
                row = index.by_base(key.key, want.filling.base)
                path = os.path.join(folder, row.sub, row.name) if row is not None else None
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
                self._remove(index, name, bases)
        return self.fill(missing) if missing else []

    def _everything(self) -> dict[str, str]:
        """base → path of every message in every folder."""
        return {
            base: os.path.join(folder, sub, name)
            for folder in maildir.folders(self._disk, self.maildir)
            for base, (sub, name) in maildir.listing(self._disk, folder).items()
        }

    def _whole(self, path: str, want: Wanted) -> bool:
        size = want.filling.source.size
        return (
            self._disk.stat(path).st_size == size
            and zlib.crc32(read_file(self._disk, path, size)) == want.crc
        )

    # -- reading

    def refresh(self) -> tuple[list[RowTuple], list[str]]:
        """The inbox's messages as the Maildir has them now, and the bases that another program took away.

        The rows of what was taken away stay until `forget` is called for them: their going has to be
        in the journal first, or a replay would bring them back.
        """
        self.prepare()
        with self.locked() as index:
            path, _, folder = self._folder(index, self.inbox)
            before = scan.marks(self._disk, path)
            rows = index.rows(folder.key)
        if before == (folder.new_mark, folder.cur_mark):
            return rows, []
        if not scan.agrees(self._disk, path, rows):
            return self._reconcile()
        # A directory that changed long ago shows the next change in its modification time.
        if max(before) + SETTLED_NS < self._disk.clock_ns():
            with self.locked() as index:
                index.set_marks(folder.key, *before)
        return rows, []

    def _reconcile(self) -> tuple[list[RowTuple], list[str]]:
        with self.locked() as index:
            path, state, folder = self._folder(index, self.inbox)
            place = _Place(path, state, folder)
            found = scan.readable(self._disk, path, maildir.listing(self._disk, path))
            rows = list(map(Row._make, index.rows(folder.key)))
            change = scan.adopt(
                self._disk, path, found, rows, state, lambda least: self._take_uid(place, least)
            )
            index.moved(folder.key, change.moved)
            index.insert(folder.key, change.new)
            index.set_uidnext(folder.key, place.uidnext)
            whole: list[RowTuple] = index.rows(folder.key)
        gone = [row.base for row in rows if row.base not in found]
        if gone:
            # readdir(3): a file that is renamed while the directory is read may be missed. Look again.
            found = maildir.listing(self._disk, path)
            gone = [base for base in gone if base not in found]
        if gone:
            taken = frozenset(gone)
            whole = [row for row in whole if row[1] not in taken]
        return whole, gone

    @contextmanager
    def locked(self) -> Iterator[Index]:
        """The account's lock held and its index in a transaction, which is committed at the end."""
        with self._mutex, self._flocked():
            index = self._opened()
            try:
                index.begin()
                yield index
                index.commit()
            except sqlite3.Error as error:
                index.close()
                self._index = None
                if is_damage(error):
                    # Damaged. An index is a cache: the files are there, and they make a new one.
                    self._set_aside(error)
                raise
            except BaseException:
                index.rollback()
                raise

    @contextmanager
    def _flocked(self) -> Iterator[None]:
        if self._lock < 0:
            self._lock = self._disk.open(os.path.join(self.home, "lock"), os.O_RDWR | os.O_CREAT)
        self._disk.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            self._disk.flock(self._lock, fcntl.LOCK_UN)
            if self._retired:
                self.release()

    # -- inside

    def _opened(self) -> Index:
        if self._index is not None:
            if self._index.current:
                return self._index
            self._index.close()
            self._index = None
        try:
            self._index = Index(self._disk, self._index_path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._set_aside(error)
            self._index = Index(self._disk, self._index_path)
        return self._index

    def _set_aside(self, error: Exception) -> None:
        _log.error("index {path} set aside: {error}", path=self._index_path, error=str(error))
        set_aside(self._disk, self._index_path)

    def _path(self, folder: str) -> str:
        known = self._states.get(folder)
        return known[0] if known is not None else self.maildir

    def _folder(self, index: Index, folder: str) -> tuple[str, FolderState, FolderRow]:
        """Where a folder is, its numbers, its row; a folder that is no more is answered with the inbox."""
        # RFC 3501 section 5.1: mail always has an inbox to go to ("" is the inbox, too).
        known = self._states.get(folder) or self._states[self.inbox]
        path, state = known
        row = index.folder(state.folder)
        if (
            row is not None
            and row.validity == state.validity
            and row.generation == self._generation
        ):
            return path, state, row
        # A new or lost index, or one that an unclean stop may have taken back: what is on the disk decides,
        # and UIDs go on above all that were ever given.
        state = self._raise(
            path, state, (maildir.read_state(self._disk, path) or state).uid_ceiling
        )
        start = state.uid_ceiling - maildir.RESERVE - 1
        return path, state, index.put_folder(state.folder, state.validity, start, self._generation)

    def _take_uid(self, place: _Place, least: int = 0) -> int:
        """The next UID of a folder, at least `least`; what is never given twice is synced first."""
        uid = max(place.uidnext, least)
        if uid >= place.state.uid_ceiling:
            place.state = self._raise(place.path, place.state, uid)
        place.uidnext = uid + 1
        return uid

    def _raise(self, path: str, state: FolderState, uid: int) -> FolderState:
        """The folder's numbers with room for `uid`; another process may have made that room already."""
        fresh = maildir.read_state(self._disk, path) or state
        if uid >= fresh.uid_ceiling:
            fresh = fresh.raised(uid)
            maildir.write_state(self._disk, path, fresh)
        self._states[fresh.folder] = (path, fresh)
        return fresh

    def _unlink(self, path: str) -> bool:
        try:
            self._disk.unlink(path)
        except FileNotFoundError:
            return False
        return True
