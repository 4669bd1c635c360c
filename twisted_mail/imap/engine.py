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
from .grammar import Malformed, known, parse, tag_of
from .lines import SPEC, Lines, Mode, unasked
from .reader import LITERAL_AT_END, Reader

__all__ = ["Engine"]

BLOCK: Final = 65_536
"""Octets of one `Content`."""
_CLOSE_BRACE: Final = 0x7D

_CONTENT_END: Final = ContentEnd()
_CATENATE_END: Final = CatenateEnd()
_APPEND_END: Final = AppendEnd()
_DONE: Final = Done()


_IN_APPEND: Final = frozenset((Mode.MESSAGE, Mode.PART, Mode.URL, Mode.CONTENT, Mode.LINE))


class Engine(Lines):
    """A server's end of one connection (`connection.interfaces.CompressibleEngine`).

    In octets: `max_line` and `max_line_before_login` bound the lines of one command together,
    `max_literals` and `max_literals_before_login` its literals together (content of APPEND is none of
    them); `max_literal_count`: literals of one command.
    """

    __slots__ = (
        "_after",
        "_asked",
        "_behind",
        "_messages",
        "_parts",
        "_paused",
        "_reader",
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
        super().__init__(
            max_line,
            max_line_before_login,
            max_literals,
            max_literals_before_login,
            max_literal_count,
        )

    def _forget(self) -> None:
        super()._forget()
        self._utf8 = self._paused = False
        self._asked = False  # a synchronising literal was announced and not yet accepted
        self._after = Mode.MESSAGE  # what the line behind a literal goes on with
        self._utf8_message = False
        self._messages = self._parts = 0
        self._reader = Reader(b"")
        self._behind = 0  # what is before this in `_reader` is a literal

    @property
    def midway(self) -> bool:
        mode = self._mode
        return self._start > 0 if mode is Mode.COMMAND else mode is not Mode.IDLE

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
            elif self._mode is Mode.COMMAND and not self._start:
                if expect is SASL:
                    self._mode = Mode.SASL
                elif expect is IDLE:
                    self._mode = Mode.IDLE
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
        if mode is Mode.COMMAND:
            return self._command()
        if mode is Mode.CONTENT:
            return self._content()
        if mode is Mode.MESSAGE or mode is Mode.PART:
            try:
                return self._message() if mode is Mode.MESSAGE else self._part()
            except Malformed as malformed:
                return self._abandon(self._invalid(malformed))
        if mode is Mode.LINE:
            return self._line_behind()
        if mode is Mode.SKIP:
            return self._skip()
        if mode is Mode.URL:
            return self._url()
        return self._answer()

    def _command(self) -> Event | Signal | None:
        found = self._line()
        if found < 0:
            return NEED_DATA if found == -1 else None
        announced = self._announced(found)
        if announced is not None:
            return self._literal(found, *announced)
        start = self._start
        line = self._take_line(found)
        if grammar_append.is_append(line):
            self._behind = start
            self._tag = tag_of(line)
            self._reader = Reader(line, utf8=self._utf8)
            self._mode = Mode.MESSAGE
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

    def _announced(self, found: int) -> tuple[int, bool] | None:
        """The literal of a command that the line before `found` announces, and not content: its size,
        and whether it is synchronising."""
        buffer = self._buffer
        end = found - 1 if found > self._start and buffer[found - 1] == 0x0D else found
        if end <= self._start or buffer[end - 1] != _CLOSE_BRACE:
            return None
        # While `spec` lives nothing can be cut off the buffer.
        spec = LITERAL_AT_END.search(buffer, max(self._start, end - SPEC), end)
        if spec is None or (
            grammar_append.is_append(buffer)
            and not grammar_append.wants_mailbox(buffer, spec.start())
        ):
            return None
        return int(spec[2]), not spec[3]

    def _literal(self, found: int, size: int, synchronising: bool) -> Event | None:
        """A literal of a command, announced before `found`: wait for it where it stands, or refuse."""
        buffer = self._buffer
        refusal = self._refusal(size, synchronising, tag_of(buffer))
        first = refusal is None and synchronising and not self._literal_count
        if first and not known(buffer) and not grammar_append.is_append(buffer):
            # RFC 9051 section 7.6: what nobody will read is not asked for
            refusal = Invalid(tag_of(buffer), "there is no such command")
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

    def _invalid(self, malformed: Malformed) -> Invalid:
        tag = self._tag if self._mode is not Mode.COMMAND else malformed.tag
        return Invalid(tag, malformed.text, malformed.code, malformed.status)

    def _answer(self) -> Event | Signal | None:
        """The one line of SASL or IDLE."""
        found = self._line()
        if found < 0:
            return NEED_DATA if found == -1 else None
        line = self._take_line(found)
        mode, self._mode = self._mode, Mode.COMMAND
        if mode is Mode.SASL:
            return SaslResponse(line)
        if line.strip(b" ").upper() == b"DONE":
            return _DONE
        # It may have been a command: what belongs to it is not run, either.
        refusal = Invalid(self._tag, "DONE was expected")
        size = unasked(line)
        if size is None:
            return refusal
        self._refuse(refusal, size)
        return None

    def _abandon(self, report: Invalid | None) -> Invalid | None:
        """Drop what is left of an append. The report comes now when nothing is left, else later."""
        mode = self._mode
        if mode is Mode.LINE:
            self._refuse(report, 0)
            return None
        if mode is Mode.CONTENT or mode is Mode.URL:
            if not self._asked:
                self._refuse(report, self._remaining)
                return None
        else:
            size = unasked(self._reader.data, self._behind)
            if size is not None:
                self._refuse(report, size)
                return None
        self._mode = Mode.COMMAND
        return report

    # -- append

    def _message(self) -> Event | None:
        reader = self._reader
        if self._messages and (reader.at_end() or not reader.data[reader.at :].strip(b" ")):
            self._mode = Mode.COMMAND
            return _APPEND_END
        made = grammar_append.message(reader)
        self._messages += 1
        if made.catenate:
            self._parts = 0
            self._mode = Mode.PART
            return made
        self._utf8_message = made.utf8
        self._expect_content(made.size or 0, made.synchronising, Mode.MESSAGE)
        return made

    def _part(self) -> Event | None:
        reader = self._reader
        if self._parts:
            if reader.take(b")"):
                self._mode = Mode.MESSAGE
                return _CATENATE_END
            reader.sp()
        self._parts += 1
        if reader.take_word(b"TEXT "):
            text = grammar_append.text_part(reader)
            self._utf8_message = False
            self._expect_content(text.size, text.synchronising, Mode.PART)
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
        self._expect_content(size, synchronising, Mode.PART)
        self._utf8_message = False
        self._mode = Mode.URL
        return LiteralWanted(size) if synchronising else None

    def _expect_content(self, size: int, synchronising: bool, after: Mode) -> None:
        self._mode = Mode.CONTENT
        self._remaining = size
        self._asked = synchronising
        self._after = after

    def _url(self) -> Event | Signal:
        if len(self._buffer) < self._remaining:
            return NEED_DATA
        url = self._take(self._remaining)
        self._mode = Mode.LINE
        self._begin()
        return CatenateUrl(url)

    def _content(self) -> Event | Signal:
        if not self._remaining:
            self._mode = Mode.LINE
            self._begin()
            return _CONTENT_END
        buffer = self._buffer
        if not buffer:
            return NEED_DATA
        size = min(self._remaining, len(buffer), BLOCK)
        self._remaining -= size
        return Content(self._take(size))

    def _line_behind(self) -> Signal | Invalid | None:
        found = self._line()
        if found < 0:
            return NEED_DATA if found == -1 else None
        line = self._take_line(found)
        self._reader = Reader(line, utf8=self._utf8)
        self._behind = 0
        self._mode = self._after
        if self._utf8_message and not self._reader.take(b")"):
            self._utf8_message = False
            return self._abandon(Invalid(self._tag, ") is missing"))
        self._utf8_message = False
        return None
