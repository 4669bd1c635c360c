"""A data directory made of a backup.

Every file is hashed while it is copied. Until all is there ``site.json`` says ``restoring`` in the place of a version,
which every server refuses; it is replaced last. The directory has to be empty or not there, so no server serves it.

No number is given twice. What was given after the backup is not known to it: UIDs and mod-sequences of every folder go
on far above (`UIDS`, `MODSEQS`) the ceilings that it had then, and the count of unclean stops goes up, so that every
index is compared with its Maildir, and each message counts as changed. UIDs, UIDVALIDITY, flags and ids stay.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from ..disk import Disk, make_directories
from ..storage import maildir, site_file
from ..storage.maildir import MAX_UID, STATE_FILE, write_small
from .checking import opened
from .copying import BLOCK
from .journal import rewrite
from .manifest import Entry, Manifest
from .names import DATA, About, BackupError, Progress, Silent

__all__ = ["MODSEQS", "UIDS", "Restored", "restore"]

UIDS: Final = 1_000_000
"""UIDs of each folder that are not given: those that may have been given after the backup. Where fewer are left than
16 times that, a sixteenth of them."""
MODSEQS: Final = 1_000_000_000
_ACCOUNTS = f"{DATA}/accounts.sqlite3"
_SITE = f"{DATA}/site.json"
_JOURNAL = f"{DATA}/journal/"
_PARKED = f"{DATA}/parked/"
_QUEUE = (f"{DATA}/queue/", f"{DATA}/queue.sqlite3")


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back. `damaged`: what is left out because its hash was another one."""

    about: About
    files: int
    octets: int
    damaged: tuple[str, ...]


