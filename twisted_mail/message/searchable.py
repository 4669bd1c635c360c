"""A message's text as SEARCH sees it (`message.text`), folded: one string to keep, or looked at as it comes.

`searchable` puts everything into one text, its pieces apart by EDGE, which no needle of `usual` holds: so what is found
in it never goes over the end of a field or a part, and finding bytes in it is finding text. What is longer than its
bound is cut, and says so. `contains` and `has_field` read a message of any size. No bytes make it raise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from mmap import mmap
from typing import Final, NamedTuple
from unicodedata import unidata_version

from .collation import fold
from .decode import IDENTITY
from .envelope import MAX_HEADER
from .part import MESSAGE, Part, walk
from .structure import scan
from .text import OVERLAP, body_text, field_lines, header_texts, is_text, texts

__all__ = [
    "EDGE",
    "MAX_TEXT",
    "SEARCHABLE_VERSION",
    "Searchable",
    "contains",
    "field_in",
    "folded",
    "has_field",
    "may_contain",
    "searchable",
    "usual",
]

SEARCHABLE_VERSION: Final = f"2 {unidata_version}"
"""Changes with what the texts are made of."""
EDGE: Final = "\uffff"
"""Between pieces, and for what cannot be kept (NUL, lone surrogates)."""
MAX_TEXT: Final = 1_048_576
"""Octets of a text, as UTF-8, that are kept."""
SLICE: Final = 65_536
"""Characters that are folded in one go: the interpreter is not held for longer."""

_SEPARATOR: Final = EDGE.encode("utf-8")
_unkept = re.compile("[\0\ud800-\udfff\uffff]")
_WORD: Final = re.compile(r"[!-9;-<>-~]+")
_PLAIN_ENCODING: Final = re.compile(rb":[ \t]*(?:7bit|8bit|binary)[ \t]*\r?\n").match
_PLAIN_CHARSET: Final = re.compile(
    rb'="?(?:us-ascii|utf-?8|iso-8859-[0-9]{1,2}|windows-125[0-9])"?(?:;|[ \t]*\r?\n)'
).match

_PLAIN_TEXT: Final = re.compile(
    rb"(?:(?:us-)?ascii|utf-?8|iso-8859-[0-9]{1,2}|windows-125[0-9])?"
).fullmatch


class Searchable(NamedTuple):
    """`text`: UTF-8. Up to `fields` it is the fields of the message's own header, from `body` on what SEARCH BODY looks
    at; the headers of body parts stand between. `whole`: nothing was cut off."""

    text: bytes
    fields: int
    body: int
    whole: bool


def usual(needle: str) -> bool:
    """Whether a (folded) needle can be looked for in a `Searchable`: no characters that are not kept, not too long."""
    return len(needle) <= OVERLAP and _unkept.search(needle) is None


def folded(text: str) -> str:
    """`collation.fold`, a slice at a time."""
    if len(text) <= SLICE:
        return fold(text)
    return "".join([fold(text[at : at + SLICE]) for at in range(0, len(text), SLICE)])


def searchable(content: bytes | mmap, limit: int = MAX_TEXT) -> Searchable:
    """Of a stored message."""
    root = scan(content)
    pieces: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
    left = limit
    for where, piece in _pieces(content, root):
        kept = _kept(folded(piece)).encode("utf-8")
        left -= len(kept) + len(_SEPARATOR)
        if left < 0:
            # In the middle of a character perhaps: such a one is no part of any needle
            kept = kept[:left].decode("utf-8", "ignore").encode("utf-8")
        pieces[where].append(kept)
        if left < 0:
            break
    own, parts, body = (b"".join([piece + _SEPARATOR for piece in some]) for some in pieces)
    return Searchable(own + parts + body, len(own), len(own) + len(parts), left >= 0)


def _kept(text: str) -> str:
    if len(text) <= SLICE:
        return _unkept.sub(EDGE, text)
    return "".join([_unkept.sub(EDGE, text[at : at + SLICE]) for at in range(0, len(text), SLICE)])


def _pieces(content: bytes | mmap, root: Part) -> Iterator[tuple[int, str]]:
    """As `text.texts` has them: 0 of the message's own fields, 1 of what else is header only, 2 of the body."""
    stack = [(root, False)]
    while stack:
        part, embedded = stack.pop()
        for name, line in field_lines(content, part):
            yield (2 if embedded else 0 if name and part is root else 1), line
        if is_text(part):
            for piece in body_text(content, part):
                yield 2, piece
        embeds = part.shape == MESSAGE
        stack.extend([(child, embeds) for child in reversed(part.children)])


