"""What an older version stored becomes what this one stores: copied, switched, and undone when that is wished.

    data/upgrade.json          what is under way, or was done last
    FILE.upgrade               the new form of a file that is being made
    FILE.before-2              a file as version 2 had it, until the next clean start
    FILE.after-3               what an undo has put aside

A `Step` makes new forms of some files and changes none. When all steps are through and synced, ``upgrade.json`` says
``switching``, synced: **that is the instant** from which a start goes forward, whatever happens. Then each old file
gets its second name, those names are synced, and each new form is renamed over; last ``site.json`` says the new
version. Before that instant a start throws the new forms away and begins anew. An undo goes the same way back: said
first, then done; one that was cut short is finished by the same command, and no server starts before that. Neither
deletes anything of what people have stored.

Everything here runs alone on the site, before the journal is replayed, and blocks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.logger import Logger

from ..disk import Disk
from .maildir import read_small, write_small

__all__ = ["STEPS", "Kept", "Step", "Upgrade", "UpgradeError", "write_version"]

_log = Logger()
_NAME: Final = "upgrade.json"
_DRAFT: Final = ".upgrade"
_COPYING: Final = "copying"
_SWITCHING: Final = "switching"
_DONE: Final = "done"
_UNDOING: Final = "undoing"
_FORGETTING: Final = "forgetting"
MAX_FILES: Final = 10_000
"""Of one upgrade: what it says of itself is one small file."""


class UpgradeError(ValueError):
    """It cannot be done; the text is for the operator."""


@dataclass(frozen=True, slots=True)
class Step:
    """From the version `before` of the site's format to the next one.

    `files` gives the paths, in the data directory, of the files that get a new form (also those that are new), and
    `convert` makes it: it is called with the disk, the path of what is there now (which may not exist), and of the file
    to write. It may read whatever it likes. Both raise what keeps the server from starting.
    """

    before: int
    what: str
    files: Callable[[Disk, str], Sequence[str]] = lambda disk, data: ()
    convert: Callable[[Disk, str, str], None] = lambda disk, source, target: None

    @property
    def after(self) -> int:
        return self.before + 1


STEPS: Final = (
    Step(1, "mail can be queued; nothing that was stored changes"),
    Step(2, "accounts have folders; nothing that was stored changes"),
)
"""From the first version to `site_file.VERSION`."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An upgrade that can be undone, or one that is under way. `files`: paths in the data directory."""

    before: int
    after: int
    state: str
    files: tuple[str, ...]
    made: tuple[str, ...]
    """Those of `files` that were not there before."""

    def to_bytes(self) -> bytes:
        values = {"from": self.before, "to": self.after, "state": self.state}
        lists = {"files": list(self.files), "made": list(self.made)}
        return json.dumps({**values, **lists}).encode() + b"\n"


def write_version(disk: Disk, data: str, version: int) -> None:
    """Have ``site.json`` say `version`; all else in it stays. It is on the disk when this returns."""
    path = os.path.join(data, "site.json")
    values = json.loads(read_small(disk, path) or b"{}")
    write_small(disk, path, json.dumps({**values, "version": version}).encode() + b"\n")


