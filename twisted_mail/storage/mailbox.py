"""An inbox as one POP3 session sees it: frozen when it was opened, `interfaces.IMailbox`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence

from zope.interface import implementer

from ..content import BytesContent
from ..interfaces import Content, IMailbox, MessageInfo
from ..status import MailError
from ..world import World, call_or_drop
from . import maildir
from .errors import message_gone
from .index import Row, RowTuple
from .reading import FileContent

__all__ = ["Inbox", "listed", "uidl_of"]

AHEAD_BYTES = 256 * 1024
"""Small messages that follow the one asked for are read with it, up to this much in all."""
BLOCK = 256 * 1024


def uidl_of(base: str) -> str:
    """RFC 1939 section 7: the base name, or a digest of one that is too long or holds other characters."""
    if 0 < len(base) <= 70 and base.isascii() and base.isprintable() and " " not in base:
        return base
    return hashlib.sha256(base.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def listed(rows: Sequence[RowTuple]) -> list[MessageInfo]:
    """What a session is told of each message."""
    return [
        MessageInfo(uidl or uidl_of(base), wire, ascii_size)
        for _, base, _, _, _, wire, ascii_size, uidl in rows
    ]


@implementer(IMailbox)
class Inbox:
    """The Maildir `directory`. `messages` are `listed` from `rows`; `lock` is the descriptor that holds the mailbox."""

    def __init__(
        self,
        world: World,
        directory: str,
        rows: Sequence[RowTuple],
        messages: Sequence[MessageInfo],
        lock: int,
        remove: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        self._world = world
        self._maildir = directory
        self._rows = rows
        self._lock = lock
        self._remove = remove
        self._ahead: dict[int, bytes] = {}
        self.messages = messages

    async def fetch(self, index: int) -> Content:
        known = self._ahead.pop(index, None)
        if known is not None:
            return BytesContent(known)
        self._ahead.clear()
        row = Row(*self._rows[index])
        if row.size > AHEAD_BYTES:
            world = self._world
            fd = await call_or_drop(world.threads, world.disk.close, self._open, row)
            return FileContent(self._world, fd)
        read = await self._world.threads.call(self._read_from, index)
        own = read.pop(index)
        self._ahead = read
        return BytesContent(own)

    async def remove(self, indexes: Sequence[int]) -> None:
        await self._remove([Row(*self._rows[index]).base for index in indexes])

    async def close(self) -> None:
        self._ahead.clear()
        if self._lock >= 0:
            lock, self._lock = self._lock, -1
            self._world.disk.close(lock)

    def _open(self, row: Row) -> int:
        disk = self._world.disk
        path: str | None = os.path.join(self._maildir, row.sub, row.name)
        for _ in range(2):
            try:
                return disk.open(str(path), maildir.OPEN)
            except FileNotFoundError:
                # Another program moved it (to cur, or to another folder), or deleted it.
                path = maildir.find(disk, self._maildir, row.base)
                if path is None:
                    break
        raise message_gone()

    def _read_from(self, index: int) -> dict[int, bytes]:
        """The message at `index`, and those behind it that fit: clients ask for one after the other."""
        disk = self._world.disk
        read: dict[int, bytes] = {}
        room = AHEAD_BYTES
        for at in range(index, len(self._rows)):
            row = Row(*self._rows[at])
            room -= row.size
            if room < 0 and at > index:
                break
            if at > index and not disk.exists(os.path.join(self._maildir, row.sub, row.name)):
                break
            try:
                read[at] = self._read(row)
            except (MailError, OSError):
                if at == index:
                    raise
                break  # What is wrong with that one is said when it is asked for.
        return read

    def _read(self, row: Row) -> bytes:
        disk = self._world.disk
        fd = self._open(row)
        try:
            return disk.pread(fd, row.size + BLOCK, 0)
        finally:
            disk.close(fd)
