"""What a client sees of a section of a message that is in memory (RFC 9051 section 6.4.5.1): by offsets, to the byte.

A `Reader` is made once a command from one item and gives the whole answer of each message: its label and a literal.
Sections are cut from the content as it is stored, then brought to the wire form; a partial is cut from that. So the
partials of a section make up the section, whatever line ends the file has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from ..message.part import Part, section
from .fetching import BodySection

__all__ = ["RFC822", "Reader", "body_start", "needs_structure", "reader", "wire", "without_nul"]

Reader: TypeAlias = Callable[[bytes, Part | None], bytes]
"""(content as stored, its structure when `needs_structure` of the item) → label, literal. Never raises."""

RFC822: Final = {
    # RFC 3501 section 6.4.5: equal to BODY[], BODY.PEEK[HEADER] and BODY[TEXT] but for their names
    "RFC822": BodySection((), "", (), False, None, b"RFC822"),
    "RFC822.HEADER": BodySection((), "HEADER", (), True, None, b"RFC822.HEADER"),
    "RFC822.TEXT": BodySection((), "TEXT", (), False, None, b"RFC822.TEXT"),
}

FEW: Final = 32
"""Names that one regular expression looks for; its time grows with them, and so does that of compiling it."""
_REST: Final = rb"[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*"
_field = re.compile(rb"^([!-9;-~]+)" + _REST, re.MULTILINE)

_blank_line = re.compile(rb"\n\r?\n").search


def wire(content: bytes, start: int, end: int) -> bytes:
    """content[start:end] in the form of `message.wire`. The last line's end is added only at the end of it all."""
    whole = not start and end >= len(content)
    data = content if whole else content[start:end]
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    data = data.replace(b"\n", b"\r\n")
    if end >= len(content) and data and not data.endswith(b"\n"):
        data += b"\r\n"
    return data


def body_start(content: bytes) -> int:
    """Where the body of the message begins, as `message.structure` has it."""
    if content.startswith(b"\n"):
        return 1
    if content.startswith(b"\r\n"):
        return 2
    found = _blank_line(content)
    return len(content) if found is None else found.end()


def needs_structure(item: BodySection) -> bool:
    """Whether the offsets have to be known; those of the message's own header and body are found at once."""
    return bool(item.part)


def reader(item: BodySection) -> Reader:
    """What answers `item`."""
    cut = _cut(item)
    label = item.label
    if item.partial is None:

        def whole(content: bytes, root: Part | None) -> bytes:
            data = without_nul(cut(content, root))
            return b"%b {%d}\r\n%b" % (label, len(data), data)

        return whole
    first, count = item.partial
    last = first + count

    def some(content: bytes, root: Part | None) -> bytes:
        # RFC 9051 section 6.4.5: what begins behind the end is empty, what ends there is cut
        data = without_nul(cut(content, root)[first:last])
        return b"%b {%d}\r\n%b" % (label, len(data), data)

    return some


def without_nul(data: bytes) -> bytes:
    """RFC 9051 section 4.3: no literal has NUL in it. Dovecot's stand-in; BINARY (a literal8) has it as it is."""
    return data.replace(b"\0", b"\x80") if b"\0" in data else data


def _cut(item: BodySection) -> Callable[[bytes, Part | None], bytes]:
    if item.fields:
        return _fields(item)
    if item.part:
        numbers, specifier = item.part, item.text.encode()

        def numbered(content: bytes, root: Part | None) -> bytes:
            found = None if root is None else section(root, numbers, specifier)
            # As Dovecot has it: a section that is not there is empty
            return b"" if found is None else wire(content, *found)

        return numbered
    return _OWN[item.text]


_OWN: Final[dict[str, Callable[[bytes, Part | None], bytes]]] = {
    "": lambda content, root: wire(content, 0, len(content)),
    "HEADER": lambda content, root: wire(content, 0, body_start(content)),
    "TEXT": lambda content, root: wire(content, body_start(content), len(content)),
}


def _fields(item: BodySection) -> Callable[[bytes, Part | None], bytes]:
    pick = picker(item)
    numbers = item.part

    def cut(content: bytes, root: Part | None) -> bytes:
        if not numbers:
            return pick(content[: body_start(content)])
        found = None if root is None else section(root, numbers, b"HEADER")
        return b"" if found is None else pick(content[found[0] : found[1]])

    return cut


def picker(item: BodySection) -> Callable[[bytes], bytes]:
    """What takes the fields of HEADER.FIELDS or HEADER.FIELDS.NOT out of a header, as stored; gives the wire form.

    Their order and their folding stay. What is no field is in HEADER.FIELDS.NOT only.
    """
    only = item.text == "HEADER.FIELDS"
    found = _found_of_many if len(item.fields) > FEW else _found_of_few
    chosen = found(item.fields, only)

    def pick(header: bytes) -> bytes:
        if b"\r" in header:
            header = header.replace(b"\r\n", b"\n").replace(b"\r", b" ")
        if header and not header.endswith(b"\n"):
            header += b"\n"
        return chosen(header).replace(b"\n", b"\r\n")

    return pick


def _found_of_few(names: Sequence[bytes], only: bool) -> Callable[[bytes], bytes]:
    either = b"|".join(map(re.escape, names))
    # Field names have no case; RFC 5322 section 4.5: obsolete space before the colon
    wanted = re.compile(rb"^(?:" + either + rb")" + _REST, re.IGNORECASE | re.MULTILINE)
    # RFC 9051 section 6.4.5.1: the empty line is in it, too
    if only:
        return lambda header: b"".join([*wanted.findall(header), b"\n"])
    return lambda header: wanted.sub(b"", header)


def _found_of_many(names: Sequence[bytes], only: bool) -> Callable[[bytes], bytes]:
    """The same: each line of the header is looked at once, not once for each of the names."""
    wanted = frozenset(name.lower() for name in names)
    if only:
        return lambda header: b"".join(
            [*[one[0] for one in _field.finditer(header) if one[1].lower() in wanted], b"\n"]
        )
    return lambda header: _field.sub(
        lambda one: b"" if one[1].lower() in wanted else one[0], header
    )
