"""Mailboxes that users deleted: away for good, once no replay can look for anything in them.

    data/deleted/<name>    the directory of a folder that was removed (`FOLDER_REMOVED`)

While the journal has that record, a message that was moved out of the folder before may still be found there after a
power cut. What was there when a checkpoint began, and all of the journal of then was dropped, nobody needs: it is
swept, a slice at a time. What a crash leaves of it is swept after the next start.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator

from twisted.logger import Logger

from ..disk import Disk

__all__ = ["DELETED", "SLICE", "Sweeper"]

_log = Logger()
DELETED = "deleted"
SLICE = 500
"""Files that are deleted in one go."""


class Sweeper:
    """For the site in the directory `data`. `due` is called, in any thread, when there is something to `sweep`."""

    def __init__(self, disk: Disk, data: str, due: Callable[[], None]) -> None:
        self._disk = disk
        self._directory = os.path.join(data, DELETED)
        self._due = due
        self._guard = threading.Lock()
        self._over: dict[str, None] = {}
        self._steps: Iterator[None] = iter(())

    def there(self) -> list[str]:
        """The names of what was deleted and is not swept yet. Blocks."""
        try:
            return self._disk.names(self._directory)
        except FileNotFoundError:
            return []

    def condemn(self, names: Collection[str]) -> None:
        """These are needed by nobody any more."""
        if names:
            with self._guard:
                self._over.update(dict.fromkeys(names))
            self._due()

    def sweep(self) -> bool:
        """Delete a slice; whether there is more. One caller at a time. Never raises, blocks."""
        try:
            for _ in range(SLICE):
                if next(self._steps, self) is self:
                    with self._guard:
                        if not self._over:
                            return False
                        name = next(iter(self._over))
                        del self._over[name]
                    self._steps = self._remove(os.path.join(self._directory, name))
        except OSError as error:
            # The next checkpoint finds it again.
            _log.warn("a deleted mailbox stays for now: {error}", error=str(error))
            self._steps = iter(())
        return True

    def _remove(self, top: str) -> Iterator[None]:
        """A directory and what is in it, one name a step. What another process sweeps as well is no error."""
        left = [(top, False)]
        while left:
            path, emptied = left.pop()
            yield
            try:
                if emptied:
                    self._disk.rmdir(path)
                else:
                    self._disk.unlink(path)
            except FileNotFoundError:
                continue
            except IsADirectoryError:
                left.append((path, True))
                left += [(os.path.join(path, name), False) for name in self._disk.names(path)]
