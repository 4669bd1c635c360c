"""Authentication-Results (RFC 8601): writing it, reading it, and telling which fields of a message use our name.

What is written is ASCII, unless asked otherwise, and no value of a peer's ends a field, a quoted string or a comment.
What is read may be anything: no bytes make it raise, each octet is looked at a bounded number of times, and a part that
cannot be read is left out up to its semicolon. So also the payload of ARC-Authentication-Results (RFC 8617 section
4.1.1) is read, and fields without an authserv-id, which some large sites write.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from ..address import normalize_domain
from .headers import fields
from .lexer import MORE, Lexer

__all__ = [
    "MAX_FIELDS",
    "MAX_RESULTS",
    "MAX_VALUE",
    "AuthenticationResults",
    "Result",
    "claimed",
    "claims",
    "field",
    "names_of",
    "read",
    "without_claimed",
]

MAX_VALUE: Final = 65_536
"""Octets of a field's value that are read."""
MAX_RESULTS: Final = 100
"""Of one field, and properties of one result."""
MAX_FIELDS: Final = 100
"""Of one message that are looked at for our name; those behind are taken to have it."""
_MAX_WRITTEN: Final = 320  # characters of one value: a mailbox has 320 at most

_FIELD: Final = b"authentication-results"
# RFC 2045 section 5.1
_token = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+").fullmatch
_dot_atom = re.compile(
    r"[!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~]+(?:\.[!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~]+)*"
).fullmatch
_unfit = re.compile(r"[^ -~]")
_broken = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_word = re.compile(rb"[^\s\"();=/.]+").match
_plain = re.compile(rb"[^\s\"();]+").match
_semicolon = re.compile(rb'[;"(]').search
_version = re.compile(rb"[0-9]{1,9}(?=[\s;(=]|\Z)").match
_COMMENT: Final = str.maketrans("()\\", "[]/")


class Result(NamedTuple):
    """RFC 8601 section 2.2: resinfo. `properties`: ``("smtp.mailfrom", "alice@example.org")`` in their order.

    Read: method, result and names of properties in lower case; `comment` is not read.
    """

    method: str
    result: str
    properties: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    comment: str = ""
    version: int = 1

    def value(self, name: str) -> str:
        """Of the first property of that name, such as ``"header.from"``; "" when there is none."""
        return next((value for key, value in self.properties if key == name), "")


class AuthenticationResults(NamedTuple):
    """A field's value. `authserv_id` "" when there is none before the first result."""

    authserv_id: str
    version: int = 1
    results: tuple[Result, ...] = ()


# Writing


def field(
    authserv_id: str,
    results: Iterable[Result],
    *,
    name: str = "Authentication-Results",
    utf8: bool = False,
) -> bytes:
    """The field, folded, with LF line ends. `utf8`: octets over 127 may stay in it (RFC 8601 section 2.2, RFC 6532);
    else a mailbox that needs them is given as its domain alone, and what else needs them has ``?``.
    """
    lines = [_resinfo(result, utf8) for result in results] or ["none"]
    return (f"{name}: {_value(authserv_id, utf8)};\n\t" + ";\n\t".join(lines) + "\n").encode()


def _resinfo(result: Result, utf8: bool) -> str:
    version = f"/{result.version}" if result.version != 1 else ""
    parts = [f"{_clean(result.method, utf8)}{version}={_clean(result.result, utf8)}"]
    if result.comment:
        parts.append(f"({_clean(result.comment, utf8).translate(_COMMENT)})")
    if result.reason:
        parts.append(f"reason={_quoted(_clean(result.reason, utf8))}")
    parts += [f"{_clean(key, utf8)}={_value(value, utf8)}" for key, value in result.properties]
    line = " ".join(parts)
    # RFC 5322 section 2.1.1
    return line if len(line) <= 200 else "\n\t ".join(parts)


def _value(text: str, utf8: bool) -> str:
    """RFC 8601 section 2.2: pvalue, but for the white space around it."""
    if _token(text) and len(text) <= _MAX_WRITTEN:
        return text
    local, at, domain = text.rpartition("@")
    if at and len(domain) < 256:
        if not utf8 and not local.isascii():
            local, at = "", "@"
        if not local or (_dot_atom(local) and len(local) < 65):
            place = _clean(domain, utf8)
            if _token(place):
                return f"{local}{at}{place}"
    return _quoted(_clean(text, utf8))


def _clean(text: str, utf8: bool) -> str:
    text = text[:_MAX_WRITTEN]
    return (_broken if utf8 else _unfit).sub("?", text)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# Reading


def read(value: bytes) -> AuthenticationResults | None:
    """A field's value, folded or not. None when there is not even an authserv-id or a result in it."""
    reader = _Reader(value[:MAX_VALUE])
    authserv_id, version, first = reader.start()
    results = reader.results(first)
    if not authserv_id and not results:
        return None
    return AuthenticationResults(authserv_id, version, results)


def names_of(authserv_ids: Iterable[str]) -> frozenset[str]:
    """What `claims` wants: the ids, each in the one spelling of its own."""
    return frozenset(map(_one_spelling, authserv_ids))


def claims(value: bytes, names: Collection[str]) -> bool:
    """Whether a field's value says that one of `names` (as `names_of` gives them) has written it.

    RFC 8601 section 5: in doubt it does. What stands where the authserv-id belongs is compared without regard to
    case, to a dot at its end, to quoting, to comments before it, and as A-labels. When nothing can be read there, it is
    enough that the name is anywhere in the field.
    """
    reader = _Reader(value[:MAX_VALUE])
    said, _, _ = reader.start()
    if said:
        # what a reader less strict than the grammar may take for the name
        whole = _one_spelling(said)
        return whole in names or _one_spelling(re.split("[/,:=]", whole)[0]) in names
    text = value.decode("utf-8", "replace").casefold()
    return any(name in text for name in names)


