"""What FETCH asks for, as values.

A `FetchItem` is a str when its name says all: one of `PLAIN`. The others are classes.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

__all__ = [
    "MACROS",
    "PLAIN",
    "BinarySection",
    "BinarySize",
    "BodySection",
    "FetchItem",
    "Preview",
]

PLAIN: Final = frozenset(
    (
        "BODY",
        "BODYSTRUCTURE",
        "EMAILID",
        "ENVELOPE",
        "FLAGS",
        "INTERNALDATE",
        "MODSEQ",
        "RFC822",
        "RFC822.HEADER",
        "RFC822.SIZE",
        "RFC822.TEXT",
        "SAVEDATE",
        "THREADID",
        "UID",
    )
)
"""Items without arguments. RFC822 and RFC822.TEXT set \\Seen, RFC822.HEADER does not (RFC 3501 section
6.4.5)."""

# RFC 9051 section 6.4.5
MACROS: Final[dict[str, tuple[str, ...]]] = {
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}


class BodySection(NamedTuple):
    """``BODY[…]`` and ``BODY.PEEK[…]``.

    `part`: numbers, empty for the message itself. `text`: "", HEADER, HEADER.FIELDS,
    HEADER.FIELDS.NOT, TEXT, MIME (with a part only); `fields`: of HEADER.FIELDS, as they came.
    `partial`: first octet and greatest number of octets. `label`: how the response names it, such as
    ``BODY[1.MIME]`` or ``BODY[]<0>`` (RFC 9051 section 7.5.2: origin only).
    """

    part: tuple[int, ...]
    text: str
    fields: tuple[bytes, ...]
    peek: bool
    partial: tuple[int, int] | None
    label: bytes


class BinarySection(NamedTuple):
    """``BINARY[…]`` and ``BINARY.PEEK[…]`` (RFC 3516), as `BodySection`."""

    part: tuple[int, ...]
    peek: bool
    partial: tuple[int, int] | None
    label: bytes


class BinarySize(NamedTuple):
    """``BINARY.SIZE[…]``."""

    part: tuple[int, ...]
    label: bytes


class Preview(NamedTuple):
    """RFC 8970. `lazy`: only when it is at hand."""

    lazy: bool


FetchItem: TypeAlias = str | BodySection | BinarySection | BinarySize | Preview
