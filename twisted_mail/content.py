"""A message that is in memory, as `interfaces.Content`: what a mailbox of your own returns from `fetch`."""

from __future__ import annotations

__all__ = ["BytesContent"]


class BytesContent:
    """`data` with LF line ends, read once from its start."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    async def read(self, size: int) -> bytes:
        block = self._data[self._at : self._at + size]
        self._at += len(block)
        return block

    def close(self) -> None:
        self._data = b""