class Upgrade:
    """Upgrades of the data directory `data` by `steps`, each beginning where the one before ends."""

    def __init__(self, disk: Disk, data: str, steps: Sequence[Step] = STEPS) -> None:
        self._disk = disk
        self._data = data
        self._steps = {step.before: step for step in steps}
        self._path = os.path.join(data, _NAME)

    def kept(self) -> Kept | None:
        """What is under way, or can be undone. Raises UpgradeError."""
        text = read_small(self._disk, self._path, 1 << 22)
        if text is None:
            return None
        try:
            values: dict[str, Any] = json.loads(text)
            return Kept(
                int(values["from"]),
                int(values["to"]),
                str(values["state"]),
                tuple(map(str, values["files"])),
                tuple(map(str, values["made"])),
            )
        except (ValueError, LookupError, TypeError) as error:
            raise UpgradeError(
                f"{self._path} is damaged ({error}): it says how far an upgrade has come. Put the data directory back"
                " as it was before, from a backup; or, if no upgrade was under way, remove this file"
            ) from error

    # -- forward

    def run(self, stored: int, wanted: int, switched: Callable[[], None]) -> bool:
        """Make `wanted` of `stored`, finishing first what was cut short. `switched` writes the new version down.

        True when `switched` was called. Raises UpgradeError, or what a step raises.
        """
        kept = self._settled(self.kept())
        if kept is not None and kept.state == _SWITCHING:
            if kept.after != wanted:
                raise UpgradeError(
                    f"{self._data} is between the versions {kept.before} and {kept.after} of the format, this program"
                    f" knows {wanted}; start it once with the program that began, then use this one"
                )
            self._finish(kept, switched)
            return True
        if stored >= wanted:
            return False
        if kept is not None:
            self._forget(kept)
        steps = self._way(stored, wanted)
        for step in steps:
            _log.info(
                "{data}: from version {before} of the format to {after}: {what}",
                data=self._data,
                before=step.before,
                after=step.after,
                what=step.what,
            )
        files = self._copy(stored, wanted, steps)
        made = tuple(name for name in files if not self._exists(name))
        for name in files:
            # Nobody speaks of those: they are of a copy that somebody has put here.
            for end in (f".before-{stored}", f".after-{wanted}"):
                self._remove(self._place(name) + end)
        kept = Kept(stored, wanted, _SWITCHING, files, made)
        self._say(kept)
        self._finish(kept, switched)
        return True

    def _way(self, stored: int, wanted: int) -> list[Step]:
        steps = []
        while stored < wanted:
            step = self._steps.get(stored)
            if step is None:
                raise UpgradeError(
                    f"{self._data}: stored by version {stored} of the format; there is no way from there to {wanted}"
                )
            steps.append(step)
            stored = step.after
        return steps

    def _copy(self, stored: int, wanted: int, steps: Sequence[Step]) -> tuple[str, ...]:
        """Make the new forms; all are on the disk when this returns."""
        files: dict[str, None] = {}
        for step in steps:
            files.update(dict.fromkeys(step.files(self._disk, self._data)))
        if len(files) > MAX_FILES:
            raise UpgradeError(f"{len(files)} files are more than an upgrade can switch at once")
        # Drafts of one that was cut short are known by this.
        self._say(Kept(stored, wanted, _COPYING, tuple(files), ()))
        for step in steps:
            for name in step.files(self._disk, self._data):
                path = self._place(name)
                draft, new = path + _DRAFT, f"{path}{_DRAFT}.new"
                self._remove(new)
                step.convert(self._disk, draft if self._disk.exists(draft) else path, new)
                self._sync(new)
                self._disk.rename(new, draft)
        self._sync_directories(files)
        return tuple(files)

    def _finish(self, kept: Kept, switched: Callable[[], None]) -> None:
        """From the instant on. Doing it again changes nothing."""
        for name in kept.files:
            path, old = self._place(name), self._before(kept, name)
            if name not in kept.made and not self._disk.exists(old):
                self._disk.link(path, old)
        self._sync_directories(kept.files)
        for name in kept.files:
            path = self._place(name)
            if self._disk.exists(path + _DRAFT):
                self._disk.rename(path + _DRAFT, path)
        self._sync_directories(kept.files)
        switched()
        self._say(Kept(kept.before, kept.after, _DONE, kept.files, kept.made))

    # -- back, and away

    def undo(self, written: Callable[[int], None]) -> Kept:
        """Put back what was there before the last upgrade; `written` writes the old version down. What replaced it is
        kept as ``FILE.after-…``. Raises UpgradeError."""
        kept = self.kept()
        if kept is None or kept.state not in (_DONE, _UNDOING):
            raise UpgradeError(
                f"{self._data}: there is no upgrade that could be undone"
                + ("; one is under way: start the server" if kept is not None else "")
            )
        self._undo(kept, written)
        return kept

    def _undo(self, kept: Kept, written: Callable[[int], None]) -> None:
        missing = [
            name
            for name in kept.files
            if name not in kept.made
            and not self._disk.exists(self._before(kept, name))
            and kept.state == _DONE
        ]
        if missing:
            raise UpgradeError(f"{self._before(kept, missing[0])} is gone: it cannot be undone")
        self._say(Kept(kept.before, kept.after, _UNDOING, kept.files, kept.made))
        for name in kept.files:
            path, old, aside = self._place(name), self._before(kept, name), self._after(kept, name)
            there = self._disk.exists(old) or name in kept.made
            if there and self._disk.exists(path) and not self._disk.exists(aside):
                self._disk.link(path, aside)
        self._sync_directories(kept.files)
        for name in kept.files:
            if name in kept.made:
                self._remove(self._place(name))
            elif self._disk.exists(self._before(kept, name)):
                self._disk.rename(self._before(kept, name), self._place(name))
        self._sync_directories(kept.files)
        written(kept.before)
        self._disk.unlink(self._path)
        self._disk.sync_directory(self._data)

    def clean_start(self) -> None:
        """The server stopped in good order since the upgrade: the old files are not needed any more."""
        kept = self.kept()
        if kept is not None and kept.state == _DONE:
            self._forget(kept)

    def _settled(self, kept: Kept | None) -> Kept | None:
        """What was cut short, and can be thrown away, is. Gives what is left."""
        if kept is None or kept.state in (_DONE, _SWITCHING):
            return kept
        if kept.state == _UNDOING:
            raise UpgradeError(
                f"{self._data}: an undo was cut short: finish it with `mailctl upgrade --undo`, then use the older"
                " program"
            )
        if kept.state == _COPYING:
            for name in kept.files:
                self._remove(self._place(name) + _DRAFT)
                self._remove(f"{self._place(name)}{_DRAFT}.new")
            self._sync_directories(kept.files)
            self._disk.unlink(self._path)
            return None
        self._forget(kept)
        return None

    def _forget(self, kept: Kept) -> None:
        self._say(Kept(kept.before, kept.after, _FORGETTING, kept.files, kept.made))
        for name in kept.files:
            self._remove(self._before(kept, name))
        self._sync_directories(kept.files)
        self._disk.unlink(self._path)
        self._disk.sync_directory(self._data)

    # -- files

    def _place(self, name: str) -> str:
        return os.path.join(self._data, name)

    def _exists(self, name: str) -> bool:
        return self._disk.exists(self._place(name))

    def _before(self, kept: Kept, name: str) -> str:
        return f"{self._place(name)}.before-{kept.before}"

    def _after(self, kept: Kept, name: str) -> str:
        return f"{self._place(name)}.after-{kept.after}"

    def _say(self, kept: Kept) -> None:
        write_small(self._disk, self._path, kept.to_bytes())

    def _remove(self, path: str) -> None:
        if self._disk.exists(path):
            self._disk.unlink(path)

    def _sync(self, path: str) -> None:
        fd = self._disk.open(path, os.O_RDONLY)
        try:
            self._disk.fsync(fd)
        finally:
            self._disk.close(fd)

    def _sync_directories(self, files: Sequence[str] | dict[str, None]) -> None:
        for directory in dict.fromkeys(os.path.dirname(self._place(name)) for name in files):
            self._disk.sync_directory(directory)
