"""Where a server process speaks: the terminal it was started from, and its log file.

twistd sends a daemon's standard streams to /dev/null and everybody's ``print`` to the log, both before
anything listens; what the person at the terminal shall read goes through `Console`. A `LogFile` is opened
again when it has been moved away, and never cut.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from .site import Owner

__all__ = ["Console", "LogFile"]


class Console:
    """Copies of standard output and standard error, taken when it is made."""

    def __init__(self) -> None:
        self._out = _copy(sys.__stdout__)
        self._err = _copy(sys.__stderr__)

    def say(self, lines: Sequence[str]) -> None:
        """Lines on standard output, at once."""
        _write(self._out, "".join(f"{line}\n" for line in lines))

    def complain(self, text: str) -> None:
        """Text on standard error, at once."""
        _write(self._err, f"{text}\n")

    def close(self) -> None:
        """Let go of the terminal."""
        for descriptor in (self._out, self._err):
            if descriptor is not None:
                os.close(descriptor)
        self._out = self._err = None


class LogFile:
    """A text file that only grows. Raises OSError when it cannot be opened.

    What is made here belongs to `owner`, when that is somebody else than this process. `descriptor`: it is open there.
    """

    def __init__(
        self, path: str, owner: Owner | None = None, *, descriptor: int | None = None
    ) -> None:
        self.path = path
        self._owner = owner
        self._file = self._open() if descriptor is None else _text(descriptor)

    def fileno(self) -> int:
        """Its descriptor, until it is opened again."""
        return self._file.fileno()

    def write(self, text: str) -> None:
        self._file.write(text)

    def flush(self) -> None:
        self._file.flush()

    def reopen(self) -> None:
        """Go on in a file of the same name. Raises OSError, and then goes on in the old one."""
        old, self._file = self._file, self._open()
        with suppress(OSError):  # what it does not take was lost before
            old.close()

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def _open(self) -> TextIO:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            # Not for others: the log tells who writes to whom.
            descriptor = os.open(self.path, flags | os.O_EXCL, 0o600)
        except FileExistsError:
            descriptor = os.open(self.path, flags, 0o600)
        else:
            # Only what is new: in the owner's directory a name may lead to somebody else's file.
            if self._owner is not None:
                os.fchown(descriptor, self._owner.uid, self._owner.gid)
        return _text(descriptor)


def _text(descriptor: int) -> TextIO:
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")


def _copy(stream: TextIO | None) -> int | None:
    """A descriptor of our own; None where there is none (closed, or not a file)."""
    try:
        return None if stream is None else os.dup(stream.fileno())
    except (OSError, ValueError):
        return None


def _write(descriptor: int | None, text: str) -> None:
    if descriptor is None:
        return
    data = text.encode(errors="backslashreplace")
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        pass  # nobody is there to read it
