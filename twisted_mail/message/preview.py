"""PREVIEW (RFC 8970): the first words of a message, as a reader would see them. No bytes make it raise."""

from __future__ import annotations

import re
from mmap import mmap
from typing import Final

from .part import Part, walk
from .text import body_text
from .words import one_line

__all__ = ["MAX_PREVIEW", "preview"]

# RFC 8970 section 3.1: no more than 200 characters
MAX_PREVIEW: Final = 200
MAX_READ: Final = 131_072
"""Octets of a part, and characters of its text, that are looked at."""
_KINDS: Final = frozenset((b"text/plain", b"text/html"))
# No html.parser: it takes minutes for some hundred kilobytes of "<a <a <a". Here each octet is looked at once:
# whatever begins and does not end goes to the end, and a tag ends where the next one begins.
_hidden = re.compile(
    r"<(head|script|style|template|title)\b[^<>]*>.*?(?:</\1[\s>]|\Z)|<!--.*?(?:-->|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_break = re.compile(
    r"</?(?:address|article|blockquote|br|d[dlt]|div|h[1-6r]|li|p|pre|section|t[dhr]|table)\b[^<>]*>?",
    re.IGNORECASE,
)
# Digits that are no character: html.unescape would make a number of them all, and raise for thousands
_number = re.compile(r"&#[0-9]{12,};?")
_tag = re.compile(r"<[a-z/!?][^<>]*>?", re.IGNORECASE)


def preview(content: bytes | mmap, root: Part, limit: int = MAX_PREVIEW) -> str:
    """Of the first part of plain text or HTML that is no attachment and says something; "" without one."""
    looked = 0
    for part in walk(root):
        if part.kind not in _KINDS or (part.disposition or b"").lower() == b"attachment":
            continue
        looked += 1
        if looked > 10:
            break
        part = part._replace(end=min(part.end, part.body + MAX_READ))
        text = "".join(body_text(content, part, 0))[:MAX_READ]
        if part.kind == b"text/html":
            text = _seen(text)
        if text := one_line(text, limit):
            return text
    return ""


def _seen(html: str) -> str:
    from html import unescape  # only who asks for previews pays for its table

    return unescape(_number.sub("\ufffd", _tag.sub("", _break.sub(" ", _hidden.sub(" ", html)))))