def field_in(text: bytes, fields: int, name: str, needle: str) -> bool:
    """Whether the fields of a `Searchable` (up to `fields`) have a `name` (lower case) whose text contains `needle`."""
    if not name:
        return False  # what is no field has no name
    start = (fold(name) + ": ").encode("utf-8", "replace")
    wanted = needle.encode("utf-8", "replace")
    at = 0
    while at < fields:
        end = text.find(_SEPARATOR, at, fields)
        if text.startswith(start, at) and text.find(wanted, at + len(start), end) >= 0:
            return True
        at = end + len(_SEPARATOR)
    return False


# A message that is read


def contains(content: bytes | mmap, needle: str, *, body_only: bool) -> bool:
    """Whether one of the texts contains `needle`, which is folded."""
    if not needle:
        return True
    where = _where(content, needle)
    if where is _Where.NOWHERE:
        return False
    overlap = max(OVERLAP, len(needle))
    root = scan(content)
    if where is _Where.ENCODED:
        return _in_any(needle, _encoded(content, root, overlap))
    return _in_any(needle, texts(content, root, headers=not body_only, overlap=overlap))


def has_field(content: bytes | mmap, name: str, needle: str) -> bool:
    """Whether there is a field `name` (lower case) in the message's header whose text contains `needle`, folded."""
    if not name:
        return False
    wanted = name.encode("utf-8", "replace")
    root = scan(content)
    block = content[root.start : min(root.body, root.start + MAX_HEADER)]
    return _in_any(needle, (text for known, text in header_texts(block) if known == wanted))


def _in_any(needle: str, some: Iterable[str]) -> bool:
    return any(needle in folded(text) for text in some)


def may_contain(content: bytes | mmap, needle: str) -> bool:
    """False when it plainly does not: nothing in it is encoded, and the longest word of the needle is nowhere."""
    return _where(content, needle) is not _Where.NOWHERE


class _Where(Enum):
    """Where a needle may be found: if it is in no text that is ``ENCODED``, it is nowhere."""

    NOWHERE = 0
    ENCODED = 1
    ANYWHERE = 2


def _where(content: bytes | mmap, needle: str) -> _Where:
    words = _WORD.findall(needle)
    if not words or len(content) > MAX_TEXT:
        return _Where.ANYWHERE
    raw = bytes(content)
    if not raw.isascii():
        return _Where.ANYWHERE
    raw = raw.lower()
    word = max(words, key=len).lower().encode("ascii")
    # A header that is broken is unfolded where there is no white space
    if word in raw or b"=?" in raw or word in raw.translate(None, b"\r\n"):
        return _Where.ANYWHERE
    encoded = _unlike(raw, b"content-transfer-encoding", _PLAIN_ENCODING) or _unlike(
        raw, b"charset", _PLAIN_CHARSET
    )
    return _Where.ENCODED if encoded else _Where.NOWHERE


def _encoded(content: bytes | mmap, root: Part, overlap: int) -> Iterator[str]:
    """Of `texts` those that do not stand in the message as they are read."""
    for part in walk(root):
        if is_text(part) and not (part.transfer_encoding in IDENTITY and _PLAIN_TEXT(part.charset)):
            yield from body_text(content, part, overlap)


def _unlike(raw: bytes, word: bytes, plain: object) -> bool:
    """Whether there is a `word` that is not followed by what is `plain`."""
    at = raw.find(word)
    while at >= 0:
        at += len(word)
        if plain(raw, at) is None:  # type: ignore[operator]
            return True
        at = raw.find(word, at)
    return False
