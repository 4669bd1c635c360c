"""Content that is read from an open file: from the page cache at once, by a thread when the disk must be waited for."""

from __future__ import annotations

from ..world import World

__all__ = ["FileContent"]


class FileContent:
    """A `twisted_mail.interfaces.Content` over the descriptor `fd`, which it closes; from the offset `start` on."""

    def __init__(self, world: World, fd: int, start: int = 0) -> None:
        self._world = world
        self._fd = fd
        self._at = start

    async def read(self, size: int) -> bytes:
        block = self._world.disk.read_cached(self._fd, size, self._at)
        if block is None:
            block = await self._world.threads.call(self._world.disk.pread, self._fd, size, self._at)
        self._at += len(block)
        return block

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._world.disk.close(fd)
