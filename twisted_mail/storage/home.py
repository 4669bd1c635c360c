"""One account's directory: its lock, its index, and where its folders are.

    Maildir/            Maildir++: the inbox, and a directory ``.Name`` for each other folder
    index.sqlite3       a cache of it (storage.index)
    lock · inbox.lock   this module's; POP3's (storage.account)

Everything that changes the account runs in `Home.locked`: a mutex between threads, then a `flock` between processes,
then a transaction of the index. What it changed is published to the open sessions of this process before the lock is
let go, so they hear of changes in their order.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from twisted.logger import Logger

from ..disk import Disk, make_directories
from . import maildir
from .aside import is_damage, no_file, set_aside
from .dovecot import UIDLIST, UidList, parse_uidlist
from .errors import AccountOver, mailbox_broken
from .folder import Folder, FolderChange
from .index import Index
from .maildir import MAX_UID, FolderState

__all__ = ["Home", "Locked"]

_log = Logger()
MAX_UIDLIST = 256 * 1024 * 1024


class Locked:
    """The account while it is locked: the open index, and the folders that are used in this transaction."""

    __slots__ = ("_folders", "_home", "index")

    def __init__(self, home: Home, index: Index) -> None:
        self._home = home
        self._folders: dict[str, Folder] = {}
        self.index = index

    def folder(self, folder: str) -> Folder:
        """A folder by its id; "", and one that is no more, is answered with the inbox."""
        # RFC 3501 section 5.1: mail always has an inbox to go to
        known = self._folders.get(folder)
        if known is None:
            path, state = (
                self._home.find(folder) or self._home.find(self._home.inbox) or (None, None)
            )
            if path is None or state is None:
                raise mailbox_broken(f"{self._home.maildir}: no inbox")
            known = self._folders.get(state.folder)
            if known is None:
                known = self._home.opened(self.index, path, state)
                self._folders[state.folder] = known
            self._folders[folder] = known
        return known

    def existing(self, folder: str) -> Folder | None:
        """A folder by its id; None for one that is no more."""
        return self.folder(folder) if self._home.find(folder) is not None else None

    def drop(self, folder: str) -> None:
        """Forget a folder that has been removed."""
        gone = self._folders.pop(folder, None)
        self._folders = {name: one for name, one in self._folders.items() if one is not gone}
        self.index.drop_folder(folder)

    def drop_gone(self) -> None:
        """Forget folders that another program has removed, after a `Home.look`."""
        for folder in self.index.folders():
            if not self._home.has(folder):
                self.drop(folder)

    def settle(self, *, tell: bool) -> list[FolderChange]:
        """Write what was gathered into the index; with `tell`, what it was."""
        changes: list[FolderChange] = []
        for folder in dict.fromkeys(self._folders.values()):
            change = folder.settle(tell=tell)
            if change is not None:
                changes.append(change)
        return changes

    def used(self) -> list[Folder]:
        """The folders of this transaction."""
        return list(dict.fromkeys(self._folders.values()))


class Home:
    """The account in the directory `path`, below `top`; `generation` counts the site's unclean stops."""

    def __init__(
        self,
        disk: Disk,
        path: str,
        *,
        generation: int,
        now: Callable[[], float],
        entropy: Callable[[int], bytes],
        top: str = "",
    ) -> None:
        self.disk = disk
        self.path = path
        self.maildir = os.path.join(path, "Maildir")
        self.inbox = ""
        """The inbox's folder id; known after `prepare`."""
        self.now = now
        self.published: Callable[[FolderChange], None] | None = None
        """Called with the lock held, in whatever thread; it must not raise."""
        self.over = False
        """The account was removed. What is made in its place, of the same name, is another one: it gets a `Home` of
        its own."""
        self.ended: Callable[[], None] | None = None
        """Called once, when `over` becomes true, in whatever thread; it must not raise."""
        self._top = top
        self._generation = generation
        self._entropy = entropy
        self._mutex = threading.RLock()
        self._lock = -1
        self._retired = False
        self._was: tuple[int, int] | None = None
        self._index: Index | None = None
        self._states: dict[str, tuple[str, FolderState]] = {}
        self._index_path = os.path.join(path, "index.sqlite3")
        self._uidlists: dict[str, UidList | None] = {}

    # -- opening and closing

    def prepare(self, *, make: bool = True) -> None:
        """Make sure that the inbox is there and can take mail. Raises MailError 451, or OSError.

        With `make` an account that was never there is made. One that was there once is not made again: AccountOver.
        """
        with self._mutex:
            if self.over:
                raise AccountOver
            if self.inbox:
                if self._identity() != self._was and self._was is not None:
                    # Another account of that name may be there by now, with a lock of its own.
                    self.end()
                    raise AccountOver
                if not self.disk.writable(os.path.join(self.maildir, "new")):
                    self._states.clear()
                    self.inbox = ""
                    # They may be another account's of that name by the next time, with a lock of its own.
                    self.release()
                    self._end_if_gone()
                    raise mailbox_broken(f"{self.maildir}: not there, or not writable")
                return
            there = maildir.is_maildir(self.disk, self.maildir)
            if self.disk.exists(self._index_path) and not there:
                # An index without its Maildir: taken away, or its file system is not mounted.
                raise mailbox_broken(f"{self.maildir}: not there")
            if not there and self._was is not None:
                self._end_if_gone()
            if not there and not make:
                raise AccountOver
            make_directories(self.disk, self.path)
            with self._flocked():
                if maildir.read_state(self.disk, self.maildir) is None:
                    self._sync_names()
                state = self.made(self.maildir)
            if not self.disk.writable(os.path.join(self.maildir, "new")):
                raise mailbox_broken(f"{self.maildir}: not writable")
            self.inbox = state.folder
            self._was = self._identity()

    def _sync_names(self) -> None:
        """The numbers that are about to be given need a directory that stays: mail that arrives syncs none."""
        path = self.path
        make_directories(self.disk, self.maildir)
        while True:
            self.disk.sync_directory(path)
            if len(path) <= len(self._top) or not self._top or path == os.path.dirname(path):
                return
            path = os.path.dirname(path)

    def _end_if_gone(self) -> None:
        """Raises AccountOver."""
        if not self.disk.exists(self.maildir) and not self.disk.exists(self._index_path):
            self.end()
            raise AccountOver

    def mark(self) -> tuple[int, int] | None:
        """What the Maildir is: the same as before when it is the same one, and no folder, nor the inbox's state, came
        or went. None: it is not there. No lock is taken; whose it is, is known from now on (`gone`)."""
        try:
            found = self.disk.stat(self.maildir)
        except OSError:
            return None
        if self._was is None:
            self._was = self._identity()
        return found.st_ino, found.st_ctime_ns

    def furnished(self) -> bool:
        """Whether it has the folders of a new account, as the inbox's state says. No lock is taken."""
        state = maildir.read_state(self.disk, self.maildir)
        return state is not None and state.furnished

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self.disk.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def gone(self) -> bool:
        """Look whether another process, or an operator, has taken the account away; then it is over. Blocks."""
        with self._mutex:
            if not self.over and self._was is not None and self._identity() != self._was:
                self.end()
            return self.over

    def release(self) -> None:
        """Close files; they are opened again when needed."""
        with self._mutex:
            if self._index is not None:
                index, self._index = self._index, None
                index.close()
            if self._lock >= 0:
                fd, self._lock = self._lock, -1
                self.disk.close(fd)

    def retire(self) -> None:
        """Close files for good: who still uses this opens them for a moment only."""
        with self._mutex:
            self._retired = True
            self.release()

    def end(self) -> None:
        """The account is removed: nobody uses this any more."""
        with self._mutex:
            told, self.ended = self.ended, None
            self.over = True
            self.retire()
        if told is not None:
            told()

    # -- the lock

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The account locked, and nothing read of it. Its directory has to be there. Raises OSError."""
        with self._mutex, self._flocked():
            yield

    @contextmanager
    def locked(self, *, make: bool = True) -> Iterator[Locked]:
        """The account locked, its index in a transaction, which is committed at the end, and told to who listens.

        `make` as for `prepare`. Raises MailError, OSError, sqlite3.Error.
        """
        self.prepare(make=make)
        with self._mutex, self._flocked():
            # Who listens may end in the reactor's thread at any moment.
            published = self.published
            index = self._opened()
            try:
                index.begin()
                locked = Locked(self, index)
                yield locked
                changes = locked.settle(tell=published is not None)
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
            for folder in locked.used():
                self._states[folder.state.folder] = (folder.path, folder.state)
            if published is not None:
                for change in changes:
                    published(change)

    @contextmanager
    def _flocked(self) -> Iterator[None]:
        if self._lock < 0:
            self._lock = self.disk.open(os.path.join(self.path, "lock"), os.O_RDWR | os.O_CREAT)
        self.disk.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            self.disk.flock(self._lock, fcntl.LOCK_UN)
            if self._retired:
                self.release()

    # -- folders; to be called with the lock held

    def find(self, folder: str) -> tuple[str, FolderState] | None:
        """Where the folder with this id is, and its state; "" is the inbox. None: there is no such folder."""
        folder = folder or self.inbox
        known = self._states.get(folder)
        if known is not None:
            if folder == self.inbox:
                return known
            # Another process may have renamed or removed it.
            state = maildir.read_state(self.disk, known[0])
            if state is not None and state.folder == folder:
                self._states[folder] = (known[0], state)
                return self._states[folder]
        self.look()
        return self._states.get(folder)

    def has(self, folder: str) -> bool:
        """Whether the last `look` has seen it."""
        return folder in self._states

    def look(self) -> list[tuple[str, FolderState]]:
        """All folders as they are on the disk now, the inbox first. What another program made gets its state."""
        found: dict[str, tuple[str, FolderState]] = {}
        paths = maildir.folders(self.disk, self.maildir)
        known = {path for path, _ in self._states.values()}
        states = {path: maildir.read_state(self.disk, path) for path in paths}
        for path, state in states.items():
            if state is not None:
                # What gets its state now must not get another one's UIDVALIDITY.
                self._states.setdefault(state.folder, (path, state))
        # A copy of a folder, made with cp, is another folder; of two, the one that was there before is who it was.
        for path in sorted(paths, key=lambda path: path not in known):
            state = states[path]
            if state is None or state.folder in found:
                state = self.made(path, again=state is not None)
            elif maildir.complete(self.disk, path):
                _log.warn("{path}: directories were missing, and are made anew", path=path)
            found[state.folder] = (path, state)
        self._states = found
        return sorted(found.values(), key=lambda one: one[0])

    def made(
        self, path: str, special_use: tuple[str, ...] = (), *, name: str = "", again: bool = False
    ) -> FolderState:
        """Make a folder, or the state of one that has none. Dovecot's numbers go on."""
        if again:
            self.disk.unlink(os.path.join(path, maildir.STATE_FILE))

        def fresh() -> FolderState:
            if aside := set_aside(self.disk, os.path.join(path, maildir.STATE_FILE)):
                _log.error(
                    "{path}: the state of the folder is damaged: set aside as {aside}. It begins anew with another"
                    " UIDVALIDITY; clients fetch it once more",
                    path=path,
                    aside=aside,
                )
            known = self.uidlist(path)
            folder = self._entropy(8).hex()
            if known is None:
                validity = self._validity(path)
                # Nothing is reserved yet: the first UID taken raises the ceiling.
                return FolderState(folder, validity, 1, special_use=special_use, name=name)
            return FolderState(
                folder,
                known.validity,
                known.uidnext,
                special_use=special_use,
                name=name,
                taken_over=known.uidnext,
            )

        state = maildir.make_folder(self.disk, path, fresh)
        self._states[state.folder] = (path, state)
        return state

    def made_together(
        self, folders: Mapping[str, tuple[str, ...]], files: Mapping[str, bytes]
    ) -> None:
        """Make the first folders of an account but its inbox: their special uses, by their paths, which are not there;
        and write small `files`. Then the inbox knows that they were made."""
        inbox = maildir.read_state(self.disk, self.maildir)
        validity = self._next_validity(inbox)
        states = {
            path: FolderState(self._entropy(8).hex(), validity + number, 1, special_use=uses)
            for number, (path, uses) in enumerate(folders.items())
        }
        maildir.make_folders(self.disk, states, files)
        for path, state in states.items():
            self._states[state.folder] = (path, state)
        if inbox is not None:
            last = validity + len(states) - 1
            self.keep(self.maildir, replace(inbox, furnished=True, validities=last))

    def _validity(self, path: str) -> int:
        """A UIDVALIDITY that no folder of the account ever had: the name of a file that another program moves from
        one to another must not be believed there."""
        if path == self.maildir:
            return self._time()
        inbox = maildir.read_state(self.disk, self.maildir)
        validity = self._next_validity(inbox)
        if inbox is not None:
            self.keep(self.maildir, replace(inbox, validities=validity))
        return validity

    def _next_validity(self, inbox: FolderState | None) -> int:
        given = [state.validity for _, state in self._states.values()]
        if inbox is not None:
            given += [inbox.validity, inbox.validities]
        return max([self._time(), *(one + 1 for one in given)])

    def _time(self) -> int:
        return max(1, int(self.now())) & MAX_UID

    def fresh_base(self) -> str:
        """The base name of a message that had none of its own."""
        return f"{int(self.now())}.{self._entropy(8).hex()}D.parted"

    def keep(self, path: str, state: FolderState) -> None:
        """Write a folder's state down."""
        maildir.write_state(self.disk, path, state)
        self._states[state.folder] = (path, state)

    def uidlist(self, path: str) -> UidList | None:
        """What Dovecot wrote down of a folder."""
        if path not in self._uidlists:
            text = maildir.read_small(self.disk, os.path.join(path, UIDLIST), MAX_UIDLIST)
            self._uidlists.clear()
            self._uidlists[path] = parse_uidlist(text) if text else None
        return self._uidlists[path]

    def forget_uidlist(self) -> None:
        """It has been used; it may be large."""
        self._uidlists.clear()

    def opened(self, index: Index, path: str, state: FolderState) -> Folder:
        """A folder with its row."""
        row = index.folder(state.folder)
        if row is not None and row.validity != state.validity:
            # Another process has taken the folder over from Dovecot, with the numbers it had there.
            state = maildir.read_state(self.disk, path) or state
        if row is None or row.validity != state.validity or row.generation != self._generation:
            # A new or lost index, or one that an unclean stop may have taken back: what is on the disk decides,
            # and the numbers go on above all that were ever given.
            state = maildir.read_state(self.disk, path) or state
            raised = state.raised(uid=state.uid_ceiling, modseq=state.modseq_ceiling)
            maildir.write_state(self.disk, path, raised)
            row = index.put_folder(
                state.folder,
                state.validity,
                state.uid_ceiling,
                state.modseq_ceiling,
                self._generation,
            )
            state = raised
        return Folder(self.disk, index, path, state, row)

    # -- inside

    def _opened(self) -> Index:
        if self._index is not None:
            if self._index.current:
                return self._index
            self._index.close()
            self._index = None
        try:
            self._index = Index(self.disk, self._index_path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error) and not no_file(self.disk, self._index_path):
                raise
            self._set_aside(error)
            self._index = Index(self.disk, self._index_path)
        return self._index

    def _set_aside(self, error: Exception) -> None:
        aside = set_aside(self.disk, self._index_path)
        _log.error(
            "{path} is damaged ({error}): set aside as {aside}, and made anew of the mail that is there",
            path=self._index_path,
            error=str(error),
            aside=aside,
        )
