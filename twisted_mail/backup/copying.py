"""One file into a backup: copied and hashed in one go, or one more name of what the last backup has of it.

A file is not copied again when the last backup has it under the same key (a message: the account and the base of its
name, which is unique for ever; anything else: its path) and its source has the same inode, size and modification time
(ns); when only the size is the same it is read, and the hashes decide. What is small and changes is always read. So a
copy that went bad in the last backup goes bad in this one, too: `checking` finds it, and a backup without links copies
everything anew.

A message that lies in many mailboxes is one file there, and one file here. Only regular files are read, never what a
symbolic link leads to.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from hashlib import sha256

from ..disk import Disk
from .manifest import Entry, Manifest, key_of
from .names import BackupError, Progress

__all__ = ["BLOCK", "Copier", "hash_of"]

BLOCK = 1 << 20
"""Octets read at once."""
_SECOND = 1_000_000_000
_SETTLED = 100_000_000
"""Nanoseconds after which a modification time tells of every change: clocks that stamp files tick coarsely."""
_CANNOT_LINK = frozenset({errno.EMLINK, errno.EXDEV, errno.EPERM, errno.ENOTSUP})
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class Copier:
    """Into the directory `target`, noted in `manifest`. `last`: the directory and the manifest of the last backup."""

    def __init__(
        self,
        disk: Disk,
        target: str,
        manifest: Manifest,
        last: tuple[str, Manifest] | None,
        progress: Progress,
    ) -> None:
        self._disk = disk
        self._target = target
        self._last = last
        self._progress = progress
        self._made: set[str] = set()
        self.manifest = manifest
        self.skipped: list[str] = []
        """What was left out, and why."""

    # -- directories and names

    def directory(self, path: str) -> None:
        """Have a directory, also when nothing is in it. Its name is synced at the end, with everything."""
        if path in self._made:
            return
        above = os.path.dirname(path)
        if above:
            self.directory(above)
        if not self._disk.exists(self._path(path)):
            self._disk.mkdir(self._path(path), 0o700)
        self.manifest.put_directory(path)
        self._made.add(path)

    def has_directory(self, path: str) -> bool:
        return path in self._made

    def rename(self, entry: Entry, path: str) -> None:
        """It is called so now."""
        self.directory(os.path.dirname(path))
        self._disk.rename(self._path(entry.path), self._path(path))
        self.manifest.remove(entry.path)
        self.manifest.put(entry._replace(path=path))

    def remove(self, path: str) -> None:
        """It is not there any more."""
        self._disk.unlink(self._path(path))
        self.manifest.remove(path)

    def remove_directories(self, prefix: str, kept: set[str]) -> None:
        """Those whose path begins so, but for `kept`; they are empty."""
        for path in reversed(self.manifest.directories(prefix)):
            if path not in kept:
                self._disk.rmdir(self._path(path))
                self.manifest.remove_directory(path)
                self._made.discard(path)

    def _path(self, path: str) -> str:
        return os.path.join(self._target, path)

    # -- files

    def copy(self, source: str, path: str, key: int = 0) -> bool:
        """A file that is never changed once it is there. False: it is no regular file, and is left out.

        Raises FileNotFoundError when it has gone, or OSError.
        """
        key = key or key_of(path)
        found = self._disk.stat(source)
        stamp = stamp_of(found)
        for entry in self._last_of(key):
            if entry.stamp == stamp and self._link_last(entry, path, key, found):
                return True
        if found.st_nlink > 1 and found.st_mtime_ns % _SECOND:
            # One file for many mailboxes. A time in whole seconds was set by somebody, and proves less.
            for entry in self.manifest.by_inode(found.st_ino):
                if entry.stamp == stamp and self._link(self._path(entry.path), path):
                    self._note(entry._replace(path=path, key=key), linked=True)
                    return True
        fd = self._open(source)
        if fd < 0:
            return False
        try:
            found = self._disk.fstat(fd)
            same_size = [one for one in self._last_of(key) if one.size == found.st_size]
            if same_size:
                digest = hash_of(self._disk, fd)
                for entry in same_size:
                    if entry.sha256 == digest and self._link_last(entry, path, key, found):
                        return True
            self._write(fd, found, path, key)
        finally:
            self._disk.close(fd)
        return True

    def fresh(self, source: str, path: str, found: os.stat_result) -> bool:
        """`copy`, for what may have been copied already, and replaced by another file of that name."""
        known = self.manifest.get(path)
        if known is not None:
            if known.stamp == stamp_of(found):
                return True
            self.remove(path)
        return self.copy(source, path)

    def small(self, source: str, path: str) -> bool:
        """A file that may be replaced at any time: read, and linked when the last backup has the same. As `copy`."""
        fd = self._open(source)
        if fd < 0:
            return False
        try:
            found = self._disk.fstat(fd)
            known = self.manifest.get(path)
            last = self._last_of(key_of(path))
            if any(one is not None and one.size == found.st_size for one in (known, *last)):
                digest = hash_of(self._disk, fd)
                if known is not None and known.sha256 == digest:
                    return True
                last = [one for one in last if one.sha256 == digest]
            else:
                last = []
            if known is not None:
                self.remove(path)
            if any(self._link_last(one, path, key_of(path), found) for one in last):
                return True
            self._write(fd, found, path, key_of(path))
        finally:
            self._disk.close(fd)
        return True

    def segment(self, source: str, path: str) -> None:
        """A file that is being appended to: as far as it goes now."""
        fd = self._open(source)
        if fd < 0:
            raise BackupError(f"{source} is not a file")
        try:
            if self.manifest.get(path) is not None:
                self.remove(path)
            self._write(fd, self._disk.fstat(fd), path, key_of(path))
        finally:
            self._disk.close(fd)

    def database(self, source: str, path: str) -> None:
        """An SQLite file as it is between two transactions, whoever writes it. Raises sqlite3.Error, OSError."""
        stamp = self._database_stamp(source)
        known = self.manifest.get(path)
        if known is not None:
            if stamp and known.stamp == stamp:
                return
            self.remove(path)
        found = self._disk.stat(source)
        key = key_of(path)
        for entry in self._last_of(key):
            if stamp and entry.stamp == stamp and self._link_last(entry, path, key, found, stamp):
                return
        self.directory(os.path.dirname(path))
        target = self._path(path)
        self._disk.close(self._disk.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            _copy_database(source, target)
        except BaseException:
            self._disk.unlink(target)
            raise
        fd = self._disk.open(target, os.O_RDONLY)
        try:
            size, digest = self._disk.fstat(fd).st_size, hash_of(self._disk, fd)
        finally:
            self._disk.close(fd)
        for entry in self._last_of(key):
            if (entry.size, entry.sha256) == (size, digest):
                self._disk.unlink(target)
                if self._link_last(entry, path, key, found, stamp):
                    return
                raise OSError(errno.ESTALE, "the last backup is being changed", entry.path)
        entry = Entry(path, key, size, int(found.st_mtime), found.st_ino, stamp, digest)
        self._note(entry, linked=False)

    def _database_stamp(self, source: str) -> str:
        """ "" when it was changed just now: the next change may not show."""
        parts = []
        now = self._disk.clock_ns()
        for name in (source, f"{source}-wal"):
            try:
                found = self._disk.stat(name)
            except FileNotFoundError:
                continue
            if not 0 <= found.st_mtime_ns < now - _SETTLED:
                return ""
            if found.st_size or name is source:
                parts.append(stamp_of(found))
        return "+".join(parts)

    def _open(self, source: str) -> int:
        """A descriptor; -1 for what is no regular file."""
        try:
            fd = self._disk.open(source, _READ)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                self.skipped.append(f"{source}: not a file")
                return -1
            raise
        if not stat.S_ISREG(self._disk.fstat(fd).st_mode):
            self._disk.close(fd)
            self.skipped.append(f"{source}: not a file")
            return -1
        return fd

    def _last_of(self, key: int) -> list[Entry]:
        return self._last[1].by_key(key) if self._last is not None else []

    def _link_last(
        self, entry: Entry, path: str, key: int, found: os.stat_result, stamp: str = ""
    ) -> bool:
        assert self._last is not None
        if not self._link(os.path.join(self._last[0], entry.path), path):
            return False
        stamp = stamp or stamp_of(found)
        self._note(
            Entry(path, key, entry.size, entry.mtime, found.st_ino, stamp, entry.sha256),
            linked=True,
        )
        return True

    def _link(self, source: str, path: str) -> bool:
        self.directory(os.path.dirname(path))
        try:
            self._disk.link(source, self._path(path))
        except FileNotFoundError:
            return False  # somebody has taken it out of the last backup
        except OSError as error:
            if error.errno in _CANNOT_LINK:
                return False
            raise
        return True

    def _write(self, fd: int, found: os.stat_result, path: str, key: int) -> None:
        """Copy what is open, as far as it goes now."""
        self.directory(os.path.dirname(path))
        digest = sha256()
        at = 0
        target = self._path(path)
        out = self._disk.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                while at < found.st_size:
                    block = self._disk.pread(fd, min(BLOCK, found.st_size - at), at)
                    if not block:
                        break
                    digest.update(block)
                    self._disk.write(out, block)
                    at += len(block)
                mtime = max(0, int(found.st_mtime))
                self._disk.utime(out, mtime)
            finally:
                self._disk.close(out)
        except BaseException:
            self._disk.unlink(target)
            raise
        entry = Entry(path, key, at, mtime, found.st_ino, stamp_of(found), digest.digest())
        self._note(entry, linked=False)

    def _note(self, entry: Entry, *, linked: bool) -> None:
        self.manifest.put(entry._replace(linked=int(linked)))
        self._progress.step(1, entry.size)


def stamp_of(found: os.stat_result) -> str:
    """What a file is known by while nobody changes it."""
    return f"{found.st_ino}.{found.st_size}.{found.st_mtime_ns}"


def hash_of(disk: Disk, fd: int) -> bytes:
    """The SHA-256 of an open file."""
    digest = sha256()
    at = 0
    while block := disk.pread(fd, BLOCK, at):
        digest.update(block)
        at += len(block)
    return digest.digest()


def _copy_database(source: str, target: str) -> None:
    """Readers keep nobody from writing (WAL); what is committed meanwhile is not in it."""
    old = sqlite3.connect(source, timeout=20, isolation_level=None)
    try:
        new = sqlite3.connect(target, isolation_level=None)
        try:
            new.execute("PRAGMA synchronous=OFF")
            old.backup(new)
        finally:
            new.close()
    finally:
        old.close()
