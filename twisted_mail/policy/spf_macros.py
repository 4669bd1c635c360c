"""Macros of SPF (RFC 7208 section 7): what a `Spec` says of this client and sender. Bounded whatever it asks for.

`values` gives a letter's value. None for it: it cannot be said in ASCII (RFC 8616 section 4), and then the whole is
None, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from .spf_record import Macro, Spec

__all__ = ["MAX_EXPLANATION", "MAX_NAME", "expand_domain", "expand_text", "letters"]

MAX_NAME: Final = 253
"""Characters of a name that is asked for (section 7.3)."""
MAX_EXPLANATION: Final = 500
"""Characters: what fits into a reply line."""

Values = Mapping[str, str | None]


def letters(spec: Spec | None) -> str:
    """Those of the macros in it."""
    if spec is None or isinstance(spec, str):
        return ""
    return "".join(part.letter for part in spec if isinstance(part, Macro))


def expand_domain(spec: Spec, values: Values) -> str | None:
    """A domain-spec as a name without its last dot, cut on its left as section 7.3 says."""
    if isinstance(spec, str):
        return spec if len(spec) <= MAX_NAME else _cut(spec)
    pieces: list[str] = []
    length = 0
    for part in reversed(spec):
        text = part if isinstance(part, str) else _value(part, values)
        if text is None:
            return None
        pieces.append(text)
        length += len(text)
        if length > MAX_NAME + 2:  # what stands before is cut off in any case
            break
    return _cut("".join(reversed(pieces)).removesuffix("."))


def expand_text(spec: Spec, values: Values) -> str | None:
    """An explanation, cut when it is long. It may hold anything that `values` holds."""
    if isinstance(spec, str):
        return spec[:MAX_EXPLANATION]
    pieces: list[str] = []
    length = 0
    for part in spec:
        text = part if isinstance(part, str) else _value(part, values)
        if text is None:
            return None
        pieces.append(text)
        length += len(text)
        if length > MAX_EXPLANATION:
            break
    return "".join(pieces)[:MAX_EXPLANATION]


def _value(macro: Macro, values: Values) -> str | None:
    letter, count, reverse, delimiters, escaped = macro
    text = values[letter]
    if text is None:
        return None
    if reverse or count or delimiters != ".":
        # RFC 7208 section 7.3: split, reversed, the right-hand parts of it, joined with dots
        parts = (
            text.split(".") if delimiters == "." else re.split(f"[{re.escape(delimiters)}]", text)
        )
        if reverse:
            parts.reverse()
        text = ".".join(parts[-count:])
    # RFC 3986 section 2.3: all but the unreserved
    return quote(text, safe="-._~") if escaped else text


def _cut(name: str) -> str:
    if len(name) <= MAX_NAME:
        return name
    # Whole labels go; one that is longer than any name stays too long
    tail = name[-MAX_NAME - 1 :]
    return tail.partition(".")[2] or tail
