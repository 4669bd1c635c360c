"""APPEND and REPLACE: messages that clients bring (RFC 9051 section 6.3.12; RFC 3502, 3516, 4469, 6855, 8508).

The content goes to storage block by block, as it arrives, with LF line ends: memory does not grow with it. All
messages of a command or none are kept. What can be refused before the client sends a message is.

Octets that a file with LF line ends cannot hold are refused with UNKNOWN-CTE where the client said that it means
them, in a literal8 (RFC 3516); elsewhere NUL becomes 0x80, as IMAP has no NUL.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from ...connection.drive import to_the_end
from ...connection.interfaces import Answer
from ...mailboxes import Appending, Filed, Writing
from ...message.lines import LineNormalizer
from ...status import MailError
from ..capability import Capability
from ..catenate import blocks
from ..changing import filed_by
from ..encode import compact, continuation, ok
from ..events import (
    ACCEPT,
    AppendBegin,
    AppendEnd,
    AppendMessage,
    CatenateEnd,
    CatenateText,
    CatenateUrl,
    Content,
    ContentEnd,
    Event,
)
from ..naming import naming
from ..refusal import Bad, No
from ..state import LOGGED_IN, State
from .registry import StreamVerb

if TYPE_CHECKING:
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "MAX_MESSAGES", "STREAMS"]

MAX_MESSAGES: Final = 1000
"""Of one MULTIAPPEND: they are one record, and nobody else commits while it is filled …"""
MAX_SMALL: Final = 8 * 1024 * 1024
"""… and octets of those that storage may have in memory until the end: …"""
LARGE: Final = 262_144
"""… those of fewer octets than this."""
SMALL: Final = 32_768
"""Octets; for fewer nothing is looked up before they are sent: it would cost more than it saves."""
_NO_NUL: Final = bytes.maketrans(b"\0", b"\x80")


class _Append:
    """`verbs.registry.Stream`."""

    def __init__(self, session: ImapSession, begin: AppendBegin) -> None:
        self._session = session
        self._begin = begin
        self._name = ""
        self._uid = 0
        self._messages: list[Appending] = []
        self._size = self._small = 0
        """Octets of all messages before this one, and of those that are small."""
        self._writing: Writing | None = None
        self._lines = LineNormalizer()
        self._message = AppendMessage((), None, None, False, False, False, False)
        self._octets = 0
        self._exact = False

    async def take(self, event: Event) -> Answer:
        if isinstance(event, Content):
            await self._content(event.data)
        elif isinstance(event, ContentEnd):
            if self._message.catenate:
                self._check_exact()
            else:
                await self._end_of_message()
        elif isinstance(event, AppendBegin):
            self._begin_command(event)
        elif isinstance(event, AppendMessage):
            await self._begin_message(event)
            if event.synchronising:
                return Answer(continuation(b"Ready for the message"), expect=ACCEPT)
        elif isinstance(event, CatenateText):
            self._exact, self._lines.bare = event.binary, False
            self._check_size(event.size)
            if event.synchronising:
                await self._look_ahead(self._octets + event.size)
                return Answer(continuation(b"Ready for the text"), expect=ACCEPT)
        elif isinstance(event, CatenateUrl):
            await self._copy(event.url)
        elif isinstance(event, CatenateEnd):
            await self._end_of_message()
        elif isinstance(event, AppendEnd):
            return await self._end_of_command()
        return Answer(expect=ACCEPT)

    def discard(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.discard()
        messages, self._messages = self._messages, []
        for message in messages:
            message.content.discard()

    # The command

    def _begin_command(self, begin: AppendBegin) -> None:
        names = naming(self._session.settings)
        self._name = names.stored(begin.mailbox)
        if not self._name:
            raise No("There can be no mailbox of that name", "CANNOT")
        if begin.replaced is None:
            return
        view = self._session.view
        if view.read_only:
            raise No("The mailbox is open read-only", "READ-ONLY")
        uids = view.present(view.chosen(view.positions(begin.replaced, begin.uid)))
        if len(uids) != 1:
            raise No(
                "There is no such message to be replaced", "EXPUNGEISSUED" if not begin.uid else ""
            )
        self._uid = uids[0]

    async def _end_of_command(self) -> Answer:
        session, messages = self._session, self._messages
        if not messages:
            raise Bad("A message is missing")
        self._messages = []  # they are the store's now
        if not self._uid:
            filed = await to_the_end(session.mailboxes.append(self._name, messages))
            filed_by(session, self._name, filed)
            return session.ok(self._begin, code=_appended(filed))
        filed = await to_the_end(
            session.mailboxes.replace(session.opened, self._uid, self._name, messages[0])
        )
        filed_by(session, self._name, filed)
        # RFC 8508 section 4.3: before the EXPUNGE
        code = _appended(filed)
        said = ok(b"*", "Replacement message ready", code) if code else b""
        return session.ok(self._begin, data=said)

    # A message

    async def _begin_message(self, message: AppendMessage) -> None:
        if self._messages and self._uid:
            raise Bad("One message replaces another")  # RFC 8508 section 4.7
        if len(self._messages) >= MAX_MESSAGES or self._small > MAX_SMALL:
            # RFC 5530 section 3
            raise No("Too many messages in one command", "LIMIT")
        if self._messages and self._messages[-1].content.size >= LARGE:
            # It is in a file, which need not stay open
            await self._messages[-1].content.finish()
        self._message = message
        self._octets = 0
        self._exact = message.binary and not message.utf8
        self._lines = LineNormalizer()
        if message.size is not None:
            if not message.size:
                # RFC 3502 section 6.3.11: that is how a client calls it off
                raise No("A message without octets")
            self._check_size(message.size)
        if message.synchronising:
            await self._look_ahead(message.size or 0)
        self._writing = self._session.mailboxes.write()

    async def _look_ahead(self, size: int) -> None:
        """The client waits: what can be known now saves it the sending. `size`: of this message."""
        if size < SMALL:
            return
        session = self._session
        view = session.view_
        if not self._messages and (view is None or view.opened.name != self._name):
            try:
                await session.mailboxes.status(self._name)
            except MailError as error:
                if error.imap != "NONEXISTENT":
                    raise
                # RFC 9051 section 6.3.12
                raise No("There is no such mailbox; CREATE it first", "TRYCREATE") from error
        quota = await session.mailboxes.quota()
        limit = quota.storage_limit
        over = limit is not None and quota.storage + self._size + size > limit
        # RFC 8508 section 3.4: what is replaced makes room
        if over and self._uid:
            snapshot = session.opened.snapshot
            at = snapshot.index(self._uid)
            freed = snapshot.sizes[at] if at >= 0 else 0
            over = limit is not None and quota.storage + size - freed > limit
        most = quota.message_limit
        count = quota.messages + len(self._messages) + (not self._uid)
        if over or (most is not None and count > most):
            # RFC 9208 section 4.3.1
            raise No("The account is full", "OVERQUOTA")

    def _check_size(self, more: int) -> None:
        if self._octets + more > self._session.settings.max_message_bytes:
            # RFC 7889 section 4, RFC 4469 section 4.2
            raise No("The message is too large", "TOOBIG")

    async def _content(self, data: bytes) -> None:
        self._octets += len(data)
        if b"\0" in data:
            if self._exact:
                raise _unknown_cte()
            data = data.translate(_NO_NUL)
        await self._write(self._lines.feed(data))

    async def _copy(self, url: bytes) -> None:
        async with aclosing(blocks(self._session, url)) as found:
            async for block in found:
                self._check_size(len(block))
                self._octets += len(block)
                await self._write(self._lines.feed(block))

    async def _write(self, text: bytes) -> None:
        assert self._writing is not None, "a message has begun"
        if text:
            room = self._writing.write(text)
            if room is not None:
                await room

    async def _end_of_message(self) -> None:
        if not self._octets:
            raise No("A message without octets")
        await self._write(self._lines.finish())
        self._check_exact()
        assert self._writing is not None, "a message has begun"
        writing, self._writing = self._writing, None
        self._messages.append(Appending(writing, self._message.flags, self._message.date))
        self._size += writing.size
        if writing.size < LARGE:
            self._small += writing.size

    def _check_exact(self) -> None:
        """RFC 3516 section 4.4: a CR or LF that stands alone cannot be kept."""
        if self._exact and self._lines.bare:
            raise _unknown_cte()


def _unknown_cte() -> No:
    return No("Binary content cannot be stored: send it in BASE64", "UNKNOWN-CTE")


def _appended(filed: Filed) -> bytes:
    """RFC 4315 section 3; b"" when storage gives no UIDs."""
    uids: Sequence[int] = filed.uids
    return b"APPENDUID %d %s" % (filed.validity, compact(uids)) if uids else b""


def _append(session: ImapSession, begin: AppendBegin) -> _Append:
    return _Append(session, begin)


STREAMS: Final = (
    StreamVerb("APPEND", LOGGED_IN, _append),
    StreamVerb("REPLACE", State.SELECTED, _append),
)
CAPABILITIES: Final = (
    Capability(
        "MULTIAPPEND",
        "3502",
        note=f"at most {MAX_MESSAGES} messages, and 8 MiB of small ones: else `NO [LIMIT]`",
    ),
    Capability("CATENATE", "4469"),
    Capability("REPLACE", "8508"),
)
