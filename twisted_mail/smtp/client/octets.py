"""Content for BDAT: LF becomes CRLF, and nothing is stuffed. Else as `message.wire` has it.

A CR without its LF becomes a space, a last line without its end gets one; blocks may be cut anywhere.
"""

from __future__ import annotations

__all__ = ["LineEnds"]


class LineEnds:
    """Encode a stream of blocks."""

    __slots__ = ("_held", "_starts_line")

    def __init__(self) -> None:
        self._held = False
        self._starts_line = True

    def encode(self, block: bytes) -> bytes:
        """The wire form of `block`; a CR at its end is held until the next one."""
        if self._held:
            block = b"\r" + block
            self._held = False
        if b"\r" in block:
            if block.endswith(b"\r"):
                self._held = True
                block = block[:-1]
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b" ")
        if not block:
            return b""
        self._starts_line = block.endswith(b"\n")
        return block.replace(b"\n", b"\r\n")

    def finish(self) -> bytes:
        """What is still held, and the last line's end if it has none."""
        held = b" " if self._held else b""
        return held if self._starts_line and not held else held + b"\r\n"
