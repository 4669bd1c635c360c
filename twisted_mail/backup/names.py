"""What backups are called, which of them are complete, and what they say of themselves (``backup.json``)."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Final, Protocol

from ..disk import Disk
from ..storage.maildir import read_small

__all__ = [
    "ABOUT",
    "DATA",
    "FORMAT",
    "MANIFEST",
    "PARTIAL",
    "About",
    "BackupError",
    "Progress",
    "complete",
    "name_of",
    "newest",
    "read_about",
    "remove_tree",
]

FORMAT: Final = 1
"""Of a backup's directory. A newer one is refused."""
ABOUT: Final = "backup.json"
MANIFEST: Final = "manifest.sqlite3"
DATA: Final = "data"
PARTIAL: Final = ".partial"
_IS_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ").fullmatch
_IS_REST = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ\.(partial|removing)").fullmatch


class BackupError(ValueError):
    """It cannot be done; the text is for the operator."""


class Progress(Protocol):
    """Told how far a long work is. `step` may raise what ends it."""

    def begin(self, what: str, messages: int, octets: int) -> None: ...
    def step(self, messages: int, octets: int) -> None: ...
    def end(self) -> None: ...


class Silent:
    """A `Progress` that nobody looks at."""

    def begin(self, what: str, messages: int, octets: int) -> None:
        pass

    def step(self, messages: int, octets: int) -> None:
        pass

    def end(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class About:
    """What ``backup.json`` says. `begun` and `finished` as in names; `site`: version and number of unclean stops of
    the data, 0 for one that never started. `copied` files with `written` octets are no links.
    `manifest`: its SHA-256."""

    format: int
    name: str
    server: str
    hostname: str
    begun: str
    finished: str
    files: int
    octets: int
    copied: int
    written: int
    site: int
    generation: int
    manifest: str

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), indent=2).encode() + b"\n"


def name_of(seconds: float) -> str:
    """The name of a backup that begins at this time, seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def read_about(disk: Disk, path: str) -> About:
    """Of the backup in the directory `path`. Raises BackupError."""
    file = os.path.join(path, ABOUT)
    text = read_small(disk, file) if disk.exists(path) else None
    if text is None:
        raise BackupError(f"{path} is no complete backup: it has no {ABOUT}")
    try:
        values = json.loads(text)
        version = values["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{file} is damaged: {error}") from error
    if version != FORMAT:
        raise BackupError(
            f"{file}: made by version {version} of the format of backups, this program knows {FORMAT};"
            " restore it with the program that made it"
            + (f" (twisted_mail {values['server']})" if values.get("server") else "")
        )
    try:
        return About(**{field.name: values[field.name] for field in fields(About)})
    except KeyError as error:
        raise BackupError(f"{file} is damaged: it has no {error}") from error


def complete(disk: Disk, directory: str) -> list[str]:
    """The names of the complete backups in `directory`, the oldest first."""
    if not disk.exists(directory):
        return []
    return sorted(
        name
        for name in disk.names(directory)
        if _IS_NAME(name) and disk.exists(os.path.join(directory, name, ABOUT))
    )


def newest(disk: Disk, path: str) -> str:
    """The path of the backup that is meant: `path` itself, or the last complete one in it. Raises BackupError."""
    if disk.exists(os.path.join(path, ABOUT)):
        return path
    names = complete(disk, path)
    if not names:
        raise BackupError(f"{path} is no backup, and there is no complete one in it")
    return os.path.join(path, names[-1])


def leftovers(disk: Disk, directory: str) -> list[str]:
    """What was being made or removed when somebody was killed."""
    return sorted(filter(_IS_REST, disk.names(directory)))


def remove_tree(disk: Disk, top: str) -> None:
    """A directory and what is in it. What is not there is no error."""
    left = [(top, False)]
    while left:
        path, emptied = left.pop()
        try:
            if emptied:
                disk.rmdir(path)
            else:
                disk.unlink(path)
        except FileNotFoundError:
            continue
        except IsADirectoryError:
            left.append((path, True))
            left += [(os.path.join(path, name), False) for name in disk.names(path)]
