"""What `mailctl verify` says of something, and looks that both an account and a site are given."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from ..disk import Disk
from .aside import is_damage, no_file, set_aside

__all__ = ["Problem", "check_database", "exposed", "out_of_reach", "patiently", "read_only"]

LOOKS: Final = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be, `where` (a path). `advice`: what mends it, or what ``--repair`` does, if
    there is a `mend`; that may raise OSError or sqlite3.Error. A `note` says something and is no fault."""

    what: str
    where: str
    text: str
    advice: str
    mend: Callable[[], object] | None = None
    note: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """The same when it is seen again."""
        return self.what, self.where, self.text


def patiently(look: Callable[[], Iterable[Problem]]) -> list[Problem]:
    """What a look finds; begun anew when a directory or a file goes just then. Raises OSError."""
    for _ in range(LOOKS):
        try:
            return list(look())
        except FileNotFoundError:
            continue
    return list(look())


def check_database(disk: Disk, path: str, what: str) -> Iterator[Problem]:
    """A database of SQLite that can be had again: looked through; nothing when it is not there."""
    if not disk.exists(path):
        return
    inode = disk.stat(path).st_ino
    text = "is not a file"
    if not no_file(disk, path):
        try:
            with closing(read_only(path)) as db:
                found = [row[0] for row in db.execute("PRAGMA integrity_check(3)")]
        except sqlite3.Error as error:
            if not is_damage(error):
                yield Problem(what, path, f"cannot be read: {error}", "look who has it, and why")
                return
            found = [str(error)]
        if found == ["ok"]:
            return
        text = f"is damaged: {'; '.join(found)[:300]}"
    yield Problem(
        what,
        path,
        text.replace("\n", " "),
        "--repair sets it aside: it is made anew when it is needed",
        lambda: set_aside(disk, path, inode),
    )


def read_only(path: str) -> sqlite3.Connection:
    """A connection that changes nothing."""
    return sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=10)


def exposed(disk: Disk, path: str, owner: int | None = None) -> Iterator[Problem]:
    """Whether others than its owner get at a file or directory, and whether `owner`, who serves, does. Modes are never
    changed: they may be meant."""
    status = disk.stat(path)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        right = "700" if stat.S_ISDIR(status.st_mode) else "600"
        yield Problem(
            "permissions", path, f"others may get at it (mode {mode:04o})", f"chmod {right} {path}"
        )
    yield from out_of_reach(path, status, owner)


def out_of_reach(path: str, status: os.stat_result, owner: int | None) -> Iterator[Problem]:
    """Whether `owner` can do with it what who serves has to."""
    if owner is not None and status.st_uid != owner:
        text = f"belongs to user {status.st_uid}, and the data to user {owner}, who serves"
        yield Problem("permissions", path, text, f"chown {owner} {path}")
    needed, right = (0o700, "u+rwx") if stat.S_ISDIR(status.st_mode) else (0o400, "u+r")
    if ~status.st_mode & needed:
        mode = stat.S_IMODE(status.st_mode)
        text = f"is closed to its owner (mode {mode:04o})"
        yield Problem("permissions", path, text, f"chmod {right} {path}")