def restore(
    disk: Disk,
    path: str,
    data: str,
    *,
    entropy: Callable[[int], bytes],
    queue: bool = True,
    skip_damaged: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Make the data directory `data` of the backup at `path`. Without `queue` what waited to be sent is left out.

    Raises BackupError, also for a damaged file unless `skip_damaged`; OSError.
    """
    data, path = os.path.abspath(data), os.path.abspath(path)
    with opened(disk, path) as (about, manifest):
        if about.site > site_file.VERSION:
            raise BackupError(
                f"{path} was made of data of version {about.site} of the format (twisted_mail {about.server}), this"
                f" program knows {site_file.VERSION}; use the newer program"
            )
        _check(disk, path, data)
        work = _Restoring(disk, path, data, manifest, entropy, queue, skip_damaged)
        progress = progress or Silent()
        progress.begin("restoring", about.files, about.octets)
        try:
            work.run(progress, about)
        finally:
            progress.end()
    return Restored(about, work.files, work.octets, tuple(work.damaged))


def _check(disk: Disk, path: str, data: str) -> None:
    real, backup = os.path.realpath(data), os.path.realpath(path)
    if os.path.commonpath((real, backup)) in (real, backup):
        raise BackupError(f"{data} and {path}: one lies in the other")
    if not disk.exists(data):
        return
    names = [name for name in disk.names(data) if name != "lost+found"]
    if not names:
        return
    text = maildir.read_small(disk, os.path.join(data, "site.json")) or b""
    if site_file.RESTORING.encode() in text:
        raise BackupError(
            f"{data} holds what is left of a restore that was interrupted; empty it first"
        )
    raise BackupError(
        f"{data} is not empty: what is in it is not overwritten; restore elsewhere, or move it away"
    )


class _Restoring:
    """One restore."""

    def __init__(
        self,
        disk: Disk,
        path: str,
        data: str,
        manifest: Manifest,
        entropy: Callable[[int], bytes],
        queue: bool,
        skip_damaged: bool,
    ) -> None:
        self._disk = disk
        self._path = path
        self._data = data
        self._manifest = manifest
        self._entropy = entropy
        self._queue = queue
        self._skip_damaged = skip_damaged
        self.files = 0
        self.octets = 0
        self.damaged: list[str] = []

    def run(self, progress: Progress, about: About) -> None:
        disk, data = self._disk, self._data
        make_directories(disk, data)
        site = os.path.join(data, "site.json")
        marker = {"version": site_file.RESTORING, "generation": 0, "backup": about.name}
        write_small(disk, site, json.dumps(marker).encode() + b"\n")
        held = disk.open(data, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in self._manifest.directories(f"{DATA}/"):
                if self._wanted(name):
                    self._make(os.path.join(data, name[len(DATA) + 1 :]))
            # The file that a server would make for itself, if one were started now
            accounts = self._manifest.get(_ACCOUNTS)
            if accounts is not None:
                self._put(accounts)
            for entry in self._manifest.files():
                if self._wanted(entry.path) and entry.path not in (_ACCOUNTS, _SITE):
                    self._put(entry)
                progress.step(1, entry.size)
            disk.syncfs(held)
        finally:
            disk.close(held)
        stored = self._manifest.get(_SITE)
        if stored is None:
            # Nothing was ever started there.
            disk.unlink(site)
            disk.sync_directory(data)
            return
        # What it says is in backup.json, too; but who flips bytes here flips them elsewhere.
        checked = os.path.join(data, "site.json.old")
        if not self._copied(stored, checked):
            self._damaged(stored)
        else:
            disk.unlink(checked)
            self.files += 1
        values = {"version": about.site, "generation": about.generation + 1}
        write_small(disk, site, json.dumps(values).encode() + b"\n")

    def _wanted(self, path: str) -> bool:
        return path.startswith(f"{DATA}/") and (self._queue or not path.startswith(_QUEUE))

    def _make(self, path: str) -> None:
        if not self._disk.exists(path):
            self._disk.mkdir(path, 0o700)

    def _put(self, entry: Entry) -> None:
        target = os.path.join(self._data, entry.path[len(DATA) + 1 :])
        if not self._linked(entry, target) and not self._copied(entry, target):
            self._damaged(entry)
            return
        self.files += 1
        self.octets += entry.size
        if os.path.basename(target) == STATE_FILE:
            self._raise_numbers(os.path.dirname(target))
        elif entry.path.endswith(".log") and entry.path.startswith((_JOURNAL, _PARKED)):
            self._rewrite(target)

    def _damaged(self, entry: Entry) -> None:
        """Raises BackupError, or remembers it."""
        if not self._skip_damaged:
            raise BackupError(
                f"{os.path.join(self._path, entry.path)} is damaged or gone: its hash is not the one in the manifest."
                f" {self._data} is not complete, empty it; --skip-damaged leaves out what is damaged, and tells of it"
            )
        self.damaged.append(entry.path)

    def _linked(self, entry: Entry, target: str) -> bool:
        """A message that lay in many mailboxes is one file again."""
        for other in self._manifest.by_inode(entry.inode):
            if other.path >= entry.path:
                return False
            if (
                (other.stamp, other.sha256, other.mtime) == (entry.stamp, entry.sha256, entry.mtime)
                and entry.stamp
                and not other.path.endswith((".log", STATE_FILE))
            ):
                first = os.path.join(self._data, other.path[len(DATA) + 1 :])
                try:
                    self._disk.link(first, target)
                except OSError:
                    continue
                return True
        return False

    def _copied(self, entry: Entry, target: str) -> bool:
        disk, digest = self._disk, sha256()
        try:
            fd = disk.open(os.path.join(self._path, entry.path), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            out = disk.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                at = 0
                while block := disk.pread(fd, BLOCK, at):
                    digest.update(block)
                    disk.write(out, block)
                    at += len(block)
                disk.utime(out, entry.mtime)
            finally:
                disk.close(out)
        finally:
            disk.close(fd)
        if digest.digest() == entry.sha256:
            return True
        disk.unlink(target)
        return False

    def _raise_numbers(self, folder: str) -> None:
        state = maildir.read_state(self._disk, folder)
        if state is None:
            return
        room = max(0, MAX_UID - state.uid_ceiling)
        uids = state.uid_ceiling + min(UIDS, room // 16)
        raised = replace(state, uid_ceiling=uids, modseq_ceiling=state.modseq_ceiling + MODSEQS)
        maildir.write_state(self._disk, folder, raised)

    def _rewrite(self, path: str) -> None:
        # Beside it: a name that ends otherwise is no segment.
        old = f"{path}.old"
        self._disk.rename(path, old)
        rewrite(self._disk, old, path, queue=self._queue, entropy=self._entropy)
        self._disk.unlink(old)
