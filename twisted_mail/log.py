"""The log: one line an event, for people or for machines.

`make_observer` gives an observer for `twisted.logger`. Both forms promise one line an event whatever
a client has sent: control characters and line separators come out escaped, and a line has a bound.
Text has the time, the connection's and the message's id, what happened, and the remaining fields::

    2026-11-21T02:40:00Z connection=mzxw6ytb connected protocol=smtp client=192.0.2.1

JSON has `time`, `level`, `namespace`, `text` and every field of the event. What must not be in a log
(a password, a message) must not be in an event: nothing is taken out here, but for one thing. The words of an exception
that nobody foresaw may be anything that a client has sent (``KeyError: 'his password'``): of it only the kind is
written, and where it was raised (`discreet`).
"""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from typing import Any, Literal, Protocol, cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.logger import Logger as _Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from .status import MailError

__all__ = ["Logger", "discreet", "make_observer"]

MAX_LINE = 8192
"""Characters of a line of text, or of one value of JSON; the rest is left out."""

# C0, DEL, C1, what Unicode takes for a line end, what turns the direction of writing, and surrogates
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PLAIN = re.compile(r"[!#-<>-~]+").fullmatch
_IDS = ("connection", "message")
_ESCAPES = {9: "\\t", 10: "\\n", 13: "\\r"}
# What twisted.python.log adds for observers of its own.
_LEGACY = {"time", "system", "isError", "format", "printed", "why", "failure"}


_OPEN = (OSError, MemoryError, RecursionError, MailError)
"""Exceptions whose words are the system's, or ours."""


class Logger(_Logger):
    """Twisted's, for a line that comes with every message: `info` costs half, as its level need not be looked at."""

    def info(self, format: str | None = None, **event: Any) -> None:
        if "log_trace" in event:
            self.emit(LogLevel.info, format, **event)
            return
        event["log_logger"] = self
        event["log_level"] = LogLevel.info
        event["log_namespace"] = self.namespace
        event["log_source"] = self.source
        event["log_format"] = format
        event["log_time"] = time.time()  # noqa: TID251  # as Twisted's does
        self.observer(event)


class File(Protocol):
    """Where lines go: any text file, or a `twisted.python.logfile.LogFile`."""

    def write(self, line: str, /) -> object: ...
    def flush(self) -> object: ...


def make_observer(
    format: Literal["text", "json"], file: File, *, level: Any = LogLevel.info
) -> ILogObserver:
    """An observer that writes events of `level` and above to `file`."""
    return _Observer(_json_line if format == "json" else _text_line, file, level)


def discreet(observer: ILogObserver) -> ILogObserver:
    """For an observer of somebody else's: failures come to it without words that may be a client's."""

    def observe(event: LogEvent) -> None:
        failure = event.get("log_failure")
        if isinstance(failure, Failure) and not _is_open(failure.value):
            bare = Failure(Unsaid(_kind(failure)), Unsaid, failure.getTracebackObject())
            event = {**event, "log_failure": bare}
            # twisted.python.log's
            event.update({name: bare for name in ("failure",) if name in event})
            event.pop("log_text", None)
        observer(event)

    return cast(ILogObserver, observe)


class Unsaid(Exception):
    """Stands for an exception whose words are left out."""


def _is_open(error: BaseException | None) -> bool:
    # sqlite3 names tables and columns, never what is in them. By name: not everybody needs it.
    return isinstance(error, _OPEN) or type(error).__module__ == "sqlite3"


@implementer(ILogObserver)
class _Observer:
    def __init__(self, form: Any, file: File, level: Any) -> None:
        self._form = form
        self._file = file
        # Comparing constants costs more than the rest of a line that is not wanted.
        self._levels = frozenset(one for one in LogLevel.iterconstants() if one >= level)

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) not in self._levels:
            return
        try:
            line = self._form(event)
        except Exception as error:
            # Twisted would say so through this observer again, and leave it out.
            line = f"an event of {event.get('log_namespace')} cannot be written: {type(error).__name__}"
        self._file.write(line + "\n")
        self._file.flush()


