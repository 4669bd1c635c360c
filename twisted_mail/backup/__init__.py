"""Backups of a whole site while it runs, and a site made of one.

    DIR/2026-11-21T22-30-00Z/       one backup; ``….partial`` until it is complete
        backup.json                 what it is, and the hash of the manifest
        manifest.sqlite3            every file with its SHA-256 (`manifest`)
        data/…                      as in the data directory
        config/…                    mail.toml and certificates

`making` makes one, `checking` reads it again, `restoring` makes a data directory of it.
"""

from .making import Backup, Made
from .names import BackupError, Progress, complete, newest
from .restoring import Restored, restore

__all__ = [
    "Backup",
    "BackupError",
    "Made",
    "Progress",
    "Restored",
    "complete",
    "newest",
    "restore",
]
