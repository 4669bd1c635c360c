"""A reader of what IMAP servers write: strings, literals, NIL, numbers, atoms, lists. Strict, and nothing of ours."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["NIL", "is_body", "is_envelope", "lines_of", "values"]

NIL = None
_token = re.compile(
    rb"(?P<open>\()|(?P<close>\))|(?P<space> )|~?\{(?P<literal>[0-9]{1,9})\}\r\n"
    rb'|"(?P<quoted>(?:[^"\\\r\n\0]|\\["\\])*)"|(?P<atom>[^ (){"\r\n\0\x80-\xff]+)'
)


def values(data: bytes) -> list[Any]:
    """The values in one line, without its end: bytes, int, NIL, list. AssertionError: that is no line of IMAP."""
    stack: list[list[Any]] = [[]]
    at = 0
    between = True  # a value may begin here; lists may touch (RFC 9051: body-type-mpart, env-from)
    while at < len(data):
        found = _token.match(data, at)
        assert found is not None, data[at : at + 60]
        at = found.end()
        if found["space"]:
            assert not between, data[max(at - 60, 0) : at]
            between = True
        elif found["open"]:
            assert between or data[found.start() - 1 : found.start()] == b")"
            stack.append([])
            between = True
        elif found["close"]:
            assert len(stack) > 1
            made = stack.pop()
            assert not between or not made
            stack[-1].append(made)
            between = False
        else:
            assert between, data[max(at - 60, 0) : at + 20]
            if found["literal"] is not None:
                size = int(found["literal"])
                assert at + size <= len(data)
                assert (
                    b"\0" not in data[at : at + size]
                    or data[found.start() : found.start() + 1] == b"~"
                )
                stack[-1].append(data[at : at + size])
                at += size
            elif found["quoted"] is not None:
                stack[-1].append(re.sub(rb"\\(.)", rb"\1", found["quoted"]))
            else:
                atom = found["atom"]
                stack[-1].append(NIL if atom == b"NIL" else int(atom) if atom.isdigit() else atom)
            between = False
    assert len(stack) == 1
    assert not between or not data
    return stack[0]


def is_envelope(value: Any) -> None:
    """RFC 9051 section 9: envelope."""
    assert isinstance(value, list) and len(value) == 10
    for number in (0, 1, 8, 9):
        assert value[number] is NIL or isinstance(value[number], bytes)
    for number in range(2, 8):
        assert value[number] is NIL or value[number]
        for address in value[number] or ():
            assert len(address) == 4
            assert all(part is NIL or isinstance(part, bytes) for part in address)


def _params(value: Any) -> None:
    assert value is NIL or (len(value) >= 2 and len(value) % 2 == 0)
    assert all(isinstance(one, bytes) for one in value or ())


def is_body(value: Any, extended: bool) -> int:
    """RFC 9051 section 9: body, complete. How many parts it has."""
    assert isinstance(value, list)
    if isinstance(value[0], list):
        children = [one for one in value if isinstance(one, list)]
        number = next(at for at, one in enumerate(value) if not isinstance(one, list))
        parts = sum(is_body(child, extended) for child in value[:number])
        assert isinstance(value[number], bytes)
        rest = value[number + 1 :]
        assert len(rest) == (4 if extended else 0), children
        if extended:
            _params(rest[0])
            _extension(rest[1:])
        return parts + 1
    type_, subtype, params, id_, description, encoding, octets = value[:7]
    assert isinstance(type_, bytes) and isinstance(subtype, bytes) and isinstance(encoding, bytes)
    _params(params)
    assert id_ is NIL or isinstance(id_, bytes)
    assert description is NIL or isinstance(description, bytes)
    assert isinstance(octets, int)
    rest = value[7:]
    parts = 1
    if type_.lower() == b"text":
        assert isinstance(rest.pop(0), int)
    elif rest and isinstance(rest[0], list) and len(rest) >= 3 and isinstance(rest[2], int):
        assert type_.lower() == b"message"
        is_envelope(rest[0])
        parts += is_body(rest[1], extended)
        rest = rest[3:]
    assert len(rest) == (4 if extended else 0)
    if extended:
        assert rest[0] is NIL or isinstance(rest[0], bytes)
        _extension(rest[1:])
    return parts


def _extension(value: list[Any]) -> None:
    disposition, language, location = value
    if disposition is not NIL:
        assert isinstance(disposition[0], bytes)
        _params(disposition[1])
    assert language is NIL or isinstance(language, bytes | list)
    assert location is NIL or isinstance(location, bytes)


def lines_of(said: bytes) -> list[bytes]:
    """The lines that a server said, literals within them; each without its end."""
    made: list[bytes] = []
    at = start = 0
    while start < len(said):
        end = said.find(b"\r\n", at)
        assert end >= 0, said[start:]
        found = re.search(rb"\{([0-9]+)\}\Z", said[start:end])
        if found and end - at >= len(found[0]):
            at = end + 2 + int(found[1])
            assert at <= len(said)
            continue
        made.append(said[start:end])
        at = start = end + 2
    return made
