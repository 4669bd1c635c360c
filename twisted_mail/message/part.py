"""The parts of a message as offsets into its stored file: the tree, part numbers, sections, and how a cache keeps it.

Offsets count octets of the stored content; `octets` and `lines` are of the wire form (`wire`). A section is a range of
offsets; `wire_section` gives what a client sees of it. The ranges of a part lie inside those of the part around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from .wire import LineEnds

__all__ = [
    "LEAF",
    "MESSAGE",
    "MULTIPART",
    "STRUCTURE_VERSION",
    "Params",
    "Part",
    "find",
    "from_bytes",
    "section",
    "to_bytes",
    "walk",
    "wire_section",
]

STRUCTURE_VERSION: Final = 1
"""Of `to_bytes`; `from_bytes` takes no other."""

LEAF: Final = 0
MULTIPART: Final = 1
MESSAGE: Final = 2

Params = tuple[tuple[bytes, bytes], ...]


class Part(NamedTuple):
    """An entity (RFC 2045 section 2.4): a message or a body part.

    Its header with the empty line is content[start:body], its body content[body:end]. `header_octets`, `octets`
    (of the body) and `lines` (of the body) are of the wire form. `type`, `subtype`, `encoding` and `disposition`
    are written as in the message, with defaults filled in, but for `encoding` and `disposition`, which are None
    without the field; `kind` and `transfer_encoding` are in lower case. `shape` is MULTIPART (its children are the
    body parts), MESSAGE (its only child is the embedded message) or LEAF; past the bounds of the scanner a multipart
    or message is a LEAF of ``application/octet-stream``. `envelope` is what IMAP says of an embedded message, b"" in
    others. Strings are as the header has them: unfolded, not decoded.
    """

    start: int
    body: int
    end: int
    header_octets: int
    octets: int
    lines: int
    shape: int
    type: bytes
    subtype: bytes
    params: Params
    id: bytes | None
    description: bytes | None
    encoding: bytes | None
    md5: bytes | None
    disposition: bytes | None
    disposition_params: Params
    language: tuple[bytes, ...]
    location: bytes | None
    envelope: bytes
    children: tuple[Part, ...]

    @property
    def kind(self) -> bytes:
        """Such as b"text/plain"; b"/" when the Content-Type cannot be read."""
        return (self.type + b"/" + self.subtype).lower()

    @property
    def transfer_encoding(self) -> bytes:
        """Such as b"base64"; b"7bit" without the field."""
        return b"7bit" if self.encoding is None else self.encoding.lower()

    @property
    def charset(self) -> bytes:
        """In lower case; b"" when none is named."""
        return self.param(b"charset").lower()

    def param(self, wanted: bytes) -> bytes:
        """The value of a Content-Type parameter, by its lower-case name; b"" without it."""
        for name, value in self.params:
            if name.lower() == wanted:
                return value
        return b""


def find(root: Part, numbers: Sequence[int]) -> Part | None:
    """The part with the numbers of RFC 9051 section 6.4.5.1; no numbers are the message."""
    part = root
    # RFC 9051 section 6.4.5.1: every message has at least one part number; it is 1 in one that is no multipart
    whole = True
    for number in numbers:
        if not whole and part.shape == MESSAGE:
            part = part.children[0]
            whole = True
        if part.shape == MULTIPART:
            if not 0 < number <= len(part.children):
                return None
            part = part.children[number - 1]
        elif not whole or number != 1:
            return None
        whole = False
    return part


def section(root: Part, numbers: Sequence[int], specifier: bytes = b"") -> tuple[int, int] | None:
    """(start, end) of a section; None when the message has none. `specifier`: b"", HEADER, TEXT or MIME.

    HEADER is for HEADER.FIELDS, too: who asks picks the fields.
    """
    part = find(root, numbers)
    if part is None:
        return None
    if specifier == b"MIME":
        return (part.start, part.body) if numbers else None
    if numbers and specifier:
        # RFC 9051 section 6.4.5.1: HEADER and TEXT after a number are those of an embedded message
        if part.shape != MESSAGE:
            return None
        part = part.children[0]
    if specifier == b"HEADER":
        return part.start, part.body
    if specifier == b"TEXT" or numbers:
        return part.body, part.end
    return part.start, part.end


def wire_section(content: bytes, start: int, end: int) -> bytes:
    """What a client sees of content[start:end], a section. `content`: bytes, or a memory map."""
    ends = LineEnds()
    data = ends.encode(content[start:end])
    # The line end that the wire form adds is the last of the content, not of every section
    return data + ends.finish() if end == len(content) else data


def walk(root: Part) -> Iterator[Part]:
    """The part and all in it, in the order of the content."""
    stack = [root]
    while stack:
        part = stack.pop()
        yield part
        stack.extend(reversed(part.children))


def to_bytes(root: Part) -> bytes:
    """For a cache: numbers in ASCII, then all strings in one row."""
    numbers: list[int] = [STRUCTURE_VERSION]
    strings: list[bytes] = []
    _put(root, 0, numbers, strings)
    return b" ".join([b"%d" % number for number in numbers]) + b"\n" + b"".join(strings)


def from_bytes(data: bytes) -> Part:
    """What `to_bytes` was given. ValueError: made by another version, or damaged."""
    head, _, tail = data.partition(b"\n")
    numbers = map(int, head.split(b" "))
    if next(numbers, 0) != STRUCTURE_VERSION:
        raise ValueError("another version")
    try:
        reader = _Reader(numbers, tail)
        part = reader.part(0)
    except (StopIteration, RecursionError):
        raise ValueError("damaged") from None
    if not reader.is_over():
        raise ValueError("damaged")
    return part


def _put(part: Part, base: int, numbers: list[int], strings: list[bytes]) -> None:
    numbers += (
        part.start - base,
        part.body - part.start,
        part.end - part.body,
        part.header_octets,
        part.octets,
        part.lines,
        part.shape,
    )
    for text in (
        part.type,
        part.subtype,
        part.id,
        part.description,
        part.encoding,
        part.md5,
        part.disposition,
        part.location,
        part.envelope,
    ):
        if text is None:
            numbers.append(-1)
        else:
            numbers.append(len(text))
            strings.append(text)
    for params in (part.params, part.disposition_params):
        numbers.append(len(params))
        for name, value in params:
            numbers += len(name), len(value)
            strings += name, value
    numbers.append(len(part.language))
    for tag in part.language:
        numbers.append(len(tag))
        strings.append(tag)
    numbers.append(len(part.children))
    for child in part.children:
        _put(child, part.start, numbers, strings)


class _Reader:
    __slots__ = ("_at", "_next", "_tail")

    def __init__(self, numbers: Iterator[int], tail: bytes) -> None:
        self._next = numbers.__next__
        self._tail = tail
        self._at = 0

    def part(self, base: int) -> Part:
        number = self._next
        start = base + number()
        body = start + number()
        end = body + number()
        header_octets, octets, lines, shape = number(), number(), number(), number()
        type_, subtype = self._text(), self._text()
        id_, description, encoding = self._nstring(), self._nstring(), self._nstring()
        md5, disposition, location = self._nstring(), self._nstring(), self._nstring()
        envelope = self._text()
        params = self._params()
        disposition_params = self._params()
        language = tuple([self._text() for _ in range(number())])
        children = tuple([self.part(start) for _ in range(number())])
        return Part(
            start,
            body,
            end,
            header_octets,
            octets,
            lines,
            shape,
            type_,
            subtype,
            params,
            id_,
            description,
            encoding,
            md5,
            disposition,
            disposition_params,
            language,
            location,
            envelope,
            children,
        )

    def is_over(self) -> bool:
        return self._at == len(self._tail)

    def _params(self) -> Params:
        sizes = [(self._next(), self._next()) for _ in range(self._next())]
        return tuple([(self._take(name), self._take(value)) for name, value in sizes])

    def _nstring(self) -> bytes | None:
        size = self._next()
        return None if size < 0 else self._take(size)

    def _text(self) -> bytes:
        return self._take(self._next())

    def _take(self, size: int) -> bytes:
        start = self._at
        self._at = end = start + size
        if size < 0 or end > len(self._tail):
            raise ValueError("damaged")
        return self._tail[start:end]
