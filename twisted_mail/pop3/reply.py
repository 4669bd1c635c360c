"""The words of POP3: +OK and -ERR lines out, the texts and numbers of commands in. Pure.

What cannot be read raises `Refusal`, which the session answers in one place.
"""

from __future__ import annotations

import binascii
from typing import Final

__all__ = ["Refusal", "base64", "decimal", "err", "ok", "utf8_text"]

_MAX_DIGITS: Final = 10
_NO_LINE_END: Final = dict.fromkeys((*range(0x20), 0x7F), " ")


class Refusal(Exception):
    """A command is answered -ERR with this text. `mistake`: the client should have known better."""

    def __init__(self, text: str, *, mistake: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.mistake = mistake


def ok(text: str) -> bytes:
    """A positive status line; ASCII, whatever `text` holds."""
    return f"+OK {text}\r\n".encode("ascii", "replace")


def err(text: str, code: str | None = None) -> bytes:
    """A negative status line, with the response code of RFC 2449 section 8."""
    line = f"-ERR [{code}] {text}" if code else f"-ERR {text}"
    # RFC 2449 section 4: 512 octets, the terminating CRLF included
    return line.translate(_NO_LINE_END).encode("ascii", "replace")[:510] + b"\r\n"


def decimal(argument: bytes) -> int:
    """A number in a command: digits, not too many. Raises Refusal."""
    if not argument.isdigit() or len(argument) > _MAX_DIGITS:
        raise Refusal("A number is expected", mistake=True)
    return int(argument)


def utf8_text(argument: bytes) -> str:
    """A name or a password. Raises Refusal."""
    try:
        # RFC 6856 section 2.2: what is no UTF-8 must be refused
        return argument.decode()
    except UnicodeDecodeError:
        raise Refusal("Malformed UTF-8", mistake=True) from None


def base64(line: bytes) -> bytes:
    """What the client says in a SASL exchange. Raises Refusal."""
    try:
        # RFC 5034 section 4: anything outside of the alphabet is refused
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        raise Refusal("Malformed base64", mistake=True) from None
