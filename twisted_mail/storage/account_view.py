"""What an account holds, for who looks from beside the server. Nothing is made, nor compared with the files: what has
rows is counted by them, and what has arrived since by its names.

As exact as what quotas are asked about (`storage.quota`). Blocks.
"""

from __future__ import annotations

import fcntl
import os

from ..disk import Disk
from . import maildir
from .index import Index

__all__ = ["usage"]


def usage(disk: Disk, home: str) -> tuple[int, int] | None:
    """Octets as stored, and messages, of the account in the directory `home`; None when nobody has counted them yet,
    as its index is not there. Raises OSError, sqlite3.Error."""
    inbox = os.path.join(home, "Maildir")
    if not disk.exists(inbox):
        return 0, 0
    path = os.path.join(home, "index.sqlite3")
    if not disk.exists(path):
        # Mail has arrived, and nobody has looked yet.
        names = _names(disk, inbox)
        return _arrived(names) if all(map(maildir.is_arriving, names)) else None
    # An index is opened under the account's lock.
    lock = disk.open(os.path.join(home, "lock"), os.O_RDWR | os.O_CREAT)
    try:
        disk.flock(lock, fcntl.LOCK_EX)
        index = Index(disk, path)
        try:
            octets, messages = _arrived(_names(disk, inbox))
            known = index.usage()
            return (known[0] + octets, known[1] + messages) if index.folders() else None
        finally:
            index.close()
    finally:
        disk.close(lock)


def _names(disk: Disk, folder: str) -> list[str]:
    return [
        name
        for sub in maildir.SUBDIRECTORIES
        for name in disk.names(os.path.join(folder, sub))
        if name[0] != "."
    ]


def _arrived(names: list[str]) -> tuple[int, int]:
    """Octets and messages that have no row yet."""
    sizes = [maildir.FileName.parse(name).size or 0 for name in names if maildir.is_arriving(name)]
    return sum(sizes), len(sizes)
