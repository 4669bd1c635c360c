"""The lines below `imap.engine`: where they end, how long they may be, and how what is refused goes by.

A command is its lines with literals between them. `Lines` leaves them in the buffer, in place, until
the command is whole; what it refuses it drops, with the literals that the client sends unasked
(RFC 7888), so that their octets are never run as commands.
"""

from __future__ import annotations

import enum
from typing import Final

from ..connection.interfaces import NEED_DATA, Signal
from .events import Invalid
from .grammar import tag_of
from .reader import LITERAL_AT_END

__all__ = ["ALARM", "SPEC", "Lines", "Mode", "unasked"]

MAX_NON_SYNCHRONISING: Final = 4096
"""RFC 7888 section 5: what LITERAL- allows, which is in force before login."""
ALARM: Final = 1 << 20
"""Of an endless line, or before login of a literal, every so many octets that are dropped are
reported again, so that the session's count of errors ends it."""
MANY_LITERALS: Final = 500
"""So are so many literals of a command that was refused: an empty one costs as much as a long one, and a block of what
came may hold ten thousand of them."""
SPEC: Final = 64
"""Octets in which the announcement of a literal finds room."""


class Mode(enum.Enum):
    COMMAND = enum.auto()
    SASL = enum.auto()
    IDLE = enum.auto()
    SKIP = enum.auto()  # the rest of a command that was refused
    MESSAGE = enum.auto()  # in an append, `_reader` before a message or the end
    PART = enum.auto()  # in CATENATE (…), `_reader` before a part or its end
    URL = enum.auto()  # a literal that is a URL
    CONTENT = enum.auto()
    LINE = enum.auto()  # the line behind a literal


class Lines:
    """The buffer, and the bounds on what may wait in it (`imap.engine.Engine` says which)."""

    __slots__ = (
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
        "_mode",
        "_passed",
        "_remaining",
        "_report",
        "_searched",
        "_start",
        "_tag",
    )

    def __init__(
        self,
        max_line: int,
        max_line_before_login: int,
        max_literals: int,
        max_literals_before_login: int,
        max_literal_count: int,
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
        self._logged_in = False
        self._mode = Mode.COMMAND
        self._tag = b"*"
        self._report: Invalid | None = None
        self._dropped = 0
        self._passed = 0  # literals of a command that was refused
        self._remaining = 0  # octets of a literal that is given out, or dropped
        self._begin()

    def _begin(self) -> None:
        """The buffer begins with a command, or a line."""
        self._start = self._searched = self._literals = self._literal_count = 0

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    def receive(self, data: bytes) -> None:
        self._buffer += data

    def _take(self, size: int) -> bytes:
        buffer = self._buffer
        taken = bytes(memoryview(buffer)[:size])
        del buffer[:size]
        return taken

    def _take_line(self, found: int) -> bytes:
        """What stands before the LF at `found`, without its line end."""
        buffer = self._buffer
        end = found - 1 if found > self._start and buffer[found - 1] == 0x0D else found
        taken = bytes(memoryview(buffer)[:end])
        del buffer[: found + 1]
        self._begin()
        return taken

    def _line(self) -> int:
        """The index of the LF that ends the line at `_start`; -1: it has not come; -2: the lines are too
        long together, and are being skipped."""
        buffer = self._buffer
        bound = self._max_line if self._logged_in else self._max_line_before_login
        found = buffer.find(b"\n", self._searched)
        size = (found if found >= 0 else len(buffer)) - self._literals
        if size >= bound and (found >= 0 or len(buffer) > self._start):
            tag = tag_of(buffer) if self._mode is Mode.COMMAND else self._tag
            del buffer[: self._start]
            return self._refuse(Invalid(tag, "the command is too long", "TOOBIG"), 0)
        if found < 0:
            self._searched = max(len(buffer), self._start)
        return found

    def _refuse(self, report: Invalid | None, octets: int) -> int:
        """Skip so many octets of a literal, and the rest of the command; then report."""
        self._mode = Mode.SKIP
        self._report = report
        self._remaining = octets
        self._dropped = self._passed = 0
        self._begin()
        return -2

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

    def _skip(self) -> Invalid | Signal | None:
        """A step in `Mode.SKIP`: a report, NEED_DATA, or None when there is more to do."""
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
            del buffer[: ALARM - SPEC - self._dropped]
            self._dropped = self._searched = 0
            return Invalid(b"*", "a line without end", "TOOBIG")
        if found < 0:
            surplus = max(size - SPEC, 0)
            del buffer[:surplus]
            self._dropped += surplus
            self._searched = len(buffer)
            return NEED_DATA
        end = bytes(memoryview(buffer)[max(found - SPEC, 0) : found])
        del buffer[: found + 1]
        self._dropped = self._searched = 0
        literal = unasked(end[:-1] if end.endswith(b"\r") else end)
        if literal is not None:
            self._remaining = literal
            self._passed += 1
            if self._passed == MANY_LITERALS:
                self._passed = 0
                return Invalid(b"*", "too many literals in a command", "LIMIT")
            return None
        self._mode = Mode.COMMAND
        report, self._report = self._report, None
        return report


def unasked(line: bytes, start: int = 0) -> int | None:
    """Octets of the non-synchronising literal that is announced at the end of `line`, if one is. What
    is before `start` are literals, and announces nothing."""
    spec = LITERAL_AT_END.search(line, max(len(line) - SPEC, start))
    return int(spec[2]) if spec is not None and spec[3] else None
