"""An account whose mailboxes are in memory: `mailboxes.Mailboxes`, complete and naive.

For tests of IMAP, and for people whose realm needs an account that forgets. `MemoryAccount` provides
`interfaces.IMailboxAccount`; any number of sessions share it, and each change is told to all of them at once.

    account = MemoryAccount("alice@example.org", now=world.now)
    account.deliver(b"Subject: hello\\n\\nHello.\\n")
    account.box("INBOX").forget_vanished()
"""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from hashlib import sha256
from typing import Any, Final

from zope.interface import implementer

from ..address import Address
from ..content import BytesContent
from ..imap.plain_search import header_contains, text_contains
from ..interfaces import Content, IMailbox, IMailboxAccount, MessageInfo
from ..mailboxes import (
    DELETED,
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
)
from ..message.collation import fold
from ..message.digest import digest
from ..status import MailError
from .memory_box import MemoryBox, MemoryLarge, MemoryWriting

__all__ = ["MemoryAccount", "MemoryBox", "MemoryMailboxes", "MemoryWriting", "OpenMemoryBox"]

MAX_METADATA: Final = 100
MAX_METADATA_VALUE: Final = 65_536
_NOW: Final = 1_800_000_000.0
CHUNK: Final = 256 * 1024
"""Octets of messages that `contents` gives at once."""


@implementer(IMailbox)
class _Inbox:
    """The inbox for POP3."""

    def __init__(self, box: MemoryBox) -> None:
        self._box = box
        snapshot = box.snapshot
        self._uids = list(snapshot.uids)
        self.messages = [
            MessageInfo(f"{snapshot.validity}.{uid}", size)
            for uid, size in zip(snapshot.uids, snapshot.sizes, strict=True)
        ]

    async def fetch(self, index: int) -> Content:
        text = self._box.texts.get(self._uids[index])
        if text is None:
            raise MailError(451, "4.2.0", "The message is gone", pop3="SYS/TEMP")
        return BytesContent(text)

    async def remove(self, indexes: Sequence[int]) -> None:
        self._box.remove([self._uids[index] for index in indexes])

    async def close(self) -> None:
        pass


@implementer(IMailboxAccount)
class MemoryAccount:
    """What all sessions of one account share. `boxes`: by name, the inbox always there.

    `storage_limit` (octets) and `message_limit`: quota, None for none. `max_boxes`: CREATE of more is refused.
    `now`: seconds since 1970. `large`: messages of so many octets and more are given as `LargeContent`.
    """

    def __init__(
        self, name: str = "alice@example.org", now: Callable[[], float] = lambda: _NOW
    ) -> None:
        self.name = name
        self.now = now
        self.boxes: dict[str, MemoryBox] = {}
        self.subscribed: set[str] = set()
        self.entries: dict[str, dict[str, bytes]] = {}
        self.storage_limit: int | None = None
        self.message_limit: int | None = None
        self.max_boxes = 1000
        self.large = 1024 * 1024
        self.watchers: list[tuple[frozenset[str] | None, Callable[[str], None]]] = []
        self.annotating: list[tuple[object, Callable[[str, Collection[str]], None]]] = []
        self.endings: list[Callable[[], None]] = []
        self.sessions = 0
        """How many have opened the mailboxes and not closed them."""
        self.opened = 0
        """How many mailboxes are open."""
        self._validity = 3_857_529_044
        self.make("INBOX")

    async def open_mailboxes(self) -> MemoryMailboxes:
        self.sessions += 1
        return MemoryMailboxes(self)

    async def open_inbox(self) -> IMailbox:
        return _Inbox(self.boxes["INBOX"])

    def may_send_as(self, address: Address) -> bool:
        return True

    # For tests

    def deliver(
        self,
        text: bytes,
        name: str = "INBOX",
        flags: Sequence[str] = (),
        date: int | None = None,
    ) -> int:
        """A message arrives; its UID."""
        now = int(self.now())
        return self.box(name).add([(text, flags, now if date is None else date)], now)[0]

    def make(self, name: str, special_use: Collection[str] = ()) -> MemoryBox:
        """A new mailbox, whatever there was."""
        self._validity += 1
        self.boxes[name] = box = MemoryBox(name, self._validity, special_use)
        box.listeners.append(lambda: self.tell(box.name))
        self.tell("")
        return box

    def box(self, name: str, missing: str = "NONEXISTENT") -> MemoryBox:
        """Raises MailError with `missing` as its response code."""
        box = self.boxes.get(name)
        if box is None:
            raise MailError(550, "5.1.1", "There is no such mailbox", imap=missing)
        return box

    def end(self) -> None:
        """The account is no more; who has it open is told."""
        endings, self.endings = self.endings, []
        for ended in endings:
            ended()

    def tell(self, name: str) -> None:
        """Tell who watches that `name` has changed ("": which mailboxes there are)."""
        for names, changed in tuple(self.watchers):
            if names is None or not name or name in names:
                changed(name)

    def usage(self) -> tuple[int, int]:
        """Octets and messages."""
        boxes = self.boxes.values()
        return sum(len(t) for b in boxes for t in b.texts.values()), sum(
            len(b.texts) for b in boxes
        )

    def check_room(self, texts: Sequence[bytes]) -> None:
        """Raises MailError when the quota does not allow these as well."""
        octets, messages = self.usage()
        octets += sum(map(len, texts))
        if (self.storage_limit is not None and octets > self.storage_limit) or (
            self.message_limit is not None and messages + len(texts) > self.message_limit
        ):
            raise MailError(452, "4.2.2", "The mailbox is full", imap="OVERQUOTA")


