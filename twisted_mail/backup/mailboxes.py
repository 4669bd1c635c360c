"""One account into a backup: its folders as they were at one instant, while sessions go on changing them.

The names are read with the account's lock held: nobody of ours moves, renames or deletes a message meanwhile, so each
is there once, under the name that has its UID and its flags. Then the lock is let go, and what is new is copied. One
that is not where it was a moment ago has been moved, or flagged, or deleted: the names are read again, and at the last
try the lock is kept until all is copied. What stays is the list of the last reading, not a mixture.

The numbers are read after the names: a folder's state says ceilings that were synced before any UID at or above them
was given, so every UID of the list is below those of the state that follows it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..disk import Disk
from ..storage import maildir
from .copying import Copier, stamp_of
from .manifest import Entry, message_key
from .names import DATA

__all__ = ["DEPTH", "accounts", "add_folders", "copy_account"]

TRIES = 4
_OURS = ("new", "cur", "tmp")
_LOCKS = frozenset({"lock", "inbox.lock", "Maildir"})
_CACHES = ("index.sqlite3", "digests.sqlite3", "fulltext.sqlite3")
DEPTH = 8
"""Of directories that are looked into."""


def accounts(disk: Disk, mail: str) -> Iterator[str]:
    """The keys of all accounts in the directory `mail`."""
    left = [("", 0)]
    while left:
        key, depth = left.pop()
        try:
            names = disk.names(os.path.join(mail, key))
        except (FileNotFoundError, NotADirectoryError):
            continue
        if "Maildir" in names:
            yield key
        elif depth < DEPTH:
            left += [(os.path.join(key, name), depth + 1) for name in sorted(names, reverse=True)]


def copy_account(disk: Disk, copier: Copier, data: str, key: str) -> None:
    """Make the copy of an account what the account is now; of one that is gone nothing is left. Raises OSError."""
    home = os.path.join(data, "mail", key)
    for attempt in range(1, TRIES + 1):
        try:
            with _locked(disk, home) as let_go:
                found = _Account(disk, copier, home, key)
                found.read()
                if attempt < TRIES:
                    let_go()
                found.copy()
            return
        except FileNotFoundError:
            if not disk.exists(os.path.join(home, "Maildir")):
                _forget(copier, key)
                return
            if attempt == TRIES:
                raise


def add_folders(disk: Disk, copier: Copier, data: str, key: str) -> None:
    """Folders that were made since the account was copied: their names and numbers, none of their messages. The journal
    does not say that a folder is made, but has what was put there. Raises OSError."""
    top = os.path.join(data, "mail", key, "Maildir")
    try:
        names = ["", *(f"{name}/" for name in disk.names(top) if name.startswith("."))]
    except FileNotFoundError:
        return
    found = _Account(disk, copier, os.path.join(data, "mail", key), key)
    for name in names:
        if maildir.is_maildir(disk, os.path.join(top, name)):
            try:
                found.add_folder(name)
            except FileNotFoundError:
                continue  # removed again


def _forget(copier: Copier, key: str) -> None:
    prefix = f"{DATA}/mail/{key}/"
    for path in copier.manifest.under(prefix):
        copier.remove(path)
    copier.remove_directories(prefix, set())


@contextmanager
def _locked(disk: Disk, home: str) -> Iterator[Callable[[], None]]:
    """The account locked; gives what lets go before the end."""
    fd = disk.open(os.path.join(home, "lock"), os.O_RDWR | os.O_CREAT)
    held = [fd]
    try:
        disk.flock(fd, fcntl.LOCK_EX)
        yield lambda: disk.close(held.pop())
    finally:
        while held:
            disk.close(held.pop())


class _Account:
    """One account, read once."""

    def __init__(self, disk: Disk, copier: Copier, home: str, key: str) -> None:
        self._disk = disk
        self._copier = copier
        self._home = home
        self._key = key
        self._place = f"{DATA}/mail/{key}"
        self._directories: list[str] = []
        self._messages: dict[str, None] = {}
        """Paths below the Maildir."""

    def read(self) -> None:
        """The names of all messages. The account is locked."""
        top = os.path.join(self._home, "Maildir")
        folders = [""]
        for name in sorted(self._disk.names(top)):
            path = os.path.join(top, name)
            if name.startswith(".") and maildir.is_maildir(self._disk, path):
                folders.append(f"{name}/")
        for folder in folders:
            self._directories.append(folder)
            for sub in maildir.SUBDIRECTORIES:
                directory = os.path.join(top, folder, sub)
                # One of both is enough for a folder
                if self._disk.exists(directory):
                    for name in self._names(directory):
                        self._messages[f"{folder}{sub}/{name}"] = None
                elif not maildir.is_maildir(self._disk, os.path.join(top, folder)):
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)

    def _names(self, directory: str) -> set[str]:
        """readdir(3): what another program renames meanwhile may be missed. Then once more."""
        names: set[str] = set()
        for _ in range(3):
            before = self._disk.stat(directory).st_mtime_ns
            names.update(name for name in self._disk.names(directory) if name[0] != ".")
            if self._disk.stat(directory).st_mtime_ns == before:
                break
        return names

    def copy(self) -> None:
        """Make the copy agree. Raises FileNotFoundError when something is not there any more."""
        place = f"{self._place}/Maildir"
        for folder in self._directories:
            for sub in _OURS:
                self._copier.directory(f"{place}/{folder}{sub}")
        self._copy_messages(place)
        seen = self._copy_index()
        for folder in self._directories:
            seen |= self._copy_small(
                os.path.join(self._home, "Maildir", folder), f"{place}/{folder}"
            )
        seen |= self._copy_small(self._home, f"{self._place}/")
        for path in self._copier.manifest.under(f"{self._place}/"):
            if path not in seen and not _is_message(path):
                self._copier.remove(path)
        kept = {self._place, place}
        for folder in self._directories:
            kept |= {f"{place}/{folder}{sub}".rstrip("/") for sub in ("", *_OURS)}
        self._copier.remove_directories(f"{self._place}/", kept)

    def add_folder(self, folder: str) -> None:
        """One folder as it is, without messages, when there is none of that name."""
        place = f"{self._place}/Maildir/{folder}"
        if not self._copier.has_directory(f"{place}new"):
            for sub in _OURS:
                self._copier.directory(f"{place}{sub}")
            self._copy_small(os.path.join(self._home, "Maildir", folder), place)

    def _copy_messages(self, place: str) -> None:
        there = {
            path: key
            for path, key in self._copier.manifest.under(f"{place}/").items()
            if _is_message(path)
        }
        wanted = {f"{place}/{name}": name for name in self._messages}
        gone = {path: key for path, key in there.items() if path not in wanted}
        by_key: dict[int, list[str]] = {}
        for path, key in gone.items():
            by_key.setdefault(key, []).append(path)
        for path, name in wanted.items():
            if path in there:
                continue
            source = os.path.join(self._home, "Maildir", name)
            if os.path.islink(source):
                # Also one that leads nowhere, which would look like a message that has gone
                self._copier.skipped.append(f"{source}: a link, no message")
                continue
            key = message_key(self._place, maildir.base_of(os.path.basename(name)))
            renamed = self._renamed(by_key.get(key, ()), source)
            if renamed is not None:
                self._copier.rename(renamed, path)
                del gone[renamed.path]
                by_key[key].remove(renamed.path)
            else:
                self._copier.copy(source, path, key)
        for path in gone:
            self._copier.remove(path)

    def _renamed(self, candidates: list[str] | tuple[()], source: str) -> Entry | None:
        """The one that is called otherwise by now."""
        if not candidates:
            return None
        stamp = stamp_of(self._disk.stat(source))
        for path in candidates:
            entry = self._copier.manifest.get(path)
            if entry is not None and entry.stamp == stamp:
                return entry
        return None

    def _copy_index(self) -> set[str]:
        """It is a cache, but knows when a message was filed, and the UIDs of files whose names could not be changed."""
        source, path = os.path.join(self._home, _CACHES[0]), f"{self._place}/{_CACHES[0]}"
        if self._disk.exists(source):
            try:
                self._copier.database(source, path)
                return {path}
            except sqlite3.Error as error:
                # The names of the files make a new one.
                self._copier.skipped.append(f"{source}: {error}")
        return set()

    def _copy_small(self, directory: str, place: str) -> set[str]:
        """What else lies in a directory: states, keywords, subscriptions."""
        seen: set[str] = set()
        for name in self._disk.names(directory):
            source, path = os.path.join(directory, name), f"{place}{name}"
            if name in _LOCKS or name in _OURS or name.startswith(_CACHES):
                continue
            if name.endswith(".new"):
                continue  # not whole yet
            try:
                if stat.S_ISDIR(self._disk.stat(source).st_mode):
                    continue
                if self._copier.small(source, path):
                    seen.add(path)
            except FileNotFoundError:
                if self._disk.exists(directory):
                    continue  # a draft of somebody's, or a link to nowhere
                raise
        return seen


def _is_message(path: str) -> bool:
    return path.rsplit("/", 2)[-2] in ("new", "cur")
