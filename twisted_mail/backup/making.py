"""Making a backup of a site while it runs.

First everything is copied once, which may take hours, with nothing held back. Then comes the *window*: no segment of
the journal is dropped, all is gone through once more (what has changed since is copied, renamed or removed), in this
order: mail that is parked, mailboxes, other files, databases, and the journal last. What is in a backup then is
what a power cut at the end of the window might have left, but whole: each account as it was at an instant in the
window, and the journal with every record since the window began. The start after a restore replays it.

So every message that was answered with 250 before the backup began is in it, unless it was deleted; what came while it
was made mostly is, too.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .. import __version__
from ..disk import Disk, make_directories
from ..storage.site_file import SiteFile
from .copying import Copier, hash_of
from .journal import Pinned, copy_journal
from .mailboxes import DEPTH, accounts, add_folders, copy_account
from .manifest import Manifest
from .names import (
    ABOUT,
    DATA,
    FORMAT,
    MANIFEST,
    PARTIAL,
    About,
    BackupError,
    Progress,
    Silent,
    complete,
    leftovers,
    name_of,
    read_about,
    remove_tree,
)

__all__ = ["Backup", "Made"]

WINDOWS = 5
"""How often it is begun anew because the server was stopped or started meanwhile."""
_APART = frozenset({"mail", "journal", "parked", "queue", "removed"})
_LEFT_OUT = frozenset({"processes", "deleted", "site.json"})
_NEEDED = frozenset({"accounts.sqlite3", "queue.sqlite3"})
_BESIDE = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that is complete. `skipped`: what was left out, and why. `removed`: older ones that went."""

    path: str
    about: About
    skipped: tuple[str, ...]
    removed: tuple[str, ...]