class OpenMemoryBox:
    """`mailboxes.OpenMailbox`."""

    def __init__(self, account: MemoryAccount, box: MemoryBox, read_only: bool) -> None:
        self.name = box.name
        self.mailbox_id = box.mailbox_id
        self.read_only = read_only
        self.box = box
        self._account = account
        self._heard: Callable[[], None] | None = None
        account.opened += 1

    @property
    def snapshot(self) -> Snapshot:
        return self.box.snapshot

    def listen(self, changed: Callable[[], None] | None) -> None:
        if self._heard is not None:
            self.box.listeners.remove(self._heard)
        self._heard = changed
        if changed is not None:
            self.box.listeners.append(changed)

    def refresh(self) -> None:
        return None

    async def store(
        self,
        uids: Sequence[int],
        mode: StoreMode,
        flags: Sequence[str],
        unchanged_since: int | None = None,
    ) -> Stored:
        return self.box.store(uids, mode, flags, unchanged_since)

    async def expunge(self, uids: Sequence[int] | None = None) -> None:
        now = self.box.snapshot
        wanted = None if uids is None else frozenset(uids)
        self.box.remove(
            [
                uid
                for uid, bits in zip(now.uids, now.flags, strict=True)
                if bits & DELETED and (wanted is None or uid in wanted)
            ]
        )

    async def copy(self, uids: Sequence[int], name: str) -> Filed:
        target = self._account.box(name, "TRYCREATE")
        found = [uid for uid in uids if uid in self.box.texts]
        self._account.check_room([self.box.texts[uid] for uid in found])
        return self._file(found, target)

    async def move(self, uids: Sequence[int], name: str) -> Filed:
        target = self._account.box(name, "TRYCREATE")
        filed = self._file([uid for uid in uids if uid in self.box.texts], target)
        self.box.remove(filed.sources)
        return filed

    def _file(self, uids: Sequence[int], target: MemoryBox) -> Filed:
        now = self.box.snapshot
        messages = []
        for uid in uids:
            at = now.index(uid)
            flags = now.names(now.flags[at])
            messages.append((self.box.texts[uid], flags, now.dates[at]))
        made = target.add(messages, int(self._account.now())) if messages else []
        return Filed(target.snapshot.validity, made, list(uids))

    async def vanished(self, since: int) -> Sequence[int] | None:
        return self.box.vanished(since)

    async def contents(self, uids: Sequence[int]) -> AsyncIterator[Sequence[Message]]:
        chunk: list[Message] = []
        size = 0
        for uid in uids:
            text = self.box.texts.get(uid)
            content: Any = text
            if text is not None and len(text) >= self._account.large:
                content = MemoryLarge(text)
            elif text is not None:
                size += len(text)
            chunk.append(Message(uid, content))
            if size >= CHUNK or content is not text:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk

    async def columns(
        self, uids: Sequence[int], names: Sequence[str]
    ) -> AsyncIterator[Sequence[tuple[Any, ...]]]:
        for start in range(0, len(uids), 500):
            yield [
                (uid, *(self._column(uid, name) for name in names))
                for uid in uids[start : start + 500]
                if uid in self.box.texts
            ]

    def _column(self, uid: int, name: str) -> Any:
        text = self.box.texts[uid]
        if name == "save_date":
            return self.box.save_dates[uid]
        if name == "emailid":
            return "E" + sha256(text).hexdigest()[:24]
        if name == "threadid":
            return None
        return digest(text).get(name)

    async def match_field(self, field: str, folded: str, uids: Sequence[int]) -> Sequence[int]:
        wanted = fold(folded)
        return [uid for uid in self._there(uids) if wanted in self._column(uid, field)]

    async def match_text(self, text: str, uids: Sequence[int], *, body_only: bool) -> Sequence[int]:
        return [
            uid
            for uid in self._there(uids)
            if text_contains(self.box.texts[uid], text, body_only=body_only)
        ]

    async def match_header(self, name: str, text: str, uids: Sequence[int]) -> Sequence[int]:
        return [
            uid for uid in self._there(uids) if header_contains(self.box.texts[uid], name, text)
        ]

    def _there(self, uids: Sequence[int]) -> list[int]:
        return [uid for uid in uids if uid in self.box.texts]

    async def close(self) -> None:
        self.listen(None)
        self._account.opened -= 1


