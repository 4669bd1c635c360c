"""Messages that are bytes in memory, for mailboxes that are not files.

`message_info` and `BytesContent` are all that a mailbox of one's own needs to describe a message and
to hand it out. Our own store does neither: it streams from the disk.
"""

from __future__ import annotations

from .interfaces import MessageInfo
from .message.downgrade import ascii_size
from .message.wire import wire_size

__all__ = ["BytesContent", "message_info"]


class BytesContent:
    """A `twisted_mail.interfaces.Content` over bytes with LF line ends."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)

    async def read(self, size: int) -> bytes:
        block, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return block

    def close(self) -> None:
        self._rest = memoryview(b"")


def message_info(uidl: str, message: bytes) -> MessageInfo:
    """The `MessageInfo` of a message with LF line ends; its sizes as POP3 sends it."""
    size = wire_size(message)
    # RFC 6858: what a client gets that did not ask for UTF-8
    return MessageInfo(uidl, size, ascii_size(message, size))
