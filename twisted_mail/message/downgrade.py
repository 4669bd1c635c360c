"""The surrogate header of a message for a client that knows no UTF-8 (RFC 6858).

`downgrade_header` turns a header block that holds bytes over 0x7F (RFC 6532) into one that holds
none: an internationalized address becomes one that cannot be anybody's and whose display name
tells what it was, a subject or display name becomes encoded-words, a MIME parameter that cannot
be shown goes, and so does every other field that cannot. Fields in ASCII stay byte for byte.

The same bytes always give the same result, and no bytes make it raise: sizes that the store
computed at delivery are right when the message is fetched. The headers of body parts are
`surrogate`'s; bodies are nobody's. Bytes that are no UTF-8 are shown as U+FFFD.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Final

from .headers import header_end
from .wire import wire_size

__all__ = [
    "FIELD_COST",
    "FIELD_END",
    "MAX_FIELD",
    "MAX_TRANSLATED",
    "Downgrader",
    "ascii_saving",
    "ascii_size",
    "blank_field",
    "downgrade_field",
    "downgrade_header",
    "field_name",
    "masked",
    "needs_downgrade",
    "parameters",
]

MAX_FIELD: Final = 131_072
"""Octets of one field; a longer one is left out of a downgraded header."""

MAX_TRANSLATED: Final = 32_768
"""Octets of fields with bytes over 0x7F that are translated in one header block, which is room for
hundreds of addresses; further ones are left out. So the worst of headers takes some milliseconds."""
FIELD_COST: Final = 64
"""A field counts so many octets more: many short ones cost as much as few long ones."""

FIELD_END: Final = re.compile(rb"\n(?=[^ \t])")
"""The end of a field whose next line is known: RFC 5322 section 2.2.3, folding."""

# RFC 6858 section 2.1
_ADDRESS_FIELDS: Final = frozenset(
    prefix + name
    for name in (b"bcc", b"cc", b"from", b"reply-to", b"sender", b"to")
    for prefix in (b"", b"resent-")
)
# RFC 6858 section 2.2: fields with MIME parameters
_PARAMETER_FIELDS: Final = frozenset((b"content-type", b"content-disposition"))

# RFC 6858 section 2.1: under a top-level domain that is nobody's (RFC 2606)
_NOBODY: Final = "<invalid@internationalized-address.invalid>"

# RFC 2047 section 2: an encoded-word has at most 75 characters; base64 of 45 octets fits
_WORD_OCTETS: Final = 45

_CONTROLS: Final = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029), " ")
_QUESTION_MARKS: Final = bytes(range(0x80)) + b"?" * 0x80

_PARAMETER_MARKS: Final = re.compile(rb'\\.|[";]', re.DOTALL)
_ADDRESS_MARKS: Final = re.compile(r'\\.|["(),:;<>\[\]]', re.DOTALL)
_QUOTING: Final = re.compile(r'\\(.)|"', re.DOTALL)
_COMMENT: Final = re.compile(r"\(([^()]*)\)")


def needs_downgrade(header: bytes) -> bool:
    """Whether the header block has to be changed for a client without UTF-8."""
    return not header.isascii()


def downgrade_header(header: bytes) -> bytes:
    """The surrogate of a whole header block; ASCII only, LF line ends."""
    header = header.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    downgrade = Downgrader().field
    out = []
    start = 0
    for end in FIELD_END.finditer(header):
        out.append(downgrade(header[start : end.end()]))
        start = end.end()
    out.append(downgrade(header[start:]))
    return b"".join(out)


class Downgrader:
    """`downgrade_field` for the fields of one header block, in their order, up to MAX_TRANSLATED."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_TRANSLATED

    def field(self, field: bytes) -> bytes:
        """The surrogate of the next field."""
        if len(field) <= MAX_FIELD and not field.isascii():
            self._left -= len(field) + FIELD_COST
            if self._left < 0:
                return b""
        return downgrade_field(field)


def downgrade_field(field: bytes) -> bytes:
    """The surrogate of one field with its folded lines; empty when it cannot be shown."""
    if len(field) > MAX_FIELD:
        return b""
    if field.isascii():
        return field
    name, _, value = field.partition(b":")
    key = field_name(field)
    end = b"\n" if value.endswith(b"\n") else b""
    if key == b"subject":
        # RFC 6858 section 2.3
        return name + b": " + _encoded(_text(value)) + end
    if key == b"return-path":
        return name + b": " + _NOBODY.encode() + end
    if key in _ADDRESS_FIELDS:
        return name + b": " + _addresses(_text(value)).encode() + end
    if key in _PARAMETER_FIELDS:
        first, *rest = parameters(value.removesuffix(b"\n"))
        if first.isascii():
            # RFC 6858 section 2.2: silently excised
            kept = [first, *(parameter for parameter in rest if parameter.isascii())]
            return name + b":" + b";".join(kept).rstrip() + end
    # RFC 6858 section 2.4: silently excised
    return b""


