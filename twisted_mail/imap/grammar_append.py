"""The parts of APPEND and REPLACE around the content (RFC 9051 section 6.3.12; RFC 3502, 4469, 6855, 8508).

The engine reads them from lines: a literal announced at a line's end has not come yet. Each raises
`Malformed` only.
"""

from __future__ import annotations

import re
from typing import Final

from .dates import parse_date_time
from .events import AppendBegin, AppendMessage, CatenateText
from .reader import LITERAL_AT_END, MAX_UNSIGNED_63, Malformed, Reader
from .sequence import SequenceSet

__all__ = ["begin", "is_append", "literal", "message", "text_part", "wants_mailbox"]

_TAG: Final = rb'[^\x00-\x20\x7f-\xff(){%*"\\+]{1,255}'
_APPEND: Final = re.compile(
    rb"(" + _TAG + rb") (?:(APPEND)|(UID )?REPLACE(?: ([1-9][0-9]*|\*))?)(?= |\Z)", re.IGNORECASE
)


def is_append(line: bytes | bytearray) -> bool:
    return _APPEND.match(line) is not None


def wants_mailbox(line: bytes | bytearray, end: int) -> bool:
    """Whether a literal that begins at `end` is the mailbox's name."""
    found = _APPEND.match(line)
    return (
        found is not None
        and found.end() == end - 1
        and line[end - 1] == 0x20
        and (found[2] is not None or found[4] is not None)
    )


def begin(reader: Reader) -> AppendBegin:
    """From the beginning of the command through the mailbox."""
    found = _APPEND.match(reader.data)
    if found is None:
        raise Malformed("a command's name is missing")
    reader.at = found.end()
    replaced: SequenceSet | None = None
    if found[2] is None:
        if found[4] is None:
            raise Malformed("the number of a message is missing")
        try:
            replaced = SequenceSet.parse(found[4])
        except ValueError as error:
            raise Malformed(str(error)) from None
    reader.sp()
    name = "APPEND" if found[2] is not None else "REPLACE"
    return AppendBegin(found[1], name, reader.mailbox(), replaced, found[3] is not None)


def message(reader: Reader) -> AppendMessage:
    """``append-message`` up to its content."""
    reader.sp()
    flags: tuple[str, ...] = ()
    date: int | None = None
    if reader.comes(b"("):
        flags = reader.flag_list()
        reader.sp()
    if reader.comes(b'"'):
        try:
            date = parse_date_time(reader.string())
        except ValueError:
            raise Malformed("the date is not valid") from None
        reader.sp()
    if reader.take_word(b"CATENATE ("):
        return AppendMessage(flags, date, None, False, False, False, True)
    utf8 = reader.take_word(b"UTF8 (")
    binary, size, synchronising = literal(reader)
    if utf8 and not binary:
        raise Malformed("UTF8 takes a literal8")
    return AppendMessage(flags, date, size, binary, utf8, synchronising, False)


def text_part(reader: Reader) -> CatenateText:
    """RFC 4469: what follows TEXT and a space."""
    binary, size, synchronising = literal(reader)
    return CatenateText(size, binary, synchronising)


def literal(reader: Reader) -> tuple[bool, int, bool]:
    """A literal announced at the end of the line: literal8, octets, synchronising."""
    found = LITERAL_AT_END.match(reader.data, reader.at)
    if found is None:
        raise Malformed("a literal is missing")
    size = int(found[2])
    if size > MAX_UNSIGNED_63:
        raise Malformed("a number is out of range")
    reader.at = found.end()
    return bool(found[1]), size, not found[3]
