"""The Content-* fields of an entity (RFC 2045, 2183, 3282, 2557), broken ones as Dovecot reads them. Never raises."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .envelope import field_value
from .lexer import BROKEN, END, MORE, Lexer
from .nstring import one_line

__all__ = ["MAX_BOUNDARY", "MAX_PARAMS", "ContentFields", "content_fields"]

MAX_PARAMS: Final = 1000
"""Parameters of one field; further ones are left out."""
MAX_BOUNDARY: Final = 80
"""Octets of a boundary that count. RFC 2046 section 5.1.1 has 70."""
MAX_LANGUAGES: Final = 1000
MAX_VALUE: Final = 65_536
"""Octets of one field's value that are looked at."""

Params = tuple[tuple[bytes, bytes], ...]

_fields = re.compile(
    rb"\n(?i:(mime-version|content-(?:type|transfer-encoding|id|description|md5|disposition"
    rb"|language|location)))[ \t]*+:([ \t]*+)([^\n]*+(?:\n[ \t][^\n]*+)*)"
).finditer
_TOKEN = rb"[!#-'*+\-.0-9A-Z^-~\x80-\xff]+"
_usual_type = re.compile(
    rb"[ \t\n]*(%(t)b)/(%(t)b)[ \t\n]*"
    rb'((?:;[ \t\n]*%(t)b=(?:%(t)b|"[^"\\\n]*")[ \t\n]*)*)\Z' % {b"t": _TOKEN}
).match
_usual_disposition = re.compile(
    rb'[ \t\n]*(%(t)b)[ \t\n]*((?:;[ \t\n]*%(t)b=(?:%(t)b|"[^"\\\n]*")[ \t\n]*)*)\Z'
    % {b"t": _TOKEN}
).match
_usual_params = re.compile(rb'(%(t)b)=(?:(%(t)b)|"([^"\\\n]*)")' % {b"t": _TOKEN}).findall
_section = re.compile(rb"([^*]*)\*(?:([0-9]{1,9})(\*?)|\*?)\Z").match
_unusual_value = re.compile(rb"[^; \t\r\n]*").match


class ContentFields(NamedTuple):
    """`maintype` is None without a Content-Type; it and `subtype` are b"" when the field cannot be read.

    `mime`: one of the fields says that the entity is MIME. The others are as in `part.Part`.
    """

    mime: bool
    maintype: bytes | None
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

    @property
    def boundary(self) -> bytes | None:
        for name, value in self.params:
            if name.lower() == b"boundary":
                return value[:MAX_BOUNDARY]
        return None


NOTHING: Final = ContentFields(False, None, b"", (), None, None, None, None, None, (), (), None)


def content_fields(block: bytes) -> ContentFields:
    """Of a header block as `envelope.unfolded_block` gives it. The first of several fields of one name counts,
    of the first ones that cannot be read the next."""
    values: dict[bytes, bytes] = {}
    disposition: bytes | None = None
    disposition_params: Params = ()
    language: tuple[bytes, ...] = ()
    encoding: bytes | None = None
    for field in _fields(block):
        name = field[1].lower()
        value = field[3][:MAX_VALUE]
        if name == b"content-disposition":
            if not disposition_params:
                disposition, disposition_params = _disposition(value, disposition)
        elif name == b"content-language":
            language = language or _language(value)
        elif name == b"content-transfer-encoding":
            encoding = encoding or _encoding(value)
        else:
            values.setdefault(name, field_value(field)[:MAX_VALUE])
    maintype: bytes | None = None
    subtype = b""
    params: Params = ()
    if b"content-type" in values:
        maintype, subtype, params = _content_type(values[b"content-type"])
    return ContentFields(
        b"content-type" in values or b"mime-version" in values,
        maintype,
        subtype,
        params,
        _line(values.get(b"content-id")),
        _line(values.get(b"content-description")),
        encoding,
        _line(values.get(b"content-md5")),
        disposition,
        disposition_params,
        language,
        _line(values.get(b"content-location")),
    )


def _line(value: bytes | None) -> bytes | None:
    return None if value is None else one_line(value)


def _content_type(value: bytes) -> tuple[bytes, bytes, Params]:
    usual = _usual_type(value)
    if usual is not None and b"*" not in usual[3]:
        return usual[1], usual[2], _plain_params(usual[3])
    lexer = Lexer(value)
    # RFC 2045 section 5.1: type "/" subtype *(";" parameter)
    if lexer.skip() != MORE:
        return b"", b"", ()
    if lexer.token() != MORE:
        # A word without its slash: of a text it is enough
        return lexer.taken(), b"", ()
    if not lexer.text or not lexer.next_is(_SLASH):
        return b"", b"", ()
    maintype = lexer.taken()
    lexer.at += 1
    if lexer.skip() != MORE or lexer.token() == BROKEN or not lexer.text:
        return b"", b"", ()
    if lexer.at < lexer.end and not lexer.next_is(_SEMICOLON):
        return b"", b"", ()
    return maintype, lexer.taken(), _params(lexer)