def blank_field(field: bytes) -> bytes:
    """The surrogate of one field of a body part's header, of the same size on the wire.

    What cannot be shown is overwritten by spaces instead of taken out, so that a message's size
    follows from its header block alone. A field is never emptied into an empty line.
    """
    if field.isascii():
        return field
    name, colon, value = field.partition(b":")
    if not colon or not name.isascii():
        return masked(field)
    end = b"\n" if value.endswith(b"\n") else b""
    value = value.removesuffix(b"\n")
    if field_name(field) not in _PARAMETER_FIELDS:
        return name + b":" + _spaces(value) + end
    first, *rest = parameters(value)
    if not first.isascii():
        return name + b":" + _spaces(value) + end
    out = [name, b":", first]
    for parameter in rest:
        out += (b";", parameter) if parameter.isascii() else (b" ", _spaces(parameter))
    return b"".join(out) + end


def masked(data: bytes) -> bytes:
    """`data` with a question mark for every byte over 0x7F."""
    return data.translate(_QUESTION_MARKS)


def field_name(field: bytes) -> bytes:
    """The lower-case name of a field; empty when it has none."""
    name, colon, _ = field.partition(b":")
    return name.rstrip(b" \t").lower() if colon else b""


def parameters(value: bytes) -> list[bytes]:
    """What stands between the semicolons of a MIME field's value, quoted strings left whole."""
    parts = []
    start = 0
    quoted = False
    for mark in _PARAMETER_MARKS.finditer(value):
        if mark[0] == b'"':
            quoted = not quoted
        elif mark[0] == b";" and not quoted:
            parts.append(value[start : mark.start()])
            start = mark.end()
    parts.append(value[start:])
    return parts


def _spaces(data: bytes) -> bytes:
    """As many spaces as `data` has octets on the wire, where LF is two."""
    return b" " * (len(data) + data.count(b"\n"))


def _text(value: bytes) -> str:
    """A field's value unfolded, in one line and without anything that could end it."""
    return value.decode("utf-8", "replace").replace("\n", "").translate(_CONTROLS).strip()


def _encoded(text: str) -> bytes:
    """`text` as encoded-words (RFC 2047), one a line."""
    return b"\n ".join(
        b"=?utf-8?b?" + b64encode(piece) + b"?="
        for piece in _pieces(text.encode("utf-8", "replace"))
    )


def _pieces(data: bytes) -> Iterator[bytes]:
    """UTF-8 cut between characters (RFC 2047 section 5)."""
    start = 0
    while len(data) - start > _WORD_OCTETS:
        end = start + _WORD_OCTETS
        while data[end] & 0xC0 == 0x80:
            end -= 1
        yield data[start:end]
        start = end
    yield data[start:]


def _addresses(text: str) -> str:
    """An address list (RFC 5322 section 3.4), groups included; one address a line."""
    out = []
    for element, separator in _elements(text):
        if not element.isascii():
            element = (
                _encoded(_unquoted(element)).decode() if separator == ":" else _mailbox(element)
            )
        if element or separator != ",":
            out.append(element + separator)
    return "\n ".join(out)


def _elements(text: str) -> Iterator[tuple[str, str]]:
    """Each address or group name with the comma, colon or semicolon behind it."""
    start = 0
    quoted = False
    depth = 0
    for mark in _ADDRESS_MARKS.finditer(text):
        sign = mark[0]
        if sign == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif sign in "(<[":
            depth += 1
        elif sign in ")>]":
            depth = max(0, depth - 1)
        elif depth == 0 and sign in ",:;":
            yield text[start : mark.start()].strip(), sign
            start = mark.end()
    if rest := text[start:].strip():
        yield rest, ""


def _mailbox(element: str) -> str:
    """One address that holds something over 0x7F, in itself or in the name that goes with it."""
    less, greater = element.rfind("<"), element.rfind(">")
    if 0 <= less < greater:
        name, address = _unquoted(element[:less]), element[less + 1 : greater].strip()
    else:
        name = " ".join(_COMMENT.findall(element))
        address = _COMMENT.sub("", element).strip()
    if address.isascii():
        return f"{_encoded(name).decode()}\n <{address}>"
    return f"{_encoded(f'{name} {address}'.strip()).decode()}\n {_NOBODY}"


def _unquoted(phrase: str) -> str:
    """A phrase as its reader sees it."""
    return _QUOTING.sub(r"\1", phrase).strip()


def ascii_saving(header: bytes) -> int | None:
    """By how many octets on the wire the downgraded form of `header` (LF line ends) is shorter (negative: longer); None
    when it is ASCII."""
    if not needs_downgrade(header):
        return None
    return wire_size(header) - wire_size(downgrade_header(header))


def ascii_size(content: bytes, wire: int) -> int | None:
    """The octets on the wire of a message's surrogate, where its own are `wire`; None when its header is ASCII.

    `content`: the message with any line ends, or so much of it that its whole header block is there.
    """
    if content.isascii():
        return None
    # As `lines.LineNormalizer` has it, once: of CR CR LF the first is a space
    plain = content.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    end = header_end(plain)
    saving = ascii_saving(plain[:end] if end >= 0 else plain)
    return None if saving is None else wire - saving
