"""A backup read again: is every file of its manifest there, with its size and its hash, and nothing else?"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from ..disk import Disk
from .copying import hash_of
from .manifest import Entry, Manifest
from .names import ABOUT, MANIFEST, About, BackupError, Progress, Silent, read_about

__all__ = ["check", "opened"]


@contextmanager
def opened(disk: Disk, path: str) -> Iterator[tuple[About, Manifest]]:
    """What the backup at `path` says of itself, and its manifest, whose hash is right. Raises BackupError."""
    about = read_about(disk, path)
    file = os.path.join(path, MANIFEST)
    try:
        fd = disk.open(file, os.O_RDONLY)
    except FileNotFoundError:
        raise BackupError(f"{path} is damaged: it has no {MANIFEST}") from None
    try:
        if hash_of(disk, fd).hex() != about.manifest:
            raise BackupError(f"{file} is damaged: its hash is not the one in {ABOUT}")
    finally:
        disk.close(fd)
    manifest = Manifest(disk, file, make=False)
    try:
        yield about, manifest
    except sqlite3.Error as error:
        raise BackupError(f"{file} cannot be read: {error}") from error
    finally:
        manifest.close()


def check(disk: Disk, path: str, progress: Progress | None = None, *, under: str = "") -> list[str]:
    """What is wrong with the backup at `path`, a line each; BackupError when not even its manifest can be read.

    `under`: only files whose paths begin so, and nothing of what is too much.
    """
    progress = progress or Silent()
    wrong: list[str] = []
    with opened(disk, path) as (about, manifest):
        progress.begin("checking", about.files, about.octets)
        try:
            for entry in manifest.files(under):
                said = _wrong(disk, path, entry)
                if said:
                    wrong.append(f"{entry.path}: {said}")
                progress.step(1, entry.size)
            if not under:
                wrong += [f"{name}: not in the manifest" for name in _strays(disk, path, manifest)]
        finally:
            progress.end()
    return wrong


def _wrong(disk: Disk, path: str, entry: Entry) -> str:
    try:
        fd = disk.open(os.path.join(path, entry.path), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        return error.strerror or str(error)
    try:
        size = disk.fstat(fd).st_size
        if size != entry.size:
            return f"{size} octets, not {entry.size}"
        return "" if hash_of(disk, fd) == entry.sha256 else "damaged: its hash is another one"
    except OSError as error:
        return error.strerror or str(error)
    finally:
        disk.close(fd)


def _strays(disk: Disk, path: str, manifest: Manifest) -> Iterator[str]:
    left = [""]
    while left:
        at = left.pop()
        for name in disk.names(os.path.join(path, at)):
            one = os.path.join(at, name)
            if one in (ABOUT, MANIFEST) or manifest.get(one) is not None:
                continue
            if stat.S_ISDIR(disk.stat(os.path.join(path, one)).st_mode):
                left.append(one)
            else:
                yield one
