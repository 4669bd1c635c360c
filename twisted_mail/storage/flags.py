"""Flags as a Maildir has them: letters behind ``:2,`` in a file's name, and bits as `mailboxes` counts them. Pure.

Upper-case letters are the Maildir's own, ``a`` to ``z`` the keywords of the folder, whose names stand in
``dovecot-keywords``: a line each, the letter's number and the name. So Dovecot reads ours, and we read Dovecot's; and
they survive the loss of the index. A letter that means nothing here (``P``, passed) is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from ..mailboxes import (
    ANSWERED,
    DELETED,
    DRAFT,
    FIRST_KEYWORD,
    FLAGGED,
    MAX_KEYWORDS,
    SEEN,
    SYSTEM_FLAGS,
)

__all__ = [
    "KEYWORDS_FILE",
    "MAX_KEYWORD",
    "bits_of",
    "format_keywords",
    "info_of",
    "letters_of",
    "names_of",
    "parse_keywords",
]

KEYWORDS_FILE: Final = "dovecot-keywords"
MAX_KEYWORD: Final = 255
"""Characters of a keyword: a longer one is not taken, from a file or from anybody."""

_SYSTEM: Final = {"D": DRAFT, "F": FLAGGED, "R": ANSWERED, "S": SEEN, "T": DELETED}
_BITS: Final = {
    **_SYSTEM,
    **{chr(ord("a") + n): 1 << (FIRST_KEYWORD + n) for n in range(MAX_KEYWORDS)},
}


def bits_of(name: str) -> int:
    """The flags of a file of this name, as bits."""
    _, _, letters = name.partition(":2,")
    if not letters:
        return 0
    bits = 0
    for letter in letters.partition(",")[0]:
        bits |= _BITS.get(letter, 0)
    return bits


@lru_cache(maxsize=4096)
def letters_of(bits: int, others: str = "") -> str:
    """Letters in ASCII order; `others` is the info of the name before, whose unknown letters are kept."""
    letters = [letter for letter, bit in _BITS.items() if bits & bit]
    letters += [letter for letter in others if letter not in _BITS and letter.isalpha()]
    return "".join(sorted(set(letters)))


def info_of(name: str, bits: int) -> str:
    """``:2,`` and the letters for a file that is called `name` now."""
    return f":2,{letters_of(bits, name.partition(':2,')[2])}"


def names_of(bits: int, keywords: Sequence[str]) -> list[str]:
    """The flags that `bits` stand for, in a folder with these keywords."""
    found = [name for name, bit in SYSTEM_FLAGS.items() if bits & bit]
    rest = bits >> FIRST_KEYWORD
    return found + [name for n, name in enumerate(keywords) if name and rest & (1 << n)]


def parse_keywords(text: bytes) -> tuple[str, ...]:
    """What a keywords file says: names by their letter's number, "" where there is none. Never raises."""
    found: dict[int, str] = {}
    for line in text.decode("utf-8", "replace").splitlines():
        number, _, name = line.strip().partition(" ")
        name = name.strip()
        if (
            number.isascii()
            and number.isdigit()
            and len(number) < 3
            and 0 < len(name) <= MAX_KEYWORD
        ):
            at = int(number)
            if at < MAX_KEYWORDS and name not in found.values():
                found.setdefault(at, name)
    return tuple(found.get(n, "") for n in range(max(found, default=-1) + 1))


def format_keywords(keywords: tuple[str, ...]) -> bytes:
    """The keywords file of these names."""
    return "".join(f"{n} {name}\n" for n, name in enumerate(keywords) if name).encode()
