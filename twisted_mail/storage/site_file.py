"""`site.json` of a data directory: the version of what is stored there, and the number of unclean stops.

That number is the *generation*: what an index of an older one says may be older than what clients were told.

When the file is lost or damaged, it goes on at the seconds since 1970, which no site's count has come to: then every
index is one of another generation.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from twisted.logger import Logger

from ..disk import Disk
from .aside import set_aside

__all__ = ["RESTORING", "VERSION", "SiteFile"]

_log = Logger()
VERSION = 3
"""1 knew no queue, 2 no folders: their programs would skip records that they do not know, and drop them."""
_KNOWN = (1, 2, VERSION)
RESTORING = "restoring"
"""In the place of the version while a backup is being put back: nobody serves a half of it."""


class SiteFile:
    """The file of the site in the directory `data`. Blocks; no thread safety but what its caller's locks give."""

    def __init__(self, disk: Disk, data: str) -> None:
        self._disk = disk
        self._data = data
        self._path = os.path.join(data, "site.json")
        self._stored = VERSION
        self.damaged = ""
        """Why it could not be understood when it was read last, "" when it could."""
        self.generation = 0
        """As read last; 0 for a new site."""

    @property
    def version(self) -> int:
        """Of what is stored, as read last."""
        return self._stored

    def read(self) -> None:
        """Raises ValueError for what a newer version stored."""
        if not self._disk.exists(self._path):
            self.generation = 0
            return
        fd = self._disk.open(self._path, os.O_RDONLY)
        try:
            text = self._disk.pread(fd, 4096, 0)
        finally:
            self._disk.close(fd)
        values = self._understood(text)
        self._stored = values["version"]
        if values["version"] == RESTORING:
            raise ValueError(
                f"{self._data} holds a restore that is not finished, or was interrupted: empty it, and give"
                " `mailctl restore` again"
            )
        if self._stored not in _KNOWN:
            raise ValueError(
                f"{self._path}: stored by version {values['version']} of the format, this program knows"
                f" {VERSION}; use the newer program"
            )
        self.generation = values["generation"]

    def _understood(self, text: bytes) -> dict[str, Any]:
        """What the file says; of a damaged one the version, if that can still be read."""
        self.damaged = ""
        try:
            values = json.loads(text)
            return {"version": values["version"], "generation": int(values["generation"])}
        except (ValueError, LookupError, TypeError) as error:
            self.damaged = str(error)
        found = re.search(rb'"version": ?(?:"([a-z]+)"|([0-9]+))', text)
        version: str | int = VERSION
        if found is not None:
            version = found[1].decode() if found[1] else int(found[2])
        return {"version": version, "generation": self._fresh()}

    def _fresh(self) -> int:
        return max(1, self._disk.clock_ns() // 1_000_000_000)

    def count_start(self, unclean: bool) -> None:
        """Alone on the site: two processes may start at the same moment on a new one."""
        self.read()
        if self.damaged:
            aside = set_aside(self._disk, self._path)
            _log.error(
                "{path} is damaged ({error}): set aside as {aside}, and made anew; indexes are looked through",
                path=self._path,
                error=self.damaged,
                aside=aside,
            )
        elif not self.generation and self._has_mail():
            self.generation = self._fresh()
            _log.error(
                "{path} is lost, and made anew; every index is compared with its mail",
                path=self._path,
            )
        elif unclean or not self.generation:
            self.generation += 1
        elif self._stored == VERSION:
            return
        self._write()

    def _has_mail(self) -> bool:
        mail = os.path.join(self._data, "mail")
        return self._disk.exists(mail) and bool(self._disk.names(mail))

    def _write(self) -> None:
        fd = self._disk.open(f"{self._path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            values = {"version": VERSION, "generation": self.generation}
            self._disk.write(fd, json.dumps(values).encode() + b"\n")
            self._disk.fdatasync(fd)
        finally:
            self._disk.close(fd)
        self._disk.rename(f"{self._path}.new", self._path)
        self._disk.sync_directory(self._data)
