"""IMAP's bytes and events: lines with literals in, parsed commands out; content of APPEND in blocks.

Promises: no bytes make it raise; any cut of the stream gives the same events (where content is cut
into blocks is the stream's); octets of a literal are never run as a command, whatever was refused;
what is over a bound is dropped in bounded memory and reported.

`resume` says what comes next: None (a command, or the rest of what is being read), `events.SASL`,
`events.IDLE`, in an append `events.ACCEPT` or `events.REFUSE`. With `events.Terms` it also says that the
client has logged in or out, or enabled UTF-8.

A line ends with CRLF; LF alone is taken as well: literals are counted, so it opens no way to
smuggle.
"""

from __future__ import annotations

import enum
from typing import Final

from ..connection.interfaces import NEED_DATA, PAUSED, Signal
from . import grammar_append
from .events import (
    IDLE,
    REFUSE,
    SASL,
    AppendEnd,
    CatenateEnd,
    CatenateUrl,
    Content,
    ContentEnd,
    Done,
    Event,
    Invalid,
    LiteralWanted,
    SaslResponse,
    Terms,
)
from .grammar import Malformed, parse, tag_of
from .reader import LITERAL_AT_END, Reader

__all__ = ["Engine"]

BLOCK: Final = 65_536
"""Octets of one `Content`."""
MAX_NON_SYNCHRONISING: Final = 4096
"""RFC 7888 section 5: what LITERAL- allows, which is in force before login."""
ALARM: Final = 1 << 20
"""Of an endless line, or before login of a literal, every so many octets that are dropped are
reported again, so that the session's count of errors ends it."""

_SPEC: Final = 32
"""Octets in which the announcement of a literal finds room."""
_CR: Final = 0x0D
_CLOSE_BRACE: Final = 0x7D

_CONTENT_END: Final = ContentEnd()
_CATENATE_END: Final = CatenateEnd()
_APPEND_END: Final = AppendEnd()
_DONE: Final = Done()


class _Mode(enum.Enum):
    COMMAND = enum.auto()
    SASL = enum.auto()
    IDLE = enum.auto()
    SKIP = enum.auto()  # the rest of a command that was refused
    MESSAGE = enum.auto()  # in an append, `_reader` before a message or the end
    PART = enum.auto()  # in CATENATE (…), `_reader` before a part or its end
    URL = enum.auto()  # a literal that is a URL
    CONTENT = enum.auto()
    LINE = enum.auto()  # the line behind a literal


_IN_APPEND: Final = frozenset((_Mode.MESSAGE, _Mode.PART, _Mode.URL, _Mode.CONTENT, _Mode.LINE))


