"""A header block as DKIM and ARC sign it (RFC 6376 sections 3.4.1, 3.4.2, 3.7 and 5.4.2). LF line ends in, CRLF out.

`HeaderFields` finds the fields that a signature names, from the bottom up, and gives each in its canonical form; the
relaxed forms are made once, however many signatures need them. Never raises for any bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .headers import fields

__all__ = ["HeaderFields", "relaxed_field", "simple_field", "without_signature"]

_WSP = re.compile(rb"[ \t]+")
_SIGNATURE = re.compile(rb"(?:\A|;)[ \t\r\n]*b[ \t\r\n]*=([^;]*)")
_OTHER_SPACE = re.compile(rb"[\r\x0b\x0c]")


def simple_field(field: bytes) -> bytes:
    """A field as it stands, with CRLF, at its end too."""
    return field.removesuffix(b"\n").replace(b"\n", b"\r\n") + b"\r\n"


def relaxed_field(field: bytes) -> bytes:
    """Name in lower case, unfolded, white space reduced (RFC 6376 section 3.4.2); CRLF at the end."""
    name, colon, value = field.partition(b":")
    if _OTHER_SPACE.search(value) is None:
        # what `split` takes for white space is then WSP and the line ends, each of which WSP follows
        value = b" ".join(value.split())
    else:
        value = _WSP.sub(b" ", value.replace(b"\n", b"")).strip(b" ")
    return name.rstrip(b" \t").lower() + colon + value + b"\r\n"


def without_signature(field: bytes) -> bytes:
    """The field less the value of its b=, and less its last line end (RFC 6376 section 3.7)."""
    name, colon, value = field.removesuffix(b"\n").partition(b":")
    match = _SIGNATURE.search(value)
    if match is not None:
        value = value[: match.start(1)] + value[match.end(1) :]
    return name + colon + value


class HeaderFields:
    """The fields of a block, `count` of them, numbered from the top; at most `limit` are looked at.

    `complete` is False when there are more.
    """

    __slots__ = ("_block", "_relaxed", "_spans", "complete", "positions")

    def __init__(self, block: bytes, limit: int) -> None:
        self._block = block
        self._spans: list[tuple[int, int]] = []
        self._relaxed: dict[int, bytes] = {}
        self.positions: dict[bytes, list[int]] = {}
        """Lower-case name → the numbers of its fields, ascending."""
        self.complete = True
        for number, (name, start, end) in enumerate(fields(block)):
            if number == limit:
                self.complete = False
                break
            self._spans.append((start, end))
            self.positions.setdefault(name, []).append(number)

    @property
    def count(self) -> int:
        return len(self._spans)

    def field(self, number: int) -> bytes:
        """The whole field, as it stands."""
        start, end = self._spans[number]
        return self._block[start:end]

    def value(self, number: int) -> bytes:
        """What stands behind the colon."""
        return self.field(number).partition(b":")[2]

    def relaxed(self, number: int) -> bytes:
        """Its relaxed form."""
        found = self._relaxed.get(number)
        if found is None:
            found = self._relaxed[number] = relaxed_field(self.field(number))
        return found

    def signed(self, names: Iterable[bytes], relaxed: bool, but: int = -1) -> bytes:
        """The canonical forms of the fields that h= names, in its order, less the field `but`.

        A name that stands there for the nth time means the nth field from the bottom; when there is none it is nothing,
        which is how a signature says that there was none (RFC 6376 section 5.4.2).
        """
        left: dict[bytes, list[int]] = {}
        parts = []
        for name in names:
            numbers = left.get(name)
            if numbers is None:
                numbers = left[name] = [n for n in self.positions.get(name, ()) if n != but]
            if numbers:
                number = numbers.pop()
                parts.append(self.relaxed(number) if relaxed else simple_field(self.field(number)))
        return b"".join(parts)
