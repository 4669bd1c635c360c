"""The SMTP server's engine: octets in, commands and content out.

It knows lines, the end of DATA, dot-stuffing, chunks of BDAT and the length of things; it knows no
verbs but AUTH, which may have longer lines. Content moves in blocks as large as what has arrived,
never line by line.

Promises: only CR LF . CR LF ends DATA (RFC 5321 section 4.1.1.4), at whatever edges it was cut;
what looks like it ("LF . CR LF", "CR LF . LF", …) is content. Content is never run as a command,
nor a command taken for content. A line over its bound is dropped up to its end in bounded memory.
No octets make it raise.

The caller's duty: `resume` after every event, and to stop calling `receive` while `buffered` is
past its bound. What it does not do: replies, order of commands, the size of messages.

A command that ends in a bare LF is taken, as Postfix does, unless `strict`; then only CRLF ends a
line. Either way this decides only where a command ends, never where content does, so it opens no
way to smuggle.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import Final

from ..connection.interfaces import NEED_DATA, PAUSED, Signal

__all__ = [
    "DATA",
    "MORE",
    "RESPONSE",
    "Block",
    "Chunk",
    "Command",
    "EndOfChunk",
    "EndOfData",
    "Event",
    "LineTooLong",
    "Response",
    "SmtpEngine",
]

MAX_COMMAND_LINE: Final = 2048
"""Octets, CRLF included. RFC 5321 section 4.5.3.1.4 says 512; MAIL with all parameters of RFC 1870,
4954, 6152 and 6531 may have some 1100."""
MAX_AUTH_LINE: Final = 12288
"""RFC 4954 section 4: of the BASE64 text, so the verb, the mechanism and CRLF come on top."""
MAX_DROPPED: Final = 1 << 20
"""So much of one over-long line is waited for until its end; then the session hangs up."""

_END_OF_DATA: Final = b"\r\n.\r\n"
_AUTH_EXTRA: Final = 64

# Regular expressions find a few octets in many in half the time of `find`, and a fifth of that of `replace`.
_end_of_data: Final = re.compile(rb"\r\n\.\r\n").search
_at_dots: Final = re.compile(rb"\r\n\.").split
_FEW: Final = 512
"""Dots of a block that are taken out so; of more than that each costs less by `replace`."""


class Expect(enum.Enum):
    """What `SmtpEngine.resume` takes besides None (a command) and a `Chunk`."""

    DATA = "DATA"
    MORE = "MORE"
    RESPONSE = "RESPONSE"


DATA: Final = Expect.DATA
"""The content of a message, to CR LF . CR LF."""
MORE: Final = Expect.MORE
"""The rest of a message: in the midst of content that, and between two chunks a command."""
RESPONSE: Final = Expect.RESPONSE
"""One line of a SASL exchange."""


@dataclass(slots=True)
class Chunk:
    """To `resume`: exactly `size` octets of content follow (RFC 3030), be they wanted or not."""

    size: int


@dataclass(slots=True)
class Command:
    """One command line: `verb` in upper case, `argument` as it came without blanks at its end."""

    verb: str
    argument: bytes

    def __repr__(self) -> str:
        shown = "…" if self.verb == "AUTH" else self.argument
        return f"Command({self.verb!r}, {shown!r})"


@dataclass(slots=True)
class Response:
    """One line of a SASL exchange, without its end."""

    line: bytes = field(repr=False)


@dataclass(slots=True)
class Block:
    """A piece of content, never empty, dot-stuffing removed."""

    data: bytes = field(repr=False)


@dataclass(slots=True)
class EndOfData:
    """CR LF . CR LF was read; a command follows."""


@dataclass(slots=True)
class EndOfChunk:
    """The last octet of a chunk was given out; a command follows."""


@dataclass(slots=True)
class LineTooLong:
    """A line over its bound was dropped. Unless `ended`, MAX_DROPPED octets came without an end:
    hang up.
    """

    ended: bool


Event = Command | Response | Block | EndOfData | EndOfChunk | LineTooLong

_END_OF_DATA_EVENT: Final = EndOfData()
_END_OF_CHUNK_EVENT: Final = EndOfChunk()


class _Mode(enum.Enum):
    COMMAND = enum.auto()
    RESPONSE = enum.auto()
    DATA_LINE = enum.auto()  # at the start of a line of content
    DATA = enum.auto()
    CHUNK = enum.auto()


# A class's attribute costs more than a global, and these are asked for at every event.
_COMMAND: Final = _Mode.COMMAND
_RESPONSE: Final = _Mode.RESPONSE


class SmtpEngine:
    """`connection.interfaces.Engine` of SMTP. `strict`: a bare LF ends no command."""

    __slots__ = (
        "_between_chunks",
        "_buffer",
        "_dropped",
        "_line_end",
        "_max_line",
        "_mode",
        "_paused",
        "_remaining",
        "_searched",
    )

    def __init__(self, *, strict: bool = False, max_line: int = MAX_COMMAND_LINE) -> None:
        self._line_end = b"\r\n" if strict else b"\n"
        self._max_line = max_line
        # Cutting octets off the front of a bytearray moves nothing: what is used is cut at once.
        self._buffer = bytearray()
        self._mode = _Mode.COMMAND
        self._paused = self._between_chunks = False
        self._searched = 0  # no line end before this index
        self._dropped = 0  # octets of an over-long line
        self._remaining = 0  # octets of a chunk

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    @property
    def midway(self) -> bool:
        return self._mode is not _COMMAND or self._between_chunks

    def receive(self, data: bytes) -> None:
        self._buffer += data

    def next_event(self) -> Event | Signal:
        if self._paused:
            return PAUSED
        mode = self._mode
        if mode is _COMMAND or mode is _RESPONSE:
            if not self._buffer:
                return NEED_DATA
            event = self._next_line()
        elif mode is _Mode.CHUNK:
            event = self._next_of_chunk()
        else:
            event = self._next_of_data()
        if event is not NEED_DATA:
            self._paused = True
        return event

    def resume(self, expect: object = None) -> None:
        """Go on. In the midst of content `expect` changes nothing: only its end ends it."""
        self._paused = False
        if self._mode is not _COMMAND:
            return
        self._between_chunks = expect is MORE
        if expect is None or expect is MORE:
            return
        if expect is DATA:
            self._mode = _Mode.DATA_LINE
        elif expect is RESPONSE:
            self._mode = _Mode.RESPONSE
        elif isinstance(expect, Chunk):
            self._mode = _Mode.CHUNK
            self._remaining = expect.size
        else:
            raise TypeError(f"not to be expected in SMTP: {expect!r}")

    def start_tls(self) -> bool:
        if self._buffer:  # RFC 3207 section 4.2
            return False
        self._mode = _Mode.COMMAND
        self._paused = self._between_chunks = False
        self._searched = self._dropped = self._remaining = 0
        return True

    def _next_line(self) -> Event | Signal:
        buffer = self._buffer
        found = buffer.find(self._line_end, self._searched)
        if self._dropped:
            return self._drop_line(found)
        if found < 0:
            # A CR at the edge is looked at again.
            self._searched = max(len(buffer) - 1, 0)
            if len(buffer) < self._max_line or len(buffer) < self._bound():
                return NEED_DATA
            return self._drop_line(found)
        size = found + len(self._line_end)
        if size > self._max_line and size > self._bound():
            return self._drop_line(found)
        # RFC 5321 section 4.1.1: blanks before the line end are tolerated
        line = bytes(buffer[:found]).rstrip(b" \t\r")
        del buffer[:size]
        self._searched = 0
        if self._mode is _RESPONSE:
            self._mode = _COMMAND
            return Response(line)
        verb, _, argument = line.partition(b" ")
        return Command(verb.upper().decode("latin-1"), argument)

    def _bound(self) -> int:
        """Octets that the line at the head of the buffer may have, its end included."""
        if self._mode is _Mode.RESPONSE:
            return MAX_AUTH_LINE + 2
        if self._buffer[:5].upper() == b"AUTH ":
            return MAX_AUTH_LINE + _AUTH_EXTRA
        return self._max_line

    def _drop_line(self, found: int) -> Event | Signal:
        buffer = self._buffer
        size = len(buffer) if found < 0 else found + len(self._line_end)
        if found < 0 and self._line_end[0] == 0x0D and buffer.endswith(b"\r"):
            size -= 1
        if self._dropped + size > MAX_DROPPED:
            size = MAX_DROPPED - self._dropped
            found = -1
        del buffer[:size]
        self._searched = 0
        self._dropped += size
        ended = found >= 0
        if not ended and self._dropped < MAX_DROPPED:
            return NEED_DATA
        self._dropped = 0
        self._mode = _Mode.COMMAND
        return LineTooLong(ended)

    def _next_of_chunk(self) -> Event | Signal:
        if not self._remaining:
            self._mode = _Mode.COMMAND
            return _END_OF_CHUNK_EVENT
        if not self._buffer:
            return NEED_DATA
        block = self._take(min(self._remaining, len(self._buffer)))
        self._remaining -= len(block)
        return Block(block)

    def _next_of_data(self) -> Event | Signal:
        buffer = self._buffer
        if self._mode is _Mode.DATA_LINE:
            # RFC 5321 section 4.1.1.4: the CRLF of DATA itself may be the first of CR LF . CR LF
            if b".\r\n".startswith(bytes(buffer[:3])):
                if len(buffer) < 3:
                    return NEED_DATA
                del buffer[:3]
                self._mode = _Mode.COMMAND
                return _END_OF_DATA_EVENT
            if buffer[0] == 0x2E:
                del buffer[:1]
            self._mode = _Mode.DATA
        if buffer.find(b".") >= 0:
            parts = _at_dots(buffer, _FEW)
            if len(parts) > _FEW:
                return self._next_of_dots()
            if len(parts) > 1:
                return self._next_of_parts(parts)
        size = len(buffer) - self._undecided()
        return Block(self._take(size)) if size else NEED_DATA

    def _next_of_parts(self, parts: list[bytes]) -> Event | Signal:
        """`parts`: the buffer, cut at each CR LF dot."""
        buffer = self._buffer
        last = len(parts) - 1
        for number in range(1, last + 1):
            part = parts[number]
            # A stuffed dot has another octet than CR behind it, so the first CR LF . CR LF is the end. The second CR
            # LF may belong to the next cut.
            if part[:2] == b"\r\n" or not (part or number == last):
                self._mode = _Mode.DATA_LINE
                block = b"\r\n".join((*parts[:number], b""))
                del buffer[: len(block) + number - 1]
                return Block(block)
        held = self._undecided()
        if held > 2:
            # The last dot, and perhaps a CR
            del parts[last]
        elif held:
            parts[last] = parts[last][:-held]
        block = b"\r\n".join(parts)
        if not block:
            return NEED_DATA
        del buffer[: len(buffer) - held]
        return Block(block)

    def _next_of_dots(self) -> Event | Signal:
        """The same with more dots than is usual."""
        buffer = self._buffer
        found = _end_of_data(buffer)
        if found is None:
            size = len(buffer) - self._undecided()
        else:
            size = found.start() + 2
            self._mode = _Mode.DATA_LINE
        return Block(self._take(size).replace(b"\r\n.", b"\r\n"))

    def _undecided(self) -> int:
        """How many octets at the buffer's end may be the beginning of the end."""
        buffer = self._buffer
        for length in (4, 3, 2, 1):
            if buffer.endswith(_END_OF_DATA[:length]):
                return length
        return 0

    def _take(self, size: int) -> bytes:
        buffer = self._buffer
        block = bytes(memoryview(buffer)[:size])
        del buffer[:size]
        return block