class Backup:
    """Backups of the data directory `data` in the directory `target`, which is made.

    `extra`: other files, by their names below ``config``. `now`: seconds since 1970. All methods block. Raises
    BackupError for what the operator should hear, OSError and sqlite3.Error.
    """

    def __init__(
        self,
        disk: Disk,
        data: str,
        target: str,
        *,
        now: Callable[[], float],
        hostname: str = "",
        extra: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._disk = disk
        self._data = os.path.realpath(data)
        self._target = os.path.realpath(target)
        self._now = now
        self._hostname = hostname
        self._extra = dict(extra or {})
        self._progress = progress or Silent()

    def make(self, *, keep: int | None = None, full: bool = False) -> Made:
        """Make one, and remove the oldest so that `keep` are left. `full`: nothing is linked to the last one."""
        disk = self._disk
        self._check()
        make_directories(disk, self._target)
        lock = disk.open(os.path.join(self._target, ".lock"), os.O_RDWR | os.O_CREAT)
        try:
            try:
                disk.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BackupError(f"another backup is being made in {self._target}") from None
            for name in leftovers(disk, self._target):
                remove_tree(disk, os.path.join(self._target, name))
            names = complete(disk, self._target)
            name = name_of(self._now())
            if name in names:
                raise BackupError(f"{self._target} has a backup of this second; once more")
            last = os.path.join(self._target, names[-1]) if names else None
            try:
                made = self._make(name, None if full else last)
            except (OSError, sqlite3.Error) as error:
                self._explain(error, last)
                raise
            removed = self._remove_old(keep)
        finally:
            disk.close(lock)
        return Made(os.path.join(self._target, name), made[0], tuple(made[1]), tuple(removed))

    def _check(self) -> None:
        data, target = self._data, self._target
        if not self._disk.exists(data):
            raise BackupError(f"there is no data directory {data}")
        if os.path.commonpath((data, target)) in (data, target):
            raise BackupError(
                f"{target} and the data directory {data}: one lies in the other; a backup goes elsewhere"
            )

    def _make(self, name: str, last: str | None) -> tuple[About, list[str]]:
        disk = self._disk
        path = os.path.join(self._target, name)
        partial = path + PARTIAL
        before: Manifest | None = None
        held = -1
        try:
            disk.mkdir(partial, 0o700)
            # A file system tells a descriptor of each write that failed since it was opened.
            held = disk.open(partial, os.O_RDONLY | os.O_DIRECTORY)
            if last is not None:
                before = self._open_last(last)
            manifest = Manifest(disk, os.path.join(partial, MANIFEST), make=True)
            try:
                known = (last, before) if last is not None and before is not None else None
                copier = Copier(disk, partial, manifest, known, self._progress)
                site = self._copy(copier, partial)
                files, octets, copied, written = manifest.totals()
            finally:
                manifest.close()
            about = About(
                format=FORMAT,
                name=name,
                server=__version__,
                hostname=self._hostname,
                begun=name,
                finished=name_of(self._now()),
                files=files,
                octets=octets,
                copied=copied,
                written=written,
                site=site.version,
                generation=site.generation,
                manifest=self._hash(os.path.join(partial, MANIFEST)),
            )
            self._write(os.path.join(partial, ABOUT), about.to_bytes())
            disk.syncfs(held)
            disk.rename(partial, path)
            disk.sync_directory(self._target)
            # Everything is gone through twice
            return about, list(dict.fromkeys(copier.skipped))
        except BaseException:
            self._give_up(partial)
            raise
        finally:
            if held >= 0:
                disk.close(held)
            if before is not None:
                before.close()

    def _open_last(self, last: str) -> Manifest | None:
        """The manifest of the last backup; None when it is damaged, so that nothing is linked to what it says."""
        try:
            about = read_about(self._disk, last)
            path = os.path.join(last, MANIFEST)
            if self._hash(path) == about.manifest:
                return Manifest(self._disk, path, make=False)
        except (BackupError, OSError):
            pass
        return None

    def _give_up(self, partial: str) -> None:
        try:
            remove_tree(self._disk, partial)
        except OSError:
            pass  # the next backup does it

    def _explain(self, error: BaseException, last: str | None) -> None:
        """Raises BackupError for a full disk."""
        text = str(error)
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or (isinstance(error, sqlite3.OperationalError) and "is full" in text):
            kept = f"; {last} is untouched" if last is not None else ""
            raise BackupError(
                f"the file system of {self._target} is full: this backup was removed again{kept}"
            ) from error

    # -- what is copied

    def _copy(self, copier: Copier, partial: str) -> SiteFile:
        """Gives what the site's file said."""
        self._pass(copier, "mail")
        for _ in range(WINDOWS):
            pinned = Pinned(self._disk, self._data)
            try:
                site = SiteFile(self._disk, self._data)
                site.read()
                self._pass(copier, "what changed meanwhile")
                for key in copy_journal(self._disk, copier, self._data, partial):
                    add_folders(self._disk, copier, self._data, key)
                if pinned.kept():
                    break
            finally:
                pinned.close()
        else:
            raise BackupError("the server was stopped or started again and again; once more later")
        path = os.path.join(self._data, "site.json")
        if self._disk.exists(path):
            copier.small(path, f"{DATA}/site.json")
        for name, source in self._extra.items():
            copier.small(source, f"config/{name}")
        return site

    def _pass(self, copier: Copier, what: str) -> None:
        """Bring the copy to what is there now. The order counts: what is parked may be in its mailbox a moment later,
        and the rows of the queue are what a replay of the journal corrects."""
        disk, data = self._disk, self._data
        copier.directory(DATA)
        self._progress.begin(what, 0, 0)
        try:
            self._tree(copier, "parked")
            self._accounts(copier)
            self._tree(copier, "removed")
            seen: set[str] = set()
            databases = []
            for name in sorted(disk.names(data)):
                path = os.path.join(data, name)
                if name in _APART or name in _LEFT_OUT or name.endswith((".lock", *_BESIDE)):
                    continue
                if ".new" in name:
                    continue  # not whole yet
                try:
                    if stat.S_ISDIR(disk.stat(path).st_mode):
                        self._tree(copier, name, small=True)
                    elif name.endswith(".sqlite3"):
                        databases.append(name)
                    elif copier.small(path, f"{DATA}/{name}"):
                        seen.add(f"{DATA}/{name}")
                except FileNotFoundError:
                    continue
            self._tree(copier, "queue")
            for name in databases:
                if self._database(copier, name):
                    seen.add(f"{DATA}/{name}")
            for path in copier.manifest.under(f"{DATA}/"):
                if path.count("/") == 1 and path not in seen:
                    copier.remove(path)
        finally:
            self._progress.end()

    def _accounts(self, copier: Copier) -> None:
        mail = os.path.join(self._data, "mail")
        if not self._disk.exists(mail):
            return
        copier.directory(f"{DATA}/mail")
        known = {
            path[len(DATA) + 6 :].partition("/Maildir")[0]
            for path in copier.manifest.directories(f"{DATA}/mail/")
            if path.endswith("/Maildir/new")
        }
        for key in accounts(self._disk, mail):
            known.discard(key)
            copy_account(self._disk, copier, self._data, key)
        for key in known:
            copy_account(self._disk, copier, self._data, key)

    def _database(self, copier: Copier, name: str) -> bool:
        source = os.path.join(self._data, name)
        try:
            copier.database(source, f"{DATA}/{name}")
        except FileNotFoundError:
            return False
        except sqlite3.DatabaseError as error:
            if name in _NEEDED:
                raise BackupError(f"{source} cannot be copied: {error}") from error
            # What the others hold is found out again, or was a log.
            copier.skipped.append(f"{source}: {error}")
            return False
        return True

    def _tree(self, copier: Copier, top: str, *, small: bool = False) -> None:
        """A directory of files; not `small`: those are never changed once they are there."""
        disk = self._disk
        there = copier.manifest.under(f"{DATA}/{top}/")
        seen: set[str] = set()
        directories: set[str] = set()
        left = [top] if disk.exists(os.path.join(self._data, top)) else []
        while left:
            at = left.pop()
            try:
                names = disk.names(os.path.join(self._data, at))
            except FileNotFoundError:
                continue
            copier.directory(f"{DATA}/{at}")
            directories.add(f"{DATA}/{at}")
            for name in names:
                source, path = os.path.join(self._data, at, name), f"{DATA}/{at}/{name}"
                if name.endswith((".new", ".lock", *_BESIDE)):
                    continue
                try:
                    found = disk.stat(source)
                    if stat.S_ISDIR(found.st_mode):
                        if at.count("/") < DEPTH:
                            left.append(f"{at}/{name}")
                    elif small:
                        if copier.small(source, path):
                            seen.add(path)
                    elif copier.fresh(source, path, found):
                        seen.add(path)
                except FileNotFoundError:
                    continue
        for path in there:
            if path not in seen:
                copier.remove(path)
        copier.remove_directories(f"{DATA}/{top}/", directories)

    # -- small things

    def _hash(self, path: str) -> str:
        fd = self._disk.open(path, os.O_RDONLY)
        try:
            return hash_of(self._disk, fd).hex()
        finally:
            self._disk.close(fd)

    def _write(self, path: str, data: bytes) -> None:
        fd = self._disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            self._disk.write(fd, data)
            self._disk.fdatasync(fd)
        finally:
            self._disk.close(fd)

    def _remove_old(self, keep: int | None) -> list[str]:
        """Only what is complete and ours; first out of the way, so that no half of one looks like a whole one."""
        if keep is None:
            return []
        removed = []
        for name in complete(self._disk, self._target)[: -max(keep, 1)]:
            path = os.path.join(self._target, name)
            try:
                read_about(self._disk, path)
            except BackupError:
                continue
            self._disk.rename(path, f"{path}.removing")
            remove_tree(self._disk, f"{path}.removing")
            removed.append(name)
        return removed
