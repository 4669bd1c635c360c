"""One mailbox in memory, and messages on their way into and out of it; `mailboxes` makes an account of such."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator, Sequence

from ..mailboxes import (
    DELETED,
    MAX_KEYWORDS,
    SEEN,
    SYSTEM_FLAGS,
    Added,
    Snapshot,
    Status,
    Stored,
    StoreMode,
)
from ..message.wire import wire_size
from ..status import MailError

__all__ = ["MemoryBox", "MemoryLarge", "MemoryWriting"]


class MemoryBox:
    """One mailbox: its newest `snapshot`, and what its messages hold, by UID. `listeners` hear of each change."""

    def __init__(self, name: str, validity: int, special_use: Collection[str] = ()) -> None:
        self.name = name
        self.mailbox_id = f"M{validity}"
        self.special_use = frozenset(special_use)
        self.snapshot = Snapshot(validity=validity, uidnext=1, modseq=1)
        self.texts: dict[int, bytes] = {}
        self.save_dates: dict[int, int] = {}
        self.listeners: list[Callable[[], None]] = []
        self._vanished: list[tuple[int, int]] = []
        self._vanished_floor = 0

    def add(self, messages: Sequence[tuple[bytes, Sequence[str], int]], now: int) -> list[int]:
        """(text with LF, flags, internal date) each; their UIDs."""
        old = self.snapshot
        modseq = old.modseq + 1
        keywords = self._with_keywords(flag for _, flags, _ in messages for flag in flags)
        view = old if keywords is old.keywords else old.after(modseq=modseq, keywords=keywords)
        added = [
            Added(old.uidnext + n, view.bits(flags), modseq, wire_size(text), date)
            for n, (text, flags, date) in enumerate(messages)
        ]
        for one, (text, _, _) in zip(added, messages, strict=True):
            self.texts[one.uid] = text
            self.save_dates[one.uid] = now
        self.publish(old.after(modseq=modseq, added=added, keywords=keywords))
        return [one.uid for one in added]

    def store(
        self,
        uids: Sequence[int],
        mode: StoreMode,
        flags: Sequence[str],
        unchanged_since: int | None = None,
    ) -> Stored:
        """As `OpenMailbox.store`."""
        old = self.snapshot
        modseq = old.modseq + 1
        wanted = () if mode is StoreMode.REMOVE else flags
        keywords = self._with_keywords(iter(wanted))
        view = old if keywords is old.keywords else old.after(modseq=modseq, keywords=keywords)
        bits = view.bits(flags)
        changed, failed = [], []
        for uid in uids:
            at = old.index(uid)
            if at < 0:
                continue
            if unchanged_since is not None and old.modseqs[at] > unchanged_since:
                failed.append(uid)
                continue
            before = old.flags[at]
            after = before | bits if mode is StoreMode.ADD else bits
            if mode is StoreMode.REMOVE:
                after = before & ~bits
            if after != before:
                changed.append((uid, after, modseq))
        if not changed:
            return Stored(old.modseq, failed)
        self.publish(old.after(modseq=modseq, changed=changed, keywords=keywords))
        return Stored(modseq, failed)

    def remove(self, uids: Collection[int]) -> None:
        """Expunge those of `uids` that are there."""
        gone = [uid for uid in sorted(set(uids)) if uid in self.texts]
        if not gone:
            return
        modseq = self.snapshot.modseq + 1
        for uid in gone:
            del self.texts[uid], self.save_dates[uid]
            self._vanished.append((modseq, uid))
        self.publish(self.snapshot.after(modseq=modseq, expunged=gone))

    def vanished(self, since: int) -> Sequence[int] | None:
        """As `OpenMailbox.vanished`."""
        if since < self._vanished_floor:
            return None
        return sorted(uid for modseq, uid in self._vanished if modseq > since)

    def forget_vanished(self) -> None:
        """Nothing is known any more of what was expunged up to now."""
        self._vanished.clear()
        self._vanished_floor = self.snapshot.modseq

    def forget_log(self) -> None:
        """The snapshot is read anew, without its log, as after a restart."""
        old = self.snapshot
        self.publish(
            Snapshot(
                validity=old.validity,
                uidnext=old.uidnext,
                modseq=old.modseq,
                uids=array("I", old.uids),
                flags=old.flags,
                modseqs=old.modseqs,
                sizes=old.sizes,
                dates=old.dates,
                keywords=old.keywords,
            )
        )

    def publish(self, snapshot: Snapshot) -> None:
        """This is the mailbox now."""
        self.snapshot = snapshot
        for changed in tuple(self.listeners):
            changed()

    def status(self) -> Status:
        now = self.snapshot
        deleted = [n for n, bits in enumerate(now.flags) if bits & DELETED]
        return Status(
            messages=len(now),
            unseen=sum(1 for bits in now.flags if not bits & SEEN),
            deleted=len(deleted),
            size=sum(now.sizes),
            uidnext=now.uidnext,
            validity=now.validity,
            modseq=now.modseq,
            mailbox_id=self.mailbox_id,
            deleted_size=sum(now.sizes[n] for n in deleted),
        )

    def _with_keywords(self, flags: Iterator[str]) -> tuple[str, ...]:
        """The mailbox's keywords, and those of `flags` that are new. Raises MailError."""
        keywords = self.snapshot.keywords
        known = {name.lower() for name in (*SYSTEM_FLAGS, *keywords)}
        for flag in flags:
            if flag.lower() not in known:
                if len(keywords) >= MAX_KEYWORDS:
                    raise MailError(552, "5.3.4", "Too many keywords in this mailbox", imap="LIMIT")
                known.add(flag.lower())
                keywords = (*keywords, flag)
        return keywords


class MemoryWriting:
    """`mailboxes.Writing`: all in memory."""

    def __init__(self) -> None:
        self.size = 0
        self.blocks: list[bytes] = []

    def write(self, block: bytes) -> None:
        self.size += len(block)
        self.blocks.append(block)

    async def finish(self) -> None:
        """Nothing is open."""

    def discard(self) -> None:
        self.blocks.clear()

    @property
    def text(self) -> bytes:
        return b"".join(self.blocks)


class MemoryLarge:
    """`mailboxes.LargeContent`."""

    def __init__(self, text: bytes) -> None:
        self.size = len(text)
        self._text = text
        self.closed = False

    async def read(self, offset: int, size: int) -> bytes:
        assert not self.closed, "read after close"
        return self._text[offset : offset + size]

    def close(self) -> None:
        self.closed = True
