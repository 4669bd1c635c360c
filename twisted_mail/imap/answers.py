"""Pieces of an answer: in one block when they are few, else one by one, as the client reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Final

from ..connection.interfaces import Answer

__all__ = ["gathered", "one_after_the_other"]

SMALL: Final = 32 * 1024
"""Octets that are put into one block."""


def gathered(pieces: Iterator[bytes]) -> Answer:
    """In one block when it is small."""
    head: list[bytes] = []
    size = 0
    for piece in pieces:
        head.append(piece)
        size += len(piece)
        if size > SMALL:
            return Answer(b"".join(head), body=_one_by_one(pieces))
    return Answer(b"".join(head))


async def _one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def one_after_the_other(
    first: Iterator[bytes], then: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    try:
        for piece in first:
            yield piece
        async for piece in then:
            yield piece
    finally:
        close = getattr(then, "aclose", None)
        if close is not None:
            await close()
