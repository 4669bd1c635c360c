"""An account that has nothing but an inbox (`interfaces.IAccount`): IMAP serves it, read-only.

The inbox is opened when it is selected, and, as for POP3, locked until it is closed. Nothing of it is kept, so each
session has a UIDVALIDITY of its own and UIDs from 1.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any, Final, NoReturn

from ..interfaces import IAccount, IMailbox
from ..mailboxes import (
    Appending,
    Filed,
    MailboxInfo,
    Message,
    OpenMailbox,
    Quota,
    Snapshot,
    Status,
    Stored,
    StoreMode,
    Writing,
)
from ..message.collation import fold
from ..message.digest import digest
from ..status import MailError
from .plain_search import header_contains, text_contains

__all__ = ["InboxOnly"]

BLOCK: Final = 65_536
MAX_MESSAGE: Final = 64 * 1024 * 1024
"""Octets of a message that is given: it is held in memory."""
MAILBOX_ID: Final = "INBOX"


class InboxOnly:
    """`mailboxes.Mailboxes` of such an account."""

    def __init__(self, account: IAccount, now: Callable[[], float]) -> None:
        self._account = account
        self._now = now

    async def list(self) -> Sequence[MailboxInfo]:
        return [MailboxInfo("INBOX", MAILBOX_ID, frozenset(), True, True)]

    async def open(self, name: str, *, read_only: bool = False) -> OpenInbox:
        _check(name)
        inbox = await self._account.open_inbox()
        return OpenInbox(inbox, int(self._now()))

    async def status(self, name: str) -> Status:
        opened = await self.open(name)
        try:
            now = opened.snapshot
            count, size = len(now), sum(now.sizes)
            return Status(
                count, count, 0, size, now.uidnext, now.validity, now.modseq, MAILBOX_ID, 0
            )
        finally:
            await opened.close()

    async def create(self, name: str, special_use: Collection[str] = ()) -> str:
        _refuse()

    async def delete(self, name: str) -> None:
        _refuse()

    async def rename(self, name: str, to: str) -> None:
        _refuse()

    async def subscribe(self, name: str, wanted: bool) -> None:
        _refuse()

    def write(self) -> Writing:
        _refuse()

    async def append(self, name: str, messages: Sequence[Appending]) -> Filed:
        _refuse()

    async def replace(self, opened: OpenMailbox, uid: int, name: str, message: Appending) -> Filed:
        _refuse()

    async def quota(self) -> Quota:
        return Quota(0, None, 0, None)

    async def metadata(self, name: str) -> dict[str, bytes]:
        if name:
            _check(name)
        return {}

    async def set_metadata(self, name: str, entries: dict[str, bytes | None]) -> None:
        _refuse()

    def watch(
        self, names: Collection[str] | None, changed: Callable[[str], None]
    ) -> Callable[[], None]:
        return lambda: None

    def watch_metadata(self, changed: Callable[[str, Collection[str]], None]) -> Callable[[], None]:
        return lambda: None

    def watch_end(self, ended: Callable[[], None]) -> Callable[[], None]:
        return lambda: None  # `IAccount` has nothing that tells

    async def close(self) -> None:
        pass


class OpenInbox:
    """The inbox, frozen (`mailboxes.OpenMailbox`)."""

    name = "INBOX"
    mailbox_id = MAILBOX_ID
    read_only = True

    def __init__(self, inbox: IMailbox, now: int) -> None:
        self._inbox = inbox
        count = len(inbox.messages)
        self.snapshot = Snapshot(
            validity=now & 0xFFFF_FFFF or 1,
            uidnext=count + 1,
            modseq=1,
            uids=array("I", range(1, count + 1)),
            flags=array("I", bytes(4 * count)),
            modseqs=array("Q", [1]) * count,
            sizes=array("Q", [info.size for info in inbox.messages]),
            dates=array("q", [now]) * count,
        )

    def listen(self, changed: Callable[[], None] | None) -> None:
        pass

    def refresh(self) -> Awaitable[None] | None:
        return None

    async def store(
        self,
        uids: Sequence[int],
        mode: StoreMode,
        flags: Sequence[str],
        unchanged_since: int | None = None,
    ) -> Stored:
        _refuse()

    async def expunge(self, uids: Sequence[int] | None = None) -> None:
        _refuse()

    async def copy(self, uids: Sequence[int], name: str) -> Filed:
        _refuse()

    async def move(self, uids: Sequence[int], name: str) -> Filed:
        _refuse()

    async def vanished(self, since: int) -> Sequence[int] | None:
        return ()

    async def contents(self, uids: Sequence[int]) -> AsyncIterator[Sequence[Message]]:
        for uid in uids:
            yield [Message(uid, await self._content(uid))]

    async def _content(self, uid: int) -> bytes | None:
        if not 0 < uid < self.snapshot.uidnext:
            return None
        content = await self._inbox.fetch(uid - 1)
        blocks: list[bytes] = []
        size = 0
        try:
            while block := await content.read(BLOCK):
                size += len(block)
                if size > MAX_MESSAGE:
                    raise MailError(552, "5.3.4", "The message is too large", imap="LIMIT")
                blocks.append(block)
        finally:
            content.close()
        return b"".join(blocks)

    async def columns(
        self, uids: Sequence[int], names: Sequence[str]
    ) -> AsyncIterator[Sequence[tuple[Any, ...]]]:
        for uid in uids:
            text = await self._content(uid)
            if text is None:
                continue
            made = None
            row: list[Any] = [uid]
            for name in names:
                if name in ("save_date", "threadid"):
                    row.append(None)
                elif name == "emailid":
                    row.append("E" + hashlib.sha256(text).hexdigest()[:24])
                else:
                    made = digest(text) if made is None else made
                    row.append(made.get(name))
            yield [tuple(row)]

    async def match_field(self, field: str, folded: str, uids: Sequence[int]) -> Sequence[int]:
        return [
            uid
            async for rows in self.columns(uids, [field])
            for uid, value in rows
            if fold(folded) in value
        ]

    async def match_text(self, text: str, uids: Sequence[int], *, body_only: bool) -> Sequence[int]:
        return await self._those(
            uids, lambda content: text_contains(content, text, body_only=body_only)
        )

    async def match_header(self, name: str, text: str, uids: Sequence[int]) -> Sequence[int]:
        return await self._those(uids, lambda content: header_contains(content, name, text))

    async def _those(self, uids: Sequence[int], wanted: Callable[[bytes], bool]) -> Sequence[int]:
        found = []
        for uid in uids:
            content = await self._content(uid)
            if content is not None and wanted(content):
                found.append(uid)
        return found

    async def close(self) -> None:
        await self._inbox.close()


def _check(name: str) -> None:
    if name != "INBOX":
        raise MailError(550, "5.1.1", "There is no such mailbox", imap="NONEXISTENT")


def _refuse() -> NoReturn:
    raise MailError(550, "5.7.1", "This account has an inbox that can only be read", imap="CANNOT")