class Engine:
    """A server's end of one connection (`connection.interfaces.CompressibleEngine`).

    In octets: `max_line` and `max_line_before_login` bound the lines of one command together,
    `max_literals` and `max_literals_before_login` its literals together (content of APPEND is none of
    them); `max_literal_count`: literals of one command.
    """

    __slots__ = (
        "_after",
        "_asked",
        "_buffer",
        "_dropped",
        "_literal_count",
        "_literals",
        "_logged_in",
        "_max_line",
        "_max_line_before_login",
        "_max_literal_count",
        "_max_literals",
        "_max_literals_before_login",
        "_messages",
        "_mode",
        "_parts",
        "_paused",
        "_reader",
        "_remaining",
        "_report",
        "_searched",
        "_start",
        "_tag",
        "_utf8",
        "_utf8_message",
    )

    def __init__(
        self,
        *,
        max_line: int = 65_536,
        max_line_before_login: int = 16_384,
        max_literals: int = 262_144,
        max_literals_before_login: int = 8_192,
        max_literal_count: int = 100,
    ) -> None:
        self._max_line = max_line
        self._max_line_before_login = max_line_before_login
        self._max_literals = max_literals
        self._max_literals_before_login = max_literals_before_login
        self._max_literal_count = max_literal_count
        # Cutting octets off the front of a bytearray moves nothing: what is used is cut at once.
        self._buffer = bytearray()
        self._forget()

    def _forget(self) -> None:
        self._logged_in = self._utf8 = False
        self._mode = _Mode.COMMAND
        self._paused = False
        self._tag = b"*"
        self._report: Invalid | None = None
        self._dropped = 0
        self._remaining = 0  # octets of a literal that is given out, or dropped
        self._asked = False  # a synchronising literal was announced and not yet accepted
        self._after = _Mode.MESSAGE  # what the line behind a literal goes on with
        self._utf8_message = False
        self._messages = self._parts = 0
        self._reader = Reader(b"")
        self._begin()

    def _begin(self) -> None:
        """The buffer begins with a command, or a line."""
        self._start = self._searched = self._literals = self._literal_count = 0

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    @property
    def midway(self) -> bool:
        mode = self._mode
        return self._start > 0 if mode is _Mode.COMMAND else mode is not _Mode.IDLE

    def receive(self, data: bytes) -> None:
        self._buffer += data

    def next_event(self) -> Event | Signal:
        if self._paused:
            return PAUSED
        event = None
        while event is None:
            event = self._step()
        self._paused = event is not NEED_DATA
        return event

    def resume(self, expect: object = None) -> None:
        self._paused = False
        if expect is not None:
            if isinstance(expect, Terms):
                self._logged_in, self._utf8 = expect
            elif expect is REFUSE:
                if self._mode in _IN_APPEND:
                    self._abandon(None)
            elif self._mode is _Mode.COMMAND and not self._start:
                if expect is SASL:
                    self._mode = _Mode.SASL
                elif expect is IDLE:
                    self._mode = _Mode.IDLE
        self._asked = False

    def start_tls(self) -> bool:
        # RFC 9051 section 6.2.1: nothing that came in clear may be run under TLS
        if self._buffer:
            return False
        self._forget()
        return True

    def give_back(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer.clear()
        self._begin()
        return data

    # -- lines

    def _step(self) -> Event | Signal | None:
        """An event, NEED_DATA, or None: call again."""
        mode = self._mode
        if mode is _Mode.COMMAND:
            return self._command()
        if mode is _Mode.CONTENT:
            return self._content()
        if mode is _Mode.MESSAGE or mode is _Mode.PART:
            try:
                return self._message() if mode is _Mode.MESSAGE else self._part()
            except Malformed as malformed:
                return self._abandon(self._invalid(malformed))
        if mode is _Mode.LINE:
            return self._line_behind()
        if mode is _Mode.SKIP:
            return self._skip()
        if mode is _Mode.URL:
            return self._url()
        return self._answer()

    def _line(self) -> int:
        """The index of the LF that ends the line at `_start`; -1: it has not come; -2: the lines are too
        long together, and are being skipped."""
        buffer = self._buffer
        bound = self._max_line if self._logged_in else self._max_line_before_login
        found = buffer.find(b"\n", self._searched)
        size = (found if found >= 0 else len(buffer)) - self._literals
        if size >= bound and (found >= 0 or len(buffer) > self._start):
            tag = tag_of(buffer) if self._mode is _Mode.COMMAND else self._tag
            del buffer[: self._start]
            return self._refuse(Invalid(tag, "the command is too long", "TOOBIG"), 0)
        if found < 0:
            self._searched = max(len(buffer), self._start)
        return found

    def _refuse(self, report: Invalid | None, octets: int) -> int:
        """Skip so many octets of a literal, and the rest of the command; then report."""
        self._mode = _Mode.SKIP
        self._report = report
        self._remaining = octets
        self._dropped = 0
        self._begin()
        return -2

    def _command(self) -> Event | Signal | None:
        found = self._line()
        if found < 0:
            return NEED_DATA if found == -1 else None
        buffer = self._buffer
        end = found - 1 if found > self._start and buffer[found - 1] == _CR else found
        if end > self._start and buffer[end - 1] == _CLOSE_BRACE:
            spec = LITERAL_AT_END.search(buffer, max(self._start, end - _SPEC), end)
            if spec is not None and (
                not grammar_append.is_append(buffer)
                or grammar_append.wants_mailbox(buffer, spec.start())
            ):
                size, synchronising = int(spec[2]), not spec[3]
                del spec  # it holds the buffer, which could not be cut then
                return self._literal(found, size, synchronising)
            del spec
        line = bytes(memoryview(buffer)[:end])
        del buffer[: found + 1]
        self._begin()
        if grammar_append.is_append(line):
            self._tag = tag_of(line)
            self._reader = Reader(line, utf8=self._utf8)
            self._mode = _Mode.MESSAGE
            self._messages = 0
            try:
                return grammar_append.begin(self._reader)
            except Malformed as malformed:
                return self._abandon(self._invalid(malformed))
        try:
            command = parse(line, self._utf8)
        except Malformed as malformed:
            self._tag = malformed.tag
            return self._invalid(malformed)
        self._tag = command.tag
        return command

    def _literal(self, found: int, size: int, synchronising: bool) -> Event | None:
        """A literal of a command, announced before `found`: wait for it where it stands, or refuse."""
        buffer = self._buffer
        refusal = self._refusal(size, synchronising, tag_of(buffer))
        if refusal is None:
            self._literals += size
            self._literal_count += 1
            self._start = self._searched = found + 1 + size
            return LiteralWanted(size) if synchronising else None
        del buffer[: found + 1]
        self._begin()
        if synchronising:
            return refusal  # RFC 9051 section 4.3: then the client sends nothing of it
        self._refuse(refusal, size)
        return None

    def _refusal(self, size: int, synchronising: bool, tag: bytes) -> Invalid | None:
        bound = self._max_literals if self._logged_in else self._max_literals_before_login
        if self._literals + size > bound:
            # RFC 9051 section 7.1: TOOBIG
            return Invalid(
                tag, "the literal is too large", "TOOBIG", "NO" if synchronising else "BAD"
            )
        if not synchronising and not self._logged_in and size > MAX_NON_SYNCHRONISING:
            # RFC 7888 section 5
            return Invalid(
                tag, "a non-synchronising literal has at most 4096 octets here", "TOOBIG"
            )
        if self._literal_count >= self._max_literal_count:
            return Invalid(tag, "too many literals in a command", "LIMIT")
        return None

    def _invalid(self, malformed: Malformed) -> Invalid:
        tag = self._tag if self._mode is not _Mode.COMMAND else malformed.tag
        return Invalid(tag, malformed.text, malformed.code, malformed.status)

    def _answer(self) -> Event | Signal | None:
        """The one line of SASL or IDLE."""
        found = self._line()
        if found < 0:
            return NEED_DATA if found == -1 else None
        buffer = self._buffer
        line = bytes(memoryview(buffer)[:found])
        if line.endswith(b"\r"):
            line = line[:-1]
        del buffer[: found + 1]
        self._begin()
        mode, self._mode = self._mode, _Mode.COMMAND
        if mode is _Mode.SASL:
            return SaslResponse(line)
        if line.upper() == b"DONE":
            return _DONE
        # It may have been a command: what belongs to it is not run, either.
        refusal = Invalid(self._tag, "DONE was expected")
        spec = LITERAL_AT_END.search(line)
        if spec is None or not spec[3]:
            return refusal
        self._refuse(refusal, int(spec[2]))
        return None

    # -- what is refused

    def _skip(self) -> Event | Signal | None:
        buffer = self._buffer
        if self._remaining:
            size = min(self._remaining, len(buffer), ALARM - self._dropped)
            del buffer[:size]
            self._remaining -= size
            self._dropped += size
            if self._dropped == ALARM:
                self._dropped = 0
                if not self._logged_in:
                    return Invalid(b"*", "too much of it", "TOOBIG")
            elif self._remaining:
                return NEED_DATA
            if not self._remaining:
                self._dropped = 0
            return None
        found = buffer.find(b"\n", self._searched)
        size = found if found >= 0 else len(buffer)
        if self._dropped + size >= ALARM:
            # The same octets are dropped however they came; the end, where a literal may be
            # announced, stays.
            del buffer[: ALARM - _SPEC - self._dropped]
            self._dropped = self._searched = 0
            return Invalid(b"*", "a line without end", "TOOBIG")
        if found < 0:
            surplus = max(size - _SPEC, 0)
            del buffer[:surplus]
            self._dropped += surplus
            self._searched = len(buffer)
            return NEED_DATA
        end = bytes(memoryview(buffer)[max(found - _SPEC, 0) : found])
        del buffer[: found + 1]
        self._dropped = self._searched = 0
        spec = LITERAL_AT_END.search(end[:-1] if end.endswith(b"\r") else end)
        if spec is not None and spec[3]:
            self._remaining = int(spec[2])
            return None
        self._mode = _Mode.COMMAND
        report, self._report = self._report, None
        return report

    def _abandon(self, report: Invalid | None) -> Invalid | None:
        """Drop what is left of an append. The report comes now when nothing is left, else later."""
        mode = self._mode
        if mode is _Mode.LINE:
            self._refuse(report, 0)
            return None
        if mode is _Mode.CONTENT or mode is _Mode.URL:
            if not self._asked:
                self._refuse(report, self._remaining)
                return None
        else:
            spec = LITERAL_AT_END.search(self._reader.data, max(len(self._reader.data) - _SPEC, 0))
            if spec is not None and spec[3]:
                self._refuse(report, int(spec[2]))
                return None
        self._mode = _Mode.COMMAND
        return report

    # -- append

    def _message(self) -> Event | None:
        reader = self._reader
        if self._messages and (reader.at_end() or not reader.data[reader.at :].strip(b" ")):
            self._mode = _Mode.COMMAND
            return _APPEND_END
        made = grammar_append.message(reader)
        self._messages += 1
        if made.catenate:
            self._parts = 0
            self._mode = _Mode.PART
            return made
        self._utf8_message = made.utf8
        self._expect_content(made.size or 0, made.synchronising, _Mode.MESSAGE)
        return made

    def _part(self) -> Event | None:
        reader = self._reader
        if self._parts:
            if reader.take(b")"):
                self._mode = _Mode.MESSAGE
                return _CATENATE_END
            reader.sp()
        self._parts += 1
        if reader.take_word(b"TEXT "):
            text = grammar_append.text_part(reader)
            self._utf8_message = False
            self._expect_content(text.size, text.synchronising, _Mode.PART)
            return text
        if not reader.take_word(b"URL "):
            raise Malformed("URL or TEXT is missing")
        if LITERAL_AT_END.match(reader.data, reader.at) is None:
            return CatenateUrl(reader.astring())
        _, size, synchronising = grammar_append.literal(reader)
        self._literals = self._literal_count = 0
        refusal = self._refusal(size, synchronising, self._tag)
        if refusal is not None:
            return self._abandon(refusal)
        self._expect_content(size, synchronising, _Mode.PART)
        self._utf8_message = False
        self._mode = _Mode.URL
        return LiteralWanted(size) if synchronising else None

    def _expect_content(self, size: int, synchronising: bool, after: _Mode) -> None:
        self._mode = _Mode.CONTENT
        self._remaining = size
        self._asked = synchronising
        self._after = after

    def _url(self) -> Event | Signal:
        buffer = self._buffer
        size = self._remaining
        if len(buffer) < size:
            return NEED_DATA
        url = bytes(memoryview(buffer)[:size])
        del buffer[:size]
        self._mode = _Mode.LINE
        self._begin()
        return CatenateUrl(url)

    def _content(self) -> Event | Signal:
        if not self._remaining:
            self._mode = _Mode.LINE
            self._begin()
            return _CONTENT_END
        buffer = self._buffer
        if not buffer:
            return NEED_DATA
        size = min(self._remaining, len(buffer), BLOCK)
        block = bytes(memoryview(buffer)[:size])
        del buffer[:size]
        self._remaining -= size
        return Content(block)

    def _line_behind(self) -> Signal | Invalid | None:
        found = self._line()
        if found < 0:
            return NEED_DATA if found == -1 else None
        buffer = self._buffer
        line = bytes(memoryview(buffer)[:found])
        if line.endswith(b"\r"):
            line = line[:-1]
        del buffer[: found + 1]
        self._begin()
        self._reader = Reader(line, utf8=self._utf8)
        self._mode = self._after
        if self._utf8_message and not self._reader.take(b")"):
            self._utf8_message = False
            return self._abandon(Invalid(self._tag, ") is missing"))
        self._utf8_message = False
        return None
