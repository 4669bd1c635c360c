"""How a long answer ends; whoever makes its pieces may change it until the last one."""

from __future__ import annotations

__all__ = ["Outcome"]


class Outcome:
    """``tag status [code] text``; `text` "" is "… completed"."""

    __slots__ = ("code", "status", "text")

    def __init__(self, text: str = "", code: str | bytes = "", status: str = "OK") -> None:
        self.text = text
        self.code = code
        self.status = status