def _disposition(value: bytes, before: bytes | None) -> tuple[bytes | None, Params]:
    usual = _usual_disposition(value)
    if usual is not None and b"*" not in usual[2]:
        return usual[1], _plain_params(usual[2])
    lexer = Lexer(value)
    lexer.skip()
    if lexer.token() == BROKEN:
        return before, ()
    return lexer.taken(), _params(lexer)


def _encoding(value: bytes) -> bytes | None:
    lexer = Lexer(value)
    lexer.skip()
    if lexer.token() == END and lexer.text:
        return lexer.taken()
    return None


def _language(value: bytes) -> tuple[bytes, ...]:
    """RFC 3282 section 2."""
    lexer = Lexer(value)
    lexer.skip()
    out: list[bytes] = []
    while lexer.atom() != BROKEN and len(out) < MAX_LANGUAGES:
        out.append(lexer.taken())
        if not lexer.next_is(_COMMA):
            break
        lexer.at += 1
        lexer.skip()
    return tuple(out)


def _plain_params(text: bytes) -> Params:
    if not text:
        return ()
    return tuple(
        [(name, token or quoted) for name, token, quoted in _usual_params(text)][:MAX_PARAMS]
    )


def _params(lexer: Lexer) -> Params:
    """What follows the first word of a field, the pieces of RFC 2231 section 3 joined, not decoded."""
    out: list[tuple[bytes, bytes]] = []
    pieces: list[tuple[bytes, int, bool, bytes]] = []
    data, end = lexer.data, lexer.end
    while lexer.at < end and len(out) + len(pieces) < MAX_PARAMS:
        found = _param(lexer)
        if found is None:
            # Go on with what the next semicolon behind this octet begins
            lexer.at = data.find(b";", lexer.at + 1) if lexer.at < end else end
            if lexer.at < 0:
                break
            continue
        name, value = found
        piece = _section(name) if b"*" in name else None
        if piece is None:
            out.append(found)
        else:
            extended = piece[3] == b"*" or (piece[2] is None and name.endswith(b"*"))
            pieces.append((piece[1], int(piece[2] or 0), extended, value))
    if pieces:
        out += _joined(pieces)
    return tuple(out)


def _param(lexer: Lexer) -> tuple[bytes, bytes] | None:
    """At its semicolon; None when it is broken."""
    if not lexer.next_is(_SEMICOLON):
        return None
    lexer.at += 1
    lexer.text.clear()
    if lexer.skip() != MORE or lexer.token() != MORE or not lexer.next_is(_EQUALS):
        return None
    name = lexer.taken()
    lexer.at += 1
    state = lexer.skip()
    if state == MORE:
        if lexer.next_is(_QUOTE):
            state = lexer.quoted_string()
        elif lexer.next_is(_EQUALS):
            # Encoded-words where no encoded-word may be: RFC 2047 section 5
            found = _unusual_value(lexer.data, lexer.at)
            assert found is not None
            lexer.text += found[0]
            lexer.at = found.end()
        else:
            state = lexer.token()
    return None if state == BROKEN else (name, lexer.taken())


def _joined(pieces: list[tuple[bytes, int, bool, bytes]]) -> list[tuple[bytes, bytes]]:
    pieces.sort(key=lambda piece: piece[:2])
    out: list[tuple[bytes, bytes]] = []
    start = 0
    while start < len(pieces):
        name = pieces[start][0]
        stop = start + 1
        while stop < len(pieces) and pieces[stop][0].lower() == name.lower():
            stop += 1
        group = pieces[start:stop]
        start = stop
        if [piece[1] for piece in group] != list(range(len(group))):
            # One is missing: each stays what it was
            out += [(b"%b*%d%b" % (n, i, b"*" if x else b""), value) for n, i, x, value in group]
        elif not any(extended for _, _, extended, _ in group):
            out.append((name, b"".join([piece[3] for piece in group])))
        else:
            # RFC 2231 section 4.1: pieces without the asterisk are not percent-encoded
            text = [
                value if extended else value.replace(b"%", b"%25")
                for _, _, extended, value in group
            ]
            out.append((name + b"*", (b"" if group[0][2] else b"''") + b"".join(text)))
    return out


_SLASH, _SEMICOLON, _EQUALS, _QUOTE, _COMMA = b'/;=",'