def claimed(header: bytes, names: Collection[str]) -> list[tuple[int, int]]:
    """(start, end) of the Authentication-Results fields of a header block, LF, that `claims` says have our name, and of
    all behind the first `MAX_FIELDS`.
    """
    if _FIELD not in header.lower():
        return []
    found = [(start, end) for name, start, end in fields(header) if name == _FIELD]
    return [
        (start, end)
        for start, end in found[:MAX_FIELDS]
        if claims(header[start:end].partition(b":")[2], names)
    ] + found[MAX_FIELDS:]


def without_claimed(header: bytes, names: Collection[str]) -> bytes:
    """The header block less those fields."""
    gone = claimed(header, names)
    if not gone:
        return header
    starts = [0, *(end for _, end in gone)]
    ends = [*(start for start, _ in gone), len(header)]
    return b"".join(header[start:end] for start, end in zip(starts, ends, strict=True))


def _one_spelling(name: str) -> str:
    name = name.strip().rstrip(".")
    try:
        return normalize_domain(name)
    except ValueError:
        return name.casefold()


class _Reader:
    __slots__ = ("_lexer",)

    def __init__(self, value: bytes) -> None:
        self._lexer = Lexer(value)

    def start(self) -> tuple[str, int, tuple[str, str, int] | None]:
        """authserv-id, its version, and the first methodspec when it stands where they belong."""
        lexer = self._lexer
        if lexer.skip() != MORE or lexer.next_is(_SEMICOLON):
            return "", 1, None
        at = lexer.at
        first = self._methodspec()
        if first is not None:
            return "", 1, first
        lexer.at = at
        name = self._value()
        version = 1
        if lexer.skip() == MORE and (found := _version(lexer.data, lexer.at)) is not None:
            version = int(found[0])
        return name, version, None

    def results(self, first: tuple[str, str, int] | None) -> tuple[Result, ...]:
        lexer = self._lexer
        out: list[Result] = []
        if first is not None:
            out.append(self._resinfo(first))
        while self._past_semicolon() and len(out) < MAX_RESULTS:
            if lexer.skip() != MORE:
                break
            spec = self._methodspec()
            if spec is not None:
                out.append(self._resinfo(spec))
        return tuple(out)

    def _past_semicolon(self) -> bool:
        """Go behind the next one that is in no quoted string and in no comment."""
        lexer = self._lexer
        while (found := _semicolon(lexer.data, lexer.at)) is not None:
            lexer.at = found.start()
            if lexer.next_is(_SEMICOLON):
                lexer.at += 1
                return True
            if lexer.next_is(_QUOTE):
                self._quoted_string()
            else:
                lexer.skip()
        return False

    def _methodspec(self) -> tuple[str, str, int] | None:
        """RFC 8601 section 2.2: method, result, version."""
        lexer = self._lexer
        method = self._name()
        version = 1
        if method and lexer.skip() == MORE and lexer.next_is(_SLASH):
            lexer.at += 1
            lexer.skip()
            found = _version(lexer.data, lexer.at)
            if found is None:
                return None
            version = int(found[0])
            lexer.at = found.end()
        if not method or lexer.skip() != MORE or not lexer.next_is(_EQUALS):
            return None
        lexer.at += 1
        lexer.skip()
        result = self._name()
        return (method, result, version) if result else None

    def _resinfo(self, spec: tuple[str, str, int]) -> Result:
        lexer = self._lexer
        properties: list[tuple[str, str]] = []
        reason = ""
        while lexer.skip() == MORE and not lexer.next_is(_SEMICOLON):
            name = self._name()
            if not name:
                break
            if lexer.skip() == MORE and lexer.next_is(_DOT):
                lexer.at += 1
                lexer.skip()
                name = f"{name}.{self._name()}"
            if lexer.skip() != MORE or not lexer.next_is(_EQUALS):
                continue
            lexer.at += 1
            if lexer.skip() != MORE or lexer.next_is(_SEMICOLON):
                break
            value = self._value()
            if name == "reason":
                reason = reason or value
            else:
                properties.append((name, value))
                if len(properties) == MAX_RESULTS:
                    break
        return Result(spec[0], spec[1], tuple(properties), reason, "", spec[2])

    def _name(self) -> str:
        found = _word(self._lexer.data, self._lexer.at)
        if found is None:
            return ""
        self._lexer.at = found.end()
        return _text(found[0]).lower()

    def _value(self) -> str:
        """Token, quoted string, mailbox: all that stands together. "" when nothing does."""
        lexer = self._lexer
        out = b""
        while lexer.at < lexer.end:
            if lexer.next_is(_QUOTE):
                out += self._quoted_string()
                continue
            found = _plain(lexer.data, lexer.at)
            if found is None:
                break
            out += found[0]
            lexer.at = found.end()
        return _text(out)

    def _quoted_string(self) -> bytes:
        lexer = self._lexer
        found = _quoted_string(lexer.data, lexer.at)
        if found is None:
            lexer.at = lexer.end  # it never ends
            return b""
        lexer.at = found.end()
        return _pair.sub(rb"\1", found[1])


_quoted_string = re.compile(rb'"((?:[^"\\]|\\.)*+)"', re.DOTALL).match
_pair = re.compile(rb"\\(.)", re.DOTALL)


def _text(octets: bytes) -> str:
    # RFC 5322 section 2.2.3: a line that was folded is one
    return _broken.sub("", octets.decode("utf-8", "replace"))


_SEMICOLON, _QUOTE, _SLASH, _EQUALS, _DOT = b';"/=.'
