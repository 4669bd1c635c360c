"""The octets that a URL of CATENATE stands for: of this account's own messages, as FETCH BODY.PEEK would give them.

They are given as they are stored, in blocks, whatever size the message has; \\Seen stays as it is. A message of
another mailbox is looked at read-only.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from ..mailboxes import LargeContent, OpenMailbox
from ..message.part import Part, from_bytes
from ..message.structure import scan
from ..status import MailError
from ..turns import Pace
from .fetch_large import Mark, bytes_of, octets, stored_range
from .fetch_sections import body_start, picker, wire
from .fetching import BodySection
from .naming import naming
from .refusal import No
from .urls import parse

if TYPE_CHECKING:
    from .session import ImapSession

__all__ = ["BLOCK", "bad_url", "blocks"]

BLOCK: Final = 65_536
_MAX_HEADER: Final = 1 << 20
"""Octets of a header of which fields are picked."""


def bad_url(url: bytes) -> No:
    """RFC 4469 section 4.1: with the URL, as far as it can stand there."""
    shown = bytes(octet for octet in url[:1000] if 0x20 < octet < 0x7F and octet not in b"]\\")
    return No("There is no such message or section", f"BADURL {shown.decode()}" if shown else "")


async def blocks(session: ImapSession, url: bytes) -> AsyncGenerator[bytes, None]:
    """What `url` stands for, on the wire, in blocks. Raises No with BADURL."""
    names = naming(session.settings)
    selected = session.view_
    base = None if selected is None else names.shown(selected.opened.name)
    try:
        wanted = parse(url, base)
    except ValueError:
        raise bad_url(url) from None
    opened: OpenMailbox
    own = True
    name = None if wanted.mailbox is None else names.stored(wanted.mailbox)
    if selected is not None and name in (None, selected.opened.name):
        opened, own = selected.opened, False
    else:
        if not name:
            raise bad_url(url)
        try:
            opened = await session.mailboxes.open(name, read_only=True)
        except MailError as error:
            if error.imap != "NONEXISTENT":
                raise
            raise bad_url(url) from error
    try:
        snapshot = opened.snapshot
        if wanted.validity not in (None, snapshot.validity) or snapshot.index(wanted.uid) < 0:
            raise bad_url(url)
        pace = Pace(session.world.turns)
        async with aclosing(_section(opened, wanted.uid, wanted.section, pace)) as section:
            async for block in section:
                yield block
                await pace.breathe()
    except _Missing:
        raise bad_url(url) from None
    finally:
        if own:
            await opened.close()


class _Missing(Exception):
    """The message, or that section of it, is not there."""


async def _section(
    opened: OpenMailbox, uid: int, item: BodySection, pace: Pace
) -> AsyncGenerator[bytes, None]:
    """Raises _Missing."""
    async for messages in opened.contents((uid,)):
        for message in messages:
            content = message.content
            if content is None:
                raise _Missing
            if isinstance(content, bytes):
                data = _small(content, item)
                for at in range(0, len(data), BLOCK):
                    yield data[at : at + BLOCK]
                continue
            try:
                async with aclosing(_large(opened, uid, content, item, pace)) as parts:
                    async for block in parts:
                        yield block
            finally:
                content.close()


def _small(content: bytes, item: BodySection) -> bytes:
    if item.part or item.fields:
        found = stored_range(scan(content), item.part, "HEADER" if item.fields else item.text)
        if found is None:
            raise _Missing
        start, end, _ = found
    elif item.text:
        body = body_start(content)
        start, end = (0, body) if item.text == "HEADER" else (body, len(content))
    else:
        start, end = 0, len(content)
    data = picker(item)(content[start:end]) if item.fields else wire(content, start, end)
    return _cut(data, item)


def _cut(data: bytes, item: BodySection) -> bytes:
    if item.partial is None:
        return data
    first, count = item.partial
    return data[first : first + count]


async def _large(
    opened: OpenMailbox, uid: int, content: LargeContent, item: BodySection, pace: Pace
) -> AsyncGenerator[bytes, None]:
    if not item.part and not item.text and item.partial is None:
        at = 0
        while block := await content.read(at, BLOCK):
            at += len(block)
            yield block
        return
    root = await _structure(opened, uid)
    where = (
        None
        if root is None
        else stored_range(root, item.part, "HEADER" if item.fields else item.text)
    )
    if where is None:
        raise _Missing
    start, end, size = where
    if item.fields:
        if end - start <= _MAX_HEADER:
            yield _cut(picker(item)(await bytes_of(content, start, end)), item)
        return
    first, count = item.partial or (0, size)
    first = min(first, size)
    count = min(count, size - first)
    async for block in octets(content, uid, where, first, count, Mark(), pace.breathe):
        yield block


async def _structure(opened: OpenMailbox, uid: int) -> Part | None:
    async for rows in opened.columns((uid,), ("structure",)):
        for row in rows:
            found = row[1]
            return from_bytes(found) if isinstance(found, bytes) else found
    return None
