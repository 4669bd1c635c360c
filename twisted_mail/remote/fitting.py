"""Making a message fit for a peer that knows less than its sender counted on.

8-bit content becomes 7-bit (RFC 6152 section 3) where the peer lacks 8BITMIME; SMTPUTF8 and REQUIRETLS are left out
where nothing needs them. What does not fit is refused by the SMTP client itself (`smtp.client.envelope`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from twisted.internet.defer import DeferredSemaphore

from ..content import BytesContent
from ..interfaces import Content
from ..message.wire import wire_size
from ..queue.interfaces import Job
from ..storage.queued import Options
from ..world import Threads

__all__ = ["CONVERSIONS", "CannotFit", "Fitted", "fit", "fits"]

CONVERSIONS: Final = 2
"""Messages converted at once: each is in memory, several times."""

_BLOCK: Final = 1 << 16
_MAX_HEADER: Final = 1 << 20


class CannotFit(Exception):
    """The peer can never take it. `code`, `enhanced`: what fits; the text is for people."""

    def __init__(self, text: str, code: int, enhanced: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.enhanced = enhanced


class Fitted(NamedTuple):
    """`wire`: octets with CRLF."""

    options: Options
    content: Content
    wire: int


def fits(options: Options, extensions: Mapping[str, str], *, lmtp: bool) -> bool:
    """Whether there is nothing to do."""
    return not (options.eight_bit or options.smtputf8 or options.requiretls) or (
        not (options.eight_bit and "8BITMIME" not in extensions)
        and not (options.smtputf8 and "SMTPUTF8" not in extensions)
        and not (lmtp and options.requiretls)
    )


async def fit(
    job: Job,
    extensions: Mapping[str, str],
    wire: int,
    threads: Threads,
    conversions: DeferredSemaphore,
    *,
    lmtp: bool,
) -> Fitted:
    """The message as the peer can take it. Raises CannotFit, and what `Job.open` raises."""
    options = job.message.options
    if lmtp and options.requiretls and "REQUIRETLS" not in extensions:
        # RFC 8689 is a matter of relays: behind LMTP is the mailbox.
        options = options._replace(requiretls=False)
    if (
        options.smtputf8
        and "SMTPUTF8" not in extensions
        and job.mail_from.isascii()
        and await _has_ascii_header(job)
    ):
        # RFC 6531 section 3.6: a server may send on without it what does not need it
        options = options._replace(smtputf8=False)
    if not options.eight_bit or "8BITMIME" in extensions:
        return Fitted(options, await job.open(), wire)
    if options.smtputf8 and "SMTPUTF8" not in extensions:
        # It will be refused for that.
        return Fitted(options, await job.open(), wire)
    from ..message.seven_bit import CannotConvert, convert

    def work(content: bytes) -> bytes:
        return b"".join(convert(content))

    await conversions.acquire()
    try:
        converted = await threads.call(work, await _whole(job))
    except CannotConvert as error:
        # RFC 3463 section 3.7: conversion required but not supported
        raise CannotFit(
            f"the server takes no 8-bit content, and the message cannot be converted: {error}",
            554,
            "5.6.3",
        ) from error
    finally:
        conversions.release()
    options = options._replace(eight_bit=False)
    return Fitted(options, BytesContent(converted), wire_size(converted))


async def _whole(job: Job) -> bytes:
    content = await job.open()
    try:
        blocks = []
        while block := await content.read(_BLOCK):
            blocks.append(block)
        return b"".join(blocks)
    finally:
        content.close()


async def _has_ascii_header(job: Job) -> bool:
    content = await job.open()
    try:
        header = b""
        while len(header) < _MAX_HEADER:
            block = await content.read(_BLOCK)
            # The end of the header may lie between two blocks.
            end = (header[-1:] + block).find(b"\n\n")
            if end >= 0:
                return (header + block[:end]).isascii()
            header += block
            if not block or not block.isascii():
                break
        return header.isascii() and len(header) < _MAX_HEADER
    finally:
        content.close()
