"""i;unicode-casemap (RFC 5051): texts that differ in case, or in how they are composed, become one.

`fold` goes character by character: fold(a + b) == fold(a) + fold(b), so what is part of a text stays part of it. It
changes nothing that it made itself (tests go through all of Unicode). Accents stay, as characters of their own behind
their letter; "ß" stays "ß", as in Unicode's simple mappings.
"""

from __future__ import annotations

from unicodedata import decomposition

__all__ = ["fold"]


def fold(text: str) -> str:
    """The form to compare, search and sort by."""
    return text.upper() if text.isascii() else text.translate(_folded)


class _Folded(dict[int, str]):
    """What each character becomes. It fills itself with those of the first plane only: some megabytes at most."""

    def __missing__(self, code: int) -> str:
        out = _fold_one(chr(code), 0)
        if code < 0x10000:
            self[code] = out
        return out


def _fold_one(character: str, depth: int) -> str:
    # RFC 5051 section 2: the titlecase property, then the decomposition property, and again until neither is there
    title = character.title()
    if len(title) == 1:
        character = title
    parts = decomposition(character).split()
    if parts and parts[0].startswith("<"):
        del parts[0]
    if not parts or depth > 16:
        return character
    return "".join([_fold_one(chr(int(part, 16)), depth + 1) for part in parts])


_folded = _Folded()
