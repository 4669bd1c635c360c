"""How a command that fails is answered; raised anywhere in a verb, answered by the session in one place.

`status.MailError`, as storage raises it, becomes NO with its `imap` as response code.
"""

from __future__ import annotations

__all__ = ["Bad", "No", "Refused", "Unfinished"]


class Refused(Exception):
    """``tag status [code] text``. `text` goes to the client; `code` as in RFC 9051 section 7.1, without brackets."""

    status = "NO"

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text, code)
        self.text = text
        self.code = code


class No(Refused):
    """It cannot be done."""


class Bad(Refused):
    """The client is mistaken: counted, and too many in a row end the connection."""

    status = "BAD"


class Unfinished(Exception):
    """A literal was begun that cannot be ended: whatever came next would be taken for content. No answer is
    possible, and the connection has to be ended."""
