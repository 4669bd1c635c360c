"""PREVIEW (RFC 8970): the first words of a message, as a reader would see them. No bytes make it raise."""

from __future__ import annotations

from mmap import mmap
from typing import TYPE_CHECKING, Final

from .part import Part, walk
from .text import body_text
from .words import one_line

if TYPE_CHECKING:
    from html.parser import HTMLParser

__all__ = ["MAX_PREVIEW", "preview"]

# RFC 8970 section 3.1: no more than 200 characters
MAX_PREVIEW: Final = 200
MAX_READ: Final = 131_072
"""Octets of a part, and characters of its text, that are looked at."""
_KINDS: Final = frozenset((b"text/plain", b"text/html"))
_HIDDEN: Final = frozenset(("head", "script", "style", "template", "title"))
_BREAKS: Final = frozenset(
    [
        "address",
        "article",
        "blockquote",
        "br",
        "dd",
        "div",
        "dt",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "li",
        "p",
        "pre",
        "section",
        "table",
        "td",
        "th",
        "tr",
    ]
)


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
    parser = _parser()
    try:
        parser.feed(html)
        parser.close()
    except Exception:
        # Whatever stops it: what came before stays
        pass
    return "".join(parser.out)  # type: ignore[attr-defined]


def _parser() -> HTMLParser:
    from html.parser import HTMLParser  # only who asks for previews pays for it

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__(convert_charrefs=True)
            self.out: list[str] = []
            self._hidden = ""

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag == "body":
                self._hidden = ""
            elif not self._hidden and tag in _HIDDEN:
                self._hidden = tag
            elif tag in _BREAKS:
                self.out.append(" ")

        def handle_endtag(self, tag: str) -> None:
            if tag == self._hidden:
                self._hidden = ""
            elif tag in _BREAKS:
                self.out.append(" ")

        def handle_data(self, data: str) -> None:
            if not self._hidden:
                self.out.append(data)

    return Reader()
