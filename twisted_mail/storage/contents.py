"""Messages of a folder being read, many at a time: small ones whole, large ones as an open file."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from twisted.logger import Logger

from ..disk import Disk
from ..mailboxes import Message
from ..world import World
from . import maildir
from .account import AccountStore
from .index import Row

__all__ = ["LARGE", "OpenLarge", "begun", "close_all", "read_messages", "whole"]

_log = Logger()
LARGE = 256 * 1024
"""Messages over so many bytes are not read at once."""
ALONE = 4 * 1024 * 1024
"""Messages over so many bytes are whole in memory one at a time."""
_alone = threading.Lock()
TOGETHER = 512 * 1024
"""Bytes that are read in one go …"""
MANY = 200
"""… and messages."""


class OpenLarge:
    """A `mailboxes.LargeContent` over the descriptor `fd`, which it closes."""

    def __init__(self, world: World, fd: int, size: int) -> None:
        self._world = world
        self._fd = fd
        self.size = size

    async def read(self, offset: int, size: int) -> bytes:
        block = self._world.disk.read_cached(self._fd, size, offset)
        if block is None:
            block = await self._world.threads.call(self._world.disk.pread, self._fd, size, offset)
        return block

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._world.disk.close(fd)


def read_messages(
    world: World, store: AccountStore, folder: str, uids: Sequence[int]
) -> list[Message]:
    """The first of these messages, at least one: as many as may be read together. Blocks."""
    path, rows = store.found(folder, uids[:MANY])
    by_uid = {row.uid: row for row in rows}
    found: list[Message] = []
    there = _Listing(world.disk, path)
    room = TOGETHER
    try:
        for uid in uids[:MANY]:
            row = by_uid.get(uid)
            if row is None:
                found.append(Message(uid, None))
                continue
            if row.size <= LARGE:
                room -= row.size
            if room < 0 and found:
                break
            found.append(Message(uid, _content(world, there, row)))
    except BaseException:
        close_all(found)
        raise
    return found


@contextmanager
def whole(disk: Disk, path: str, row: Row) -> Iterator[bytes | None]:
    """This message in memory, whatever its size; None when it is gone. Of those over `ALONE` the process has one at
    a time: others wait. Blocks."""
    with _alone if row.size > ALONE else nullcontext():
        yield _whole(disk, _Listing(disk, path), row)


def begun(disk: Disk, path: str, row: Row, size: int) -> bytes | None:
    """The first `size` bytes of a message, or all of it; None when it is gone. Blocks."""
    try:
        fd = disk.open(f"{path}/{row.sub}/{row.name}", maildir.OPEN)
    except OSError:
        fd = _open(disk, _Listing(disk, path), row)
        if fd < 0:
            return None
    try:
        return disk.pread(fd, min(row.size, size), 0)
    finally:
        disk.close(fd)


def close_all(messages: Sequence[Message]) -> None:
    """Close what is open in messages that nobody will take."""
    for message in messages:
        if isinstance(message.content, OpenLarge):
            message.content.close()


class _Listing:
    """Where the messages of the folder at `path` are; read when it is needed, and again when it was wrong."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._found: dict[str, tuple[str, str]] | None = None
        self.path = path

    def place(self, base: str, wrong: tuple[str, str]) -> tuple[str, str] | None:
        """``new`` or ``cur``, and the name of a file that is not at `wrong`; None when it is gone."""
        if self._found is None or self._found.get(base) == wrong:
            try:
                self._found = maildir.listing(self._disk, self.path)
            except FileNotFoundError:
                self._found = {}
        return self._found.get(base)


def _content(world: World, there: _Listing, row: Row) -> bytes | OpenLarge | None:
    disk = world.disk
    fd = _open(disk, there, row)
    if fd < 0:
        return None
    if row.size > LARGE:
        return OpenLarge(world, fd, row.size)
    try:
        return disk.pread(fd, row.size + 1, 0)[: row.size]
    finally:
        disk.close(fd)


def _whole(disk: Disk, there: _Listing, row: Row) -> bytes | None:
    fd = _open(disk, there, row)
    if fd < 0:
        return None
    try:
        return disk.pread(fd, row.size, 0)
    finally:
        disk.close(fd)


def _open(disk: Disk, there: _Listing, row: Row) -> int:
    """A descriptor; -1 when the message is gone."""
    place: tuple[str, str] | None = (row.sub, row.name)
    for _ in range(3):
        if place is None:
            return -1
        try:
            return disk.open(os.path.join(there.path, *place), maildir.OPEN)
        except FileNotFoundError:
            # Its flags have been changed meanwhile, or another program moved it.
            place = there.place(row.base, place)
        except OSError as error:
            _log.error("{name} cannot be read: {error}", name=row.name, error=str(error))
            return -1
    return -1
