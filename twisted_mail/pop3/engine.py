"""POP3's bytes and events: lines in, commands out, one at a time.

After each event the engine is PAUSED until its answer is written, so pipelined commands are
answered in their order (RFC 2449 section 6.6). A line ends with CRLF; LF alone is taken as well.
The engine knows no command's meaning: that is the session's, as is what octets over 0x7F may say.

It promises: no bytes make it raise; any cut of the stream gives the same events; a line without
end is dropped as it comes and reported again and again, so that the session's count of errors
ends it.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from ..connection.interfaces import NEED_DATA, PAUSED, Signal

__all__ = ["SASL_RESPONSE", "Command", "Engine", "Event", "SaslResponse", "TooLong"]

MAX_COMMAND: Final = 255
"""Octets of a command, CRLF included."""
MAX_SASL_RESPONSE: Final = 12_288
"""Octets of one line of a SASL exchange, CRLF included: what RFC 4954 section 4 asks of SMTP."""
MAX_SKIP: Final = 65_536
"""Octets of a too long line that are dropped before it is reported once more."""

SASL_RESPONSE: Final = "SASL response"
"""The value of `Answer.expect` that makes the next line a `SaslResponse`."""


class Command(NamedTuple):
    """`verb` in upper case; `argument` is everything behind the first space, as it came."""

    verb: bytes
    argument: bytes

    def __repr__(self) -> str:
        shown = "…" if self.verb in (b"PASS", b"AUTH", b"APOP") else self.argument
        return f"Command({self.verb!r}, {shown!r})"


class SaslResponse(NamedTuple):
    """One line of the client in a SASL exchange, without its line end."""

    line: bytes

    def __repr__(self) -> str:
        return "SaslResponse(…)"


class TooLong(NamedTuple):
    """A line over its limit; it is dropped up to its end."""

    limit: int


Event: TypeAlias = Command | SaslResponse | TooLong


class Engine:
    """A server's end of one connection (see `connection.interfaces.Engine`)."""

    __slots__ = ("_buffer", "_paused", "_sasl", "_skipping")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._paused = False
        self._sasl = False
        self._skipping = False

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    @property
    def midway(self) -> bool:
        return self._sasl

    def receive(self, data: bytes) -> None:
        self._buffer += data

    def next_event(self) -> Event | Literal[Signal.NEED_DATA, Signal.PAUSED]:
        if self._paused:
            return PAUSED
        buffer = self._buffer
        if self._skipping:
            end = buffer.find(b"\n", 0, MAX_SKIP)
            if end < 0:
                if len(buffer) < MAX_SKIP:
                    return NEED_DATA
                return self._too_long(MAX_SKIP)
            del buffer[: end + 1]
            self._skipping = False
        # RFC 2449 section 4: 255 octets, the terminating CRLF included
        limit = MAX_SASL_RESPONSE if self._sasl else MAX_COMMAND
        end = buffer.find(b"\n", 0, limit)
        if end < 0:
            if len(buffer) < limit:
                return NEED_DATA
            return self._too_long(limit)
        self._paused = True
        line = bytes(buffer[: end - 1 if end and buffer[end - 1] == _CR else end])
        del buffer[: end + 1]
        if self._sasl:
            return SaslResponse(line)
        verb, _, argument = line.partition(b" ")
        # RFC 1939 section 3: keywords are case-insensitive
        return Command(verb.upper(), argument)

    def resume(self, expect: object = None) -> None:
        self._paused = False
        self._sasl = expect is SASL_RESPONSE

    def start_tls(self) -> bool:
        # RFC 2595 section 4: nothing that came in clear may be run under TLS
        if self._buffer:
            return False
        self._paused = self._sasl = self._skipping = False
        return True

    def _too_long(self, octets: int) -> TooLong:
        del self._buffer[:octets]
        self._paused = self._skipping = True
        return TooLong(MAX_SASL_RESPONSE if self._sasl else MAX_COMMAND)


_CR = 0x0D
