"""Whose mail it says it is: the domains in a message's From fields (RFC 9989 section 5.3.1, RFC 7489 section 6.6.1).

`message.addresses` reads lists as Dovecot shows them, which is not what decides here: of ``a@bank.example
<x@example.org>`` it keeps the first, of two addresses without a comma it leaves the second out. This reader takes what
programs of users show: what stands in the angle brackets; and when a field can be understood in two ways it says so,
and names all the domains it can find, so that nobody gets past a policy by writing a From that two readers
read in two ways. Names of people, encoded-words in them too, are not looked at (RFC 9989 section 2.4) unless there is
no address. No bytes make it raise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from ..address import normalize_domain
from ..message.headers import fields
from ..message.words import decode_words

__all__ = ["MAX_DOMAINS", "Author", "author", "from_fields", "mailboxes"]

MAX_DOMAINS: Final = 5
"""That are looked for; one more, and it cannot be judged."""
_MAX_VALUE: Final = 65_536  # octets of a From field
_PLACE: Final = "\x01"  # stands for a quoted string

# Nearly all there are. No white space may be matched by two neighbours: else a field of blanks takes for ever
_usual = re.compile(
    rb'(?:"[^"\\]*"[ \t\n]*|[A-Za-z0-9!#$%&\'*+/=?^_`{|}~. \t\n-]*)'
    rb"<([^\s<>@\",;:()\\]+)@([A-Za-z0-9._-]+)>"
    rb"|([^\s<>@\",;:()\\]+)@([A-Za-z0-9._-]+)"
).fullmatch
_usual_quoted = re.compile(
    rb'(?:(?:"[^"\\]*"[ \t\n]*|[^"\\<>@,;:()]*)<"((?:[^"\\]|\\.)*)"@([A-Za-z0-9._-]+)>'
    rb'|"((?:[^"\\]|\\.)*)"@([A-Za-z0-9._-]+))'
).fullmatch
_sign = re.compile('["()]').search
_quoted = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL).match
_in_comment = re.compile(r"\\.|[()]", re.DOTALL).search
_group = re.compile(r"(?:^|(?<=[,;]))[^:;,<>@]*:(?!:)")
_angles = re.compile(r"[^<>]*<([^<>]*)>\s*").fullmatch
_route = re.compile(r"<\s*@[^<>:]*:")
_anywhere = re.compile(r"@\s*([^\s<>,;:()@\"\\\[\]\x00-\x1f]+)")


class Author(NamedTuple):
    """`domains`: A-labels, each once, in their order, `MAX_DOMAINS` at most. `problem`: "" when the fields say
    clearly whose mail it is, though that may be several; else why not, and `domains` are all that could be meant.
    """

    domains: tuple[str, ...]
    problem: str = ""


def from_fields(header: bytes) -> list[bytes]:
    """The values of the From fields of a header block, with LF line ends."""
    return [
        header[start:end].partition(b":")[2]
        for name, start, end in fields(header)
        if name == b"from"
    ]


def author(values: Sequence[bytes]) -> Author:
    """Of all From fields of a message."""
    if len(values) == 1:
        found = _usual(values[0].strip()) if len(values[0]) < 1000 else None
        name = None if found is None else _normal((found[2] or found[4]).decode("ascii"))
        if name is not None:
            return Author((name,))
        return _read(values[0])
    if not values:
        return Author((), "there is no From field")
    # RFC 5322 section 3.6: one
    domains = [name for value in values[:MAX_DOMAINS] for name in _read(value).domains]
    return Author(
        tuple(dict.fromkeys(domains))[:MAX_DOMAINS], f"there are {len(values)} From fields"
    )


def mailboxes(value: bytes) -> list[tuple[str, str]] | None:
    """Local part, unquoted, and domain of each author of a From field that `author` finds clear. None when one cannot
    be told for certain, as where a local part is quoted and more stands beside."""
    stripped = value.strip()
    if found := _usual(stripped) or _usual_quoted(stripped):
        local = re.sub(rb"\\(.)", rb"\1", found[1] or found[3] or b"", flags=re.DOTALL)
        name = _normal((found[2] or found[4]).decode("ascii"))
        return None if name is None else [(local.decode("utf-8", "replace"), name)]
    bare, problem = _without_quotes(stripped.decode("utf-8", "replace"))
    read = [_mailbox(part) for part in _all_parts(bare)]
    all_ = [one for one in read if one is not None and _PLACE not in one[0]]
    return None if problem or len(all_) < len(read) else all_


def _read(value: bytes) -> Author:
    if len(value) > _MAX_VALUE:
        return Author(_all_in(value[:_MAX_VALUE]), "the From field is too long")
    text = value.decode("utf-8", "replace").strip()
    bare, problem = _without_quotes(text)
    names: list[str] = []
    for part in _all_parts(bare):
        found = _mailbox(part)
        if found is None:
            problem = problem or "the From field is malformed"
        else:
            names.append(found[1])
    if not names and not problem:
        problem = "the From field has no address"
    if problem:
        return Author(_all_in(value), problem)
    domains = tuple(dict.fromkeys(names))
    if len(domains) > MAX_DOMAINS:
        return Author(domains[:MAX_DOMAINS], "the From field has too many authors")
    return Author(domains)


def _all_parts(text: str) -> list[str]:
    """Between commas and semicolons; those of an obsolete route (RFC 5322 section 4.4) divide nothing. Without a name
    with a comma in it, and what obs-addr-list leaves empty."""
    # RFC 6854: groups
    parts = re.split("[,;]", _route.sub("<", _group.sub(",", text)))
    return [part for part in parts if "@" in part or "<" in part or ">" in part]


def _mailbox(part: str) -> tuple[str, str] | None:
    """Local part and domain."""
    if "<" in part or ">" in part:
        found = _angles(part)
        if found is None:
            return None
        part = found[1]
    local, at, domain = map(_closed_up, part.partition("@"))
    if not at or not local or not domain or len(local.split(None, 1)) > 1:
        return None
    name = _normal(domain)
    return None if name is None else (local, name)


def _closed_up(text: str) -> str:
    """RFC 5322 section 4.4: without the white space around dots."""
    return ".".join(map(str.strip, text.split(".")))


def _normal(name: str) -> str | None:
    try:
        return normalize_domain(name.rstrip("."))
    except ValueError:
        return None


def _without_quotes(text: str) -> tuple[str, str]:
    """Comments are a space, quoted strings a sign; and what is wrong with them."""
    out: list[str] = []
    at = 0
    while (found := _sign(text, at)) is not None:
        out.append(text[at : found.start()])
        at = found.start()
        if found[0] == ")":
            return "".join(out) + text[at:], "the From field is malformed"
        end = _end_of_comment(text, at + 1) if found[0] == "(" else _end_of_quoted(text, at)
        if end < 0:
            what = "comment" if found[0] == "(" else "quoted string"
            return "".join(out), f"a {what} in the From field never ends"
        out.append(" " if found[0] == "(" else _PLACE)
        at = end
    return "".join(out) + text[at:], ""


def _end_of_quoted(text: str, at: int) -> int:
    found = _quoted(text, at)
    return -1 if found is None else found.end()


def _end_of_comment(text: str, at: int) -> int:
    depth = 1
    while (found := _in_comment(text, at)) is not None:
        at = found.end()
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if not depth:
            return at
    return -1


def _all_in(value: bytes) -> tuple[str, ...]:
    """Every domain that somebody might read out of it, in encoded-words too (RFC 2047)."""
    names: dict[str, None] = {}
    for text in (value.decode("utf-8", "replace"), decode_words(value)):
        for found in _anywhere.finditer(text[:_MAX_VALUE]):
            name = _normal(found[1])
            if name is not None:
                names[name] = None
            if len(names) == MAX_DOMAINS:
                break
    return tuple(names)[:MAX_DOMAINS]