class MemoryMailboxes:
    """`mailboxes.Mailboxes`, for one session."""

    def __init__(self, account: MemoryAccount) -> None:
        self.account = account
        self._watching: list[tuple[frozenset[str] | None, Callable[[str], None]]] = []

    async def list(self) -> Sequence[MailboxInfo]:
        account = self.account
        names = set(account.boxes)
        for name in account.boxes:
            while "/" in name:
                name = name.rpartition("/")[0]
                names.add(name)
        names |= account.subscribed
        infos = []
        for name in sorted(names, key=lambda name: (name != "INBOX", name)):
            box = account.boxes.get(name)
            infos.append(
                MailboxInfo(
                    name,
                    "" if box is None else box.mailbox_id,
                    frozenset() if box is None else box.special_use,
                    name in account.subscribed,
                    box is not None,
                )
            )
        return infos

    async def create(self, name: str, special_use: Collection[str] = ()) -> str:
        account = self.account
        if name in account.boxes:
            raise MailError(550, "5.1.1", "It is there already", imap="ALREADYEXISTS")
        if not all(name.split("/")) or unicodedata.normalize("NFC", name) != name:
            raise MailError(553, "5.1.3", "No mailbox can have that name", imap="CANNOT")
        if len(account.boxes) >= account.max_boxes:
            raise MailError(552, "5.2.2", "Too many mailboxes", imap="LIMIT")
        taken = {use for box in account.boxes.values() for use in box.special_use}
        if taken.intersection(special_use):
            raise MailError(550, "5.1.1", "Another mailbox has that use", imap="USEATTR")
        return account.make(name, special_use).mailbox_id

    async def delete(self, name: str) -> None:
        box = self.account.box(name)
        if name == "INBOX":
            raise MailError(550, "5.2.0", "The inbox cannot be deleted", imap="CANNOT")
        del self.account.boxes[name]
        self.account.entries.pop(name, None)
        box.remove(tuple(box.texts))
        self.account.tell("")

    async def rename(self, name: str, to: str) -> None:
        account = self.account
        below = [other for other in account.boxes if other.startswith(f"{name}/")]
        if not (name == "INBOX" or below):
            account.box(name)
        if to in account.boxes:
            raise MailError(550, "5.1.1", "It is there already", imap="ALREADYEXISTS")
        if name == "INBOX":
            # RFC 9051 section 6.3.6: its messages move, it stays
            inbox = OpenMemoryBox(account, account.boxes[name], False)
            account.make(to)
            await inbox.move(list(inbox.snapshot.uids), to)
            await inbox.close()
            return
        if to.startswith(f"{name}/"):
            raise MailError(553, "5.1.3", "A mailbox cannot go below itself", imap="CANNOT")
        for old in [name, *below]:
            new = to + old[len(name) :]
            if old in account.boxes:
                box = account.boxes.pop(old)
                box.name = new
                account.boxes[new] = box
            if old in account.entries:
                account.entries[new] = account.entries.pop(old)
        account.tell("")

    async def subscribe(self, name: str, wanted: bool) -> None:
        if wanted:
            self.account.subscribed.add(name)
        else:
            self.account.subscribed.discard(name)
        self.account.tell("")

    async def status(self, name: str) -> Status:
        return self.account.box(name).status()

    async def open(self, name: str, *, read_only: bool = False) -> OpenMemoryBox:
        return OpenMemoryBox(self.account, self.account.box(name), read_only)

    def write(self) -> MemoryWriting:
        return MemoryWriting()

    async def append(self, name: str, messages: Sequence[Appending]) -> Filed:
        box = self.account.box(name, "TRYCREATE")
        texts = [one.content.text for one in messages]
        self.account.check_room(texts)
        now = int(self.account.now())
        uids = box.add(
            [
                (text, one.flags, now if one.date is None else one.date)
                for text, one in zip(texts, messages, strict=True)
            ],
            now,
        )
        return Filed(box.snapshot.validity, uids)

    async def replace(self, opened: OpenMailbox, uid: int, name: str, message: Appending) -> Filed:
        assert isinstance(opened, OpenMemoryBox)
        filed = await self.append(name, [message])
        opened.box.remove([uid])
        return filed

    async def quota(self) -> Quota:
        octets, messages = self.account.usage()
        return Quota(octets, self.account.storage_limit, messages, self.account.message_limit)

    async def metadata(self, name: str) -> dict[str, bytes]:
        if name:
            self.account.box(name)
        return dict(self.account.entries.get(name, {}))

    async def set_metadata(self, name: str, entries: dict[str, bytes | None]) -> None:
        kept = await self.metadata(name)
        for entry, value in entries.items():
            if value is None:
                kept.pop(entry, None)
            elif len(value) > MAX_METADATA_VALUE:
                code = f"METADATA MAXSIZE {MAX_METADATA_VALUE}"
                raise MailError(552, "5.3.4", "The value is too long", imap=code)
            else:
                kept[entry] = value
        if len(kept) > MAX_METADATA:
            raise MailError(552, "5.3.4", "Too many entries", imap="METADATA TOOMANY")
        self.account.entries[name] = kept
        for who, changed in tuple(self.account.annotating):
            if who is not self:
                changed(name, tuple(entries))

    def watch_metadata(self, changed: Callable[[str, Collection[str]], None]) -> Callable[[], None]:
        watching = (self, changed)
        self.account.annotating.append(watching)

        def end() -> None:
            if watching in self.account.annotating:
                self.account.annotating.remove(watching)

        return end

    def watch_end(self, ended: Callable[[], None]) -> Callable[[], None]:
        self.account.endings.append(ended)

        def end() -> None:
            if ended in self.account.endings:
                self.account.endings.remove(ended)

        return end

    def watch(
        self, names: Collection[str] | None, changed: Callable[[str], None]
    ) -> Callable[[], None]:
        watching = (None if names is None else frozenset(names), changed)
        self.account.watchers.append(watching)

        def end() -> None:
            if watching in self.account.watchers:
                self.account.watchers.remove(watching)

        return end

    async def close(self) -> None:
        self.account.sessions -= 1
