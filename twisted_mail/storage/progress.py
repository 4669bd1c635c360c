"""Who is told how far a long work has come: imports and exports."""

from __future__ import annotations

from typing import Protocol

__all__ = ["InterruptedImportError", "Progress", "Quiet"]


class InterruptedImportError(Exception):
    """Somebody wanted it to stop. It can go on later."""


class Progress(Protocol):
    """Who is told how far it is."""

    def begin(self, what: str, messages: int, octets: int) -> None:
        """A part of the work, and how much it is in all; 0: not known."""

    def step(self, messages: int, octets: int) -> None:
        """So much more is done. Raises InterruptedImportError when it shall end here."""

    def end(self) -> None:
        """This part is done."""


class Quiet:
    """A `Progress` that nobody looks at."""

    def begin(self, what: str, messages: int, octets: int) -> None: ...
    def step(self, messages: int, octets: int) -> None: ...
    def end(self) -> None: ...


_progress: type[Progress] = Quiet
"""mypy checks here that it is one."""
