"""Searching one message by reading it: for accounts without an index, and what faster ways are measured against."""

from __future__ import annotations

from ..message.collation import fold
from ..message.envelope import MAX_HEADER
from ..message.structure import scan
from ..message.text import header_texts, one_blank, texts

__all__ = ["header_contains", "text_contains"]


def header_contains(content: bytes, name: str, text: str) -> bool:
    """Whether a header field `name` (lower case) of `content` has `text` in it; "" is in each such field."""
    wanted, named = fold(text), name.encode("utf-8", "replace")
    block = content[: min(scan(content).body, MAX_HEADER)]
    values = [fold(value) for found, value in header_texts(block) if found == named]
    if name == "subject":
        wanted, values = one_blank(wanted), [one_blank(value) for value in values]
    return any(wanted in value for value in values)


def text_contains(content: bytes, text: str, *, body_only: bool) -> bool:
    """Whether SEARCH TEXT, or BODY, finds `text`."""
    wanted = fold(text)
    pieces = texts(content, scan(content), headers=not body_only, overlap=max(len(text), 1))
    return any(wanted in fold(piece) for piece in pieces)
