"""The disk of a storm: one that fails for a while, and whose power is cut in the middle of an operation."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from .disk import PowerCutDisk

__all__ = ["StormyDisk"]

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


class StormyDisk(PowerCutDisk):
    """A `PowerCutDisk` that also fails for a while, and is another boot's after each cut.

    `cut` is called when the power goes, in the middle of an operation: the process must not do one more thing.
    """

    def __init__(self, root: str, boot: int, cut: Callable[[], object]) -> None:
        super().__init__(root)
        self._boot = f"{root}.boot-{boot}"
        Path(self._boot).write_text(f"boot-{boot}\n")
        self._cut = cut
        self._fails: tuple[int, int, bool] | None = None
        self.after("syncfs", (root,))

    def fail(self, after: int, number: int, *, lasting: bool) -> None:
        """So many operations from now, with errno `number`; `lasting`: until `heal`."""
        self._fails = (self.count + after, number, lasting)

    def heal(self) -> None:
        self._fails = None

    @property
    def ill(self) -> bool:
        return self._fails is not None

    def cut_after(self, operations: int) -> None:
        """Have the power go so many operations from now."""
        self.fail_at = self.count + operations

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        return super().open(self._boot if path == _BOOT_ID else path, flags, mode)

    def before(self, name: str, args: Sequence[Any]) -> None:
        if not self.alive:
            raise OSError(errno.EIO, "the power is gone")
        try:
            super().before(name, args)
        except OSError:
            self.power_off()
            self._cut()
            raise
        if self._fails is not None and name in self.counted:
            at, number, lasting = self._fails
            if self.count >= at and _possible(number, name):
                if not lasting:
                    self._fails = None
                raise OSError(number, os.strerror(number))


def _possible(number: int, name: str) -> bool:
    """Whether a disk says that to this operation."""
    if number == errno.EMFILE:
        return name in ("open", "open_nameless")
    if number == errno.ENOSPC:
        return name in (
            "open",
            "open_nameless",
            "write",
            "writev",
            "pwrite",
            "mkdir",
            "link",
            "reserve",
        )
    return name not in ("fchmod", "utime")
