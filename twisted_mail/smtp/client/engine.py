"""The SMTP client's engine: octets in, replies out; and command lines that nothing can be smuggled through.

`ReplyReader` promises: any cut of the stream gives the same replies; no octets make it raise anything but `ReplyError`;
what is kept of one reply is bounded (`MAX_REPLY`, `MAX_LINES`, `MAX_TEXT`). After a `ReplyError` nothing more comes.

What the field sends and we take: bare LF as line end, a code alone on its line, a tab behind it, octets that are no
UTF-8, control characters (dropped). What we do not: lines without a code, and codes that differ between the lines of
a reply, since nobody can say which of them is meant.

    Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF     RFC 5321 section 4.2

The caller's duty: to call `receive` no more while `buffered` is past its bound, and to count replies: which command a
reply answers is not the engine's matter.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn

from ...address import Address

__all__ = ["MAX_LINES", "MAX_REPLY", "Reply", "ReplyError", "ReplyReader", "command", "path"]

MAX_REPLY: Final = 1 << 16
"""Octets of one reply, all its lines and their ends."""
MAX_LINES: Final = 256
"""Lines of one reply."""
MAX_TEXT: Final = 1000
"""Characters of a reply's text, and of one of its lines."""
SHORT: Final = 80
"""Octets of a line that is remembered with what it means, if it refuses nothing."""
MAX_COMMAND: Final = 12288
"""Octets of a command line. RFC 4954 section 4: so long may a line of AUTH be."""

# RFC 5321 section 4.2: %x32-35 %x30-35 %x30-39; the second digit is taken as it comes
_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ \t-])(.*))?", re.DOTALL)
# RFC 3463 section 2
_ENHANCED: Final = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN_PATH: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9._-]+"
)


class ReplyError(Exception):
    """The peer sends no SMTP. The text goes on behind the peer's name: ``"sent an endless reply"``."""


class Reply(NamedTuple):
    """One reply. `enhanced` such as ``"5.1.1"`` or "", then it is in none of the others.

    `text`: all lines in one, `lines`: each of them; printable, cut at `MAX_TEXT`.
    """

    code: int
    enhanced: str
    text: str
    lines: tuple[str, ...]


class ReplyReader:
    """Reads replies. `receive` octets, then `next_reply` until it gives None."""

    __slots__ = ("_buffer", "_code", "_error", "_lines", "_searched", "_size")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no line end before this index
        self._code = b""  # of the reply whose lines are in `_lines`
        self._lines: list[str] = []
        self._size = 0  # octets of those lines
        self._error: str | None = None

    @property
    def buffered(self) -> int:
        """Octets received of which no reply was made."""
        return len(self._buffer) + self._size

    def receive(self, data: bytes) -> None:
        """Take what the peer sent."""
        self._buffer += data

    def next_reply(self) -> Reply | None:
        """The next whole reply, None when more octets are needed. Raises ReplyError, then always."""
        if self._error is not None:
            raise ReplyError(self._error)
        buffer = self._buffer
        while True:
            end = buffer.find(b"\n", self._searched)
            if end < 0:
                if len(buffer) + self._size >= MAX_REPLY:
                    self._fail("sent an endless reply")
                self._searched = len(buffer)
                return None
            size = end + 1
            if self._size + size > MAX_REPLY:
                self._fail("sent an endless reply")
            line = bytes(buffer[:end])
            del buffer[:size]
            self._searched = 0
            if line.endswith(b"\r"):
                line = line[:-1]
            if size <= SHORT and not self._code and line[:1] in b"23":
                reply = _short(line)
                if reply is not None:
                    return reply
            found = _LINE.fullmatch(line)
            if found is None:
                self._fail(f"sent what is no SMTP reply: {_printable(line)[:60]!r}")
            code, mark, text = found.groups()
            if self._code and code != self._code:
                # RFC 5321 section 4.2.1: the same on every line
                self._fail("sent a reply with different codes on its lines")
            if mark != b"-":
                return self._whole(code, text)
            self._code = code
            self._lines.append(_printable(text))
            self._size += size
            if len(self._lines) >= MAX_LINES:
                self._fail("sent an endless reply")

    def _whole(self, code: bytes, last: bytes | None) -> Reply:
        if not self._lines:
            return _one_line(code, last)
        text = _printable(last) if last else ""
        number = int(code)
        lines = [*self._lines, text]
        self._lines = []
        self._code = b""
        self._size = 0
        enhanced = ""
        found = _ENHANCED.match(lines[0])
        if found is not None and lines[0][0] == chr(code[0]):
            enhanced = found[1]
            # RFC 2034 section 4: on every line
            for number_of, line in enumerate(lines):
                if line.startswith(enhanced) and line[len(enhanced) :][:1] in ("", " "):
                    lines[number_of] = line[len(enhanced) :].lstrip(" ")
        whole = " ".join(line for line in lines if line)
        return Reply(number, enhanced, whole[:MAX_TEXT], tuple(lines))

    def _fail(self, text: str) -> NoReturn:
        self._error = text
        self._buffer.clear()
        self._lines.clear()
        self._size = 0
        raise ReplyError(text)


def _one_line(code: bytes, last: bytes | None) -> Reply:
    text = _printable(last) if last else ""
    enhanced = ""
    found = _ENHANCED.match(text)
    # RFC 2034 section 4: its class is that of the reply
    if found is not None and text[0] == chr(code[0]):
        enhanced = found[1]
        text = text[found.end() :].lstrip(" ")
    return Reply(int(code), enhanced, text, (text,))


@lru_cache(64)
def _short(line: bytes) -> Reply | None:
    """The reply that is this line alone; None: it is none, or has more lines. Servers say the same again and again."""
    found = _LINE.fullmatch(line)
    if found is None or found[2] == b"-":
        return None
    return _one_line(found[1], found[3])


def command(text: str) -> bytes:
    """A command line with its CRLF. Raises ValueError when `text` could be more than one line, or is too long."""
    if _CONTROLS.search(text) is not None:
        raise ValueError("a command with control characters")
    line = text.encode() + b"\r\n"
    if len(line) > MAX_COMMAND:
        raise ValueError("a command that is too long")
    return line


def path(address: str) -> str:
    """``<address>`` for MAIL and RCPT; "" is the null path. Raises ValueError when it is no address.

    A path that is one thing here and another there is how a parameter, or a recipient, is smuggled.
    """
    if address and _PLAIN_PATH.fullmatch(address) is None:
        address = str(Address.parse(address))
    return f"<{address}>"


def _printable(line: bytes) -> str:
    # A character has up to four octets.
    text = line[: 4 * MAX_TEXT].decode("utf-8", "replace")[:MAX_TEXT]
    if not text.isprintable():
        text = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return text.strip(" ")
