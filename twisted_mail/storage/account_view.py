"""What an account holds, for who looks from beside the server. Nothing is made, nor compared with the files.

As exact as what quotas are asked about (`storage.quota`). Blocks.
"""

from __future__ import annotations

import fcntl
import os

from ..disk import Disk
from .index import Index

__all__ = ["usage"]


def usage(disk: Disk, home: str) -> tuple[int, int] | None:
    """Octets as stored, and messages, of the account in the directory `home`; None when nobody has counted them yet,
    as its index is not there. Raises OSError, sqlite3.Error."""
    if not disk.exists(os.path.join(home, "Maildir")):
        return 0, 0
    path = os.path.join(home, "index.sqlite3")
    if not disk.exists(path):
        return None
    # An index is opened under the account's lock.
    lock = disk.open(os.path.join(home, "lock"), os.O_RDWR | os.O_CREAT)
    try:
        disk.flock(lock, fcntl.LOCK_EX)
        index = Index(disk, path)
        try:
            return index.usage() if index.folders() else None
        finally:
            index.close()
    finally:
        disk.close(lock)
