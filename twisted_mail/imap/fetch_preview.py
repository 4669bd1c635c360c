"""PREVIEW (RFC 8970): made when it is asked for, from what is being read anyway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from ..mailboxes import LargeContent
from ..message.nstring import string
from ..message.part import Part
from ..message.preview import preview
from .fetch_large import bytes_of
from .fetch_sections import Reader
from .fetching import Preview

__all__ = ["large_preview", "preview_reader"]

LOOKED_AT: Final = 262_144
"""Octets of a large message in which the first words are looked for."""


def preview_reader(item: Preview) -> Reader:
    """What answers `item`."""

    def read(content: bytes, root: Part | None) -> bytes:
        assert root is not None
        return b"PREVIEW " + string(preview(content, root).encode())

    return read


async def large_preview(
    item: Preview,
    content: LargeContent,
    root: Part,
    elsewhere: Callable[..., Awaitable[Any]] | None,
) -> bytes:
    """Of a message that is not in memory."""
    if item.lazy:
        # RFC 8970 section 4.1: NIL, rather than keeping the client waiting
        return b"PREVIEW NIL"
    head = await bytes_of(content, 0, min(content.size, LOOKED_AT))
    words = preview(head, root) if elsewhere is None else await elsewhere(preview, head, root)
    return b"PREVIEW " + string(words.encode())
