"""The maildrop of one POP3 session: message numbers, sizes, and the marks of DELE.

It looks at a mailbox that was frozen at login, so numbers and sizes never change. Marks are only
marks: who deletes is the session, at QUIT.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, Protocol

from ..interfaces import Content, MessageInfo
from .reply import Refusal, decimal

__all__ = ["PIECE", "Mailbox", "Maildrop"]

PIECE: Final = 1000
"""Lines of a listing that are made at once: a large mailbox holds up nobody, and a slow reader is
not held all of it."""


class Mailbox(Protocol):
    """`interfaces.IMailbox`, as a type that can be awaited."""

    messages: Sequence[MessageInfo]

    def fetch(self, index: int) -> Awaitable[Content]: ...
    def remove(self, indexes: Sequence[int]) -> Awaitable[object]: ...
    def close(self) -> Awaitable[object]: ...


class Maildrop:
    """Numbers begin at 1 (RFC 1939 section 5); indexes, into `mailbox.messages`, at 0.

    `utf8`: the client takes messages as they are; else those that need it are surrogates (RFC
    6858), and their sizes are the surrogates'. `retrieved` and `removed` are counted for the log.
    """

    def __init__(self, mailbox: Mailbox, *, utf8: bool) -> None:
        self.mailbox = mailbox
        self.retrieved = 0
        self.removed = 0
        self._messages = mailbox.messages
        self._utf8 = utf8
        self._marked: set[int] = set()
        # RFC 6856 section 2.1: what LIST says is what RETR sends
        self._sizes = [
            message.size if utf8 or message.ascii_size is None else message.ascii_size
            for message in self._messages
        ]
        self._octets = sum(self._sizes)

    @property
    def count(self) -> int:
        """Messages that are not marked."""
        return len(self._sizes) - len(self._marked)

    @property
    def octets(self) -> int:
        """The sizes of messages that are not marked."""
        return self._octets - sum(self._sizes[index] for index in self._marked)

    @property
    def marked(self) -> list[int]:
        """The indexes that QUIT shall remove, in order."""
        return sorted(self._marked)

    def index(self, number: bytes) -> int:
        """The index of a message number in a command. Raises Refusal."""
        index = decimal(number) - 1
        if not 0 <= index < len(self._sizes):
            raise Refusal(f"No such message, only {len(self._sizes)} in the maildrop")
        if index in self._marked:
            raise Refusal(f"Message {index + 1} is deleted")
        return index

    def size(self, index: int) -> int:
        """Octets that RETR sends, before dot-stuffing."""
        return self._sizes[index]

    def stored_size(self, index: int) -> int:
        """Octets of the message as it is, before dot-stuffing."""
        return self._messages[index].size

    def uidl(self, index: int) -> str:
        return self._messages[index].uidl

    def needs_surrogate(self, index: int) -> bool:
        return not self._utf8 and self._messages[index].ascii_size is not None

    def scan_listing(self) -> Iterator[bytes]:
        """The lines of LIST, terminated, in pieces."""
        return self._listing(self._sizes)

    def unique_id_listing(self) -> Iterator[bytes]:
        """The lines of UIDL, terminated, in pieces."""
        return self._listing(message.uidl for message in self._messages)

    def _listing(self, values: Iterable[object]) -> Iterator[bytes]:
        marked = self._marked
        lines = (
            f"{number} {value}\r\n"
            for number, value in enumerate(values, 1)
            if not marked or number - 1 not in marked
        )
        while piece := "".join(islice(lines, PIECE)):
            yield piece.encode()
        yield b".\r\n"

    def mark(self, index: int) -> None:
        self._marked.add(index)

    def unmark_all(self) -> None:
        self._marked.clear()
