"""Header blocks as bytes with LF line ends: find, count and leave out fields. Never raises for any bytes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

__all__ = ["fields", "header_end", "may_be_field", "split", "without"]

MAX_LINE = 998
"""Octets of a line, its end left out (RFC 5322 section 2.1.1)."""

# RFC 5322 section 3.6.8: ftext; section 4.5: obsolete space before the colon
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:", re.MULTILINE)
# The same with the rest of its line and the folded ones, in which none can begin: they need not be searched for one.
_WHOLE = re.compile(rb"^([!-9;-~]+)[ \t]*:[^\n]*+(?:\n[ \t][^\n]*+)*", re.MULTILINE)
# Possessive inside a line: each byte is looked at once, whatever they are. Not around the groups: Python before
# 3.11.5 forgets where such a group began when its next turn fails (CPython issue 106052). Nothing stands behind
# them that could fail, so they are never tried shorter.
_BLOCK = re.compile(rb"(?:[!-9;-~]++[ \t]*+:[^\n]*+\n(?:[ \t][^\n]*+\n)*)*")


def header_end(content: bytes) -> int:
    """Where the header block ends: the offset just before the empty line, or -1 when there is none yet.

    A message that begins with the empty line has an empty header block.
    """
    if content.startswith(b"\n"):
        return 0
    at = content.find(b"\n\n")
    return at + 1 if at >= 0 else -1


def split(content: bytes) -> tuple[bytes, bytes]:
    """(header block, what follows it). The block ends before the first line that is neither field nor folded.

    What follows begins with the empty line, unless the message does without: then its text follows at once.
    """
    match = _BLOCK.match(content)
    end = match.end() if match is not None else 0
    return content[:end], content[end:]


def may_be_field(rest: bytes) -> bool:
    """Whether `rest`, as `split` gives it, is one line without its end that may belong to the header block."""
    if not rest or b"\n" in rest:
        return False
    # RFC 5322 section 2.1.1: a name without its colon cannot be longer than a line
    return len(rest) <= MAX_LINE or rest[0] in b" \t" or _FIELD.match(rest, 0, MAX_LINE) is not None


def fields(block: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(lower-case name, start, end) of each field, folded lines included; other text belongs to the one before."""
    name, start = b"", 0
    for match in _WHOLE.finditer(block):
        if name or match.start() > start:
            yield name, start, match.start()
        name, start = match[1].lower(), match.start()
    if start < len(block):
        yield name, start, len(block)


def without(block: bytes, unwanted: Collection[bytes]) -> bytes:
    """The block less every field whose lower-case name is in `unwanted`."""
    return b"".join(block[start:end] for name, start, end in fields(block) if name not in unwanted)
