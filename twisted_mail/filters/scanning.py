"""What scanners share: settings, how many at once, how long, and what is said when it goes wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from twisted.internet.defer import DeferredSemaphore

from ..world import World
from .interfaces import Message, Opinion
from .link import Link, LinkError, Where, in_time
from .trouble import OnFailure, failure

__all__ = ["Asking", "BadAnswer", "Connection", "ScannerSettings", "message_size", "show"]

_BLOCK = 64 * 1024
_MAX_ANSWER = 4 * 1024 * 1024


class BadAnswer(Exception):
    """An answer that is none, or an error that the filter tells of; in words fit for a log."""


class ScannerSettings(NamedTuple):
    """`endpoint`: ``tcp:host:port`` or ``unix:/path``. `seconds`: for one message, all waiting included.

    `connections` at once. A message of more than `max_size` bytes is not shown: what is said of it is nothing.
    """

    name: str
    endpoint: str
    on_failure: OnFailure = "accept"
    connect_seconds: float = 5.0
    seconds: float = 30.0
    connections: int = 20
    max_size: int = 50 * 1024 * 1024


class Asking:
    """Asks one scanner, a connection a message. ValueError: the endpoint is none."""

    def __init__(self, world: World, settings: ScannerSettings) -> None:
        self.settings = settings
        self._reactor: Any = world.reactor
        self._where = Where(world.reactor, settings.endpoint)
        self._slots = DeferredSemaphore(settings.connections)

    async def ask(self, size: int, talk: Callable[[Connection], Awaitable[Opinion]]) -> Opinion:
        """What `talk` makes of a connection, in time; or what is said in its place. `size` of the message, in bytes."""
        settings = self.settings
        if size > settings.max_size:
            return Opinion(asked=False, reason=f"not shown: more than {settings.max_size} bytes")
        until = self._reactor.seconds() + settings.seconds
        try:
            return await self._asked(until, talk)
        except (LinkError, BadAnswer) as error:
            return failure(settings.on_failure, str(error))

    async def _asked(
        self, until: float, talk: Callable[[Connection], Awaitable[Opinion]]
    ) -> Opinion:
        try:
            await in_time(self._reactor, self._slots.acquire(), until)
        except LinkError:
            raise LinkError("all its connections are busy") from None
        try:
            connecting = min(until, self._reactor.seconds() + self.settings.connect_seconds)
            link = await self._where.open(connecting)
            try:
                return await talk(Connection(link, until))
            finally:
                link.close()
        finally:
            self._slots.release()


class Connection:
    """One question to a scanner. Raises LinkError when the time is over, or the connection."""

    def __init__(self, link: Link, until: float) -> None:
        self._link = link
        self._until = until
        self._left = _MAX_ANSWER

    async def write(self, data: bytes) -> None:
        """Say something; wait while the scanner does not read."""
        await self._link.write(data, self._until)

    async def read(self) -> bytes:
        """What it says next; b"" at the end. Raises BadAnswer when it says too much."""
        data = await self._link.read_or_end(self._until)
        self._left -= len(data)
        if self._left < 0:
            raise BadAnswer("an answer that does not end")
        return data

    async def read_all(self) -> bytes:
        """What it says until it closes."""
        found = bytearray()
        while data := await self.read():
            found += data
        return bytes(found)

    @property
    def answered(self) -> bool:
        """Whether it said something already, or is gone."""
        return self._link.unread or self._link.lost


async def show(connection: Connection, message: Message, frame: Callable[[bytes], bytes]) -> None:
    """Write the message, block by block, each as `frame` makes it. Stops when the scanner answers before the end."""
    for block in _header(message.fields):
        await connection.write(frame(block))
    at, size = 0, message.body.size
    while at < size and not connection.answered:
        block = await message.body.read(at, min(_BLOCK, size - at))
        if not block:
            break
        at += len(block)
        await connection.write(frame(block))


def message_size(message: Message) -> int:
    """In bytes, with LF line ends."""
    return sum(map(len, message.fields)) + 1 + message.body.size


def _header(fields: tuple[bytes, ...]) -> Iterator[bytes]:
    """The header and the empty line, in blocks."""
    whole = b"".join(fields) + b"\n"
    for at in range(0, len(whole), _BLOCK):
        yield whole[at : at + _BLOCK]