def _text_line(event: LogEvent) -> str:
    text = _message(event)
    wanted = event.get("log_format") or ""
    connection = message = rest = ""
    for name, value in event.items():
        if name[:4] == "log_" or name in _LEGACY:
            continue
        if type(value) is str and _PLAIN(value):
            word = value  # nearly always
        elif name == "message" and not isinstance(value, str):
            continue  # a tuple: twisted.python.log's own text, formatted already
        elif value is None and name not in _IDS:
            continue
        else:
            word = _word(value)
        if name == "connection":
            connection = f" connection={word}"
        elif name == "message":
            message = f" message={word}"
        elif "{" + name not in wanted:
            rest = f"{rest} {name}={word}"
    level = event.get("log_level", LogLevel.info)
    said = "" if level is LogLevel.info else f" {level.name}"
    second = _second(int(event.get("log_time", 0.0)))
    line = f"{second}Z{said}{connection}{message} {text}{rest}"
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        line = f"{line} {_said(failure)}; {_traceback(failure)}"
    return _one_line(line)


def _json_line(event: LogEvent) -> str:
    level = event.get("log_level", LogLevel.info)
    record: dict[str, object] = {
        "time": _milliseconds(event.get("log_time", 0.0)),
        "level": level.name,
        "namespace": event.get("log_namespace"),
        "text": _cut(_message(event)),
    }
    for name, value in _fields(event).items():
        record.setdefault(name, _plain(value))
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        record["error"] = _cut(_said(failure))
        record["traceback"] = _traceback(failure)
    return json.dumps(record)  # of ASCII only: every control character is escaped


def _fields(event: LogEvent) -> dict[str, Any]:
    """What the caller said about the event, besides its format."""
    fields = {
        name: value
        for name, value in event.items()
        if not name.startswith("log_") and name not in _LEGACY
    }
    if not isinstance(fields.get("message", ""), str):
        del fields["message"]  # a tuple: twisted.python.log's own text, formatted already
    return fields


def _message(event: LogEvent) -> str:
    """What `formatEvent` makes, which knows more than most formats ask for."""
    try:
        return str(event["log_format"].format_map(event))
    except Exception:
        return formatEvent(event)


@lru_cache(maxsize=8)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _milliseconds(seconds: float) -> str:
    return f"{_second(int(seconds))}.{int(seconds % 1 * 1000):03}Z"


def _word(value: object) -> str:
    """A value that cannot be taken for two: bare when it is plain, else in quotes."""
    if type(value) is int:
        return str(value)
    text = value if type(value) is str else _text(value)
    return text if _PLAIN(text) else json.dumps(text, ensure_ascii=False)


def _plain(value: object) -> object:
    """`value` as JSON can have it; as text when it can not, or would be too long."""
    if type(value) is str:
        return _cut(value)
    if value is None or isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
        return value
    if not isinstance(value, str | bytes):
        try:
            encoded = json.dumps(value, default=_text, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            pass
        else:
            return json.loads(encoded) if len(encoded) <= MAX_LINE else _cut(encoded)
    return _cut(_text(value))


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace")
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"


def _said(failure: Failure) -> str:
    """One line, which names what happened."""
    if not _is_open(failure.value):
        return _kind(failure)
    return f"{type(failure.value).__name__}: {_text(failure.value)}"


def _kind(failure: Failure) -> str:
    return f"{type(failure.value).__name__} (its words may be a client's, and are left out)"


def _traceback(failure: Failure) -> str:
    """The innermost calls, which are the last."""
    if not _is_open(failure.value):
        failure = Failure(Unsaid(_kind(failure)), Unsaid, failure.getTracebackObject())
    return failure.getTraceback()[-MAX_LINE // 2 :]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_LINE else text[: MAX_LINE - 1] + "…"


def _one_line(text: str) -> str:
    text = _cut(text)
    return text if text.isprintable() else _CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    # Not by the unicode_escape codec: Python loads that when it is first asked for, and after --uid it may not be
    # allowed to read its own library.
    code = ord(match[0])
    return _ESCAPES.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
