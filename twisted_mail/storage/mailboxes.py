"""Mailboxes as a session has them: `twisted_mail.mailboxes.Mailboxes` and `OpenMailbox` over an account's store.

What is decided here is small: which work goes to a thread, what goes through the journal (`Filing`), and in which
slices, so that neither a lock nor the interpreter is held long. Everybody's snapshots are in `storage.open_folder`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from ..mailboxes import (
    DELETED,
    Appending,
    Filed,
    Mailboxes,
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
from ..status import MailError
from ..world import World, call_or_drop
from .contents import close_all, read_messages
from .errors import refusal
from .folders import Box, nonexistent
from .open_folder import OpenFolder
from .opened import OpenAccount
from .statuses import Statuses

__all__ = ["AccountMailboxes", "Filing", "Selected"]

SLICE = 1000
"""Messages whose flags are changed while the account is locked: deliveries wait meanwhile."""
MANY = 32
"""Messages that are changed together: nobody need hear of each."""
MAX_ENTRIES = 1000
"""Annotations of a mailbox."""


class Filing(Protocol):
    """What goes through the journal; `store.MailStore` is it. Accounts by key, folders by id, messages by base name."""

    def draft(self) -> Writing: ...
    async def append(self, key: str, folder: str, messages: Sequence[Appending]) -> Filed: ...
    async def copy(self, key: str, source: str, bases: Sequence[str], target: str) -> Filed: ...
    async def move(self, key: str, source: str, bases: Sequence[str], target: str) -> Filed: ...
    async def replace(
        self, key: str, source: str, base: str, target: str, message: Appending
    ) -> Filed: ...
    async def expunge(self, key: str, folder: str, bases: Sequence[str]) -> None: ...
    async def remove_folder(self, key: str, folder: str) -> None: ...


class Selected:
    """An `OpenMailbox`."""

    def __init__(
        self,
        world: World,
        account: OpenAccount,
        folder: OpenFolder,
        filing: Filing,
        *,
        read_only: bool,
    ) -> None:
        self._world = world
        self._account = account
        self._folder = folder
        self._filing = filing
        self._open = True
        self.read_only = read_only

    @property
    def name(self) -> str:
        return self._folder.box.name

    @property
    def mailbox_id(self) -> str:
        return self._folder.box.folder

    @property
    def snapshot(self) -> Snapshot:
        snapshot = self._folder.snapshot
        assert snapshot is not None, "a mailbox is open when its snapshot is there"
        return snapshot

    def listen(self, changed: Callable[[], None] | None) -> None:
        if changed is None:
            self._folder.listeners.pop(self, None)
        else:
            self._folder.listeners[self] = changed
            self._folder.listened()

    def refresh(self) -> Awaitable[None] | None:
        self._world.watcher.hasten()
        return self._folder.look() if self._folder.stale else None

    async def store(
        self,
        uids: Sequence[int],
        mode: StoreMode,
        flags: Sequence[str],
        unchanged_since: int | None = None,
    ) -> Stored:
        modseq, failed = self.snapshot.modseq, list[int]()
        for start in range(0, len(uids), SLICE):
            self._hold(len(uids) - start)
            modseq, late = await self._call(
                self._account.store.store,
                self.mailbox_id,
                uids[start : start + SLICE],
                mode,
                flags,
                unchanged_since,
            )
            failed += late
        return Stored(modseq, failed)

    async def expunge(self, uids: Sequence[int] | None = None) -> None:
        snapshot = self.snapshot
        wanted = None if uids is None else frozenset(uids)
        chosen = [
            uid
            for uid, bits in zip(snapshot.uids, snapshot.flags, strict=True)
            if bits & DELETED and (wanted is None or uid in wanted)
        ]
        bases = [row.base for row in await self._rows(chosen) if row.flags & DELETED]
        if bases:
            self._hold(len(bases))
            await self._filing.expunge(self._account.key, self.mailbox_id, bases)

    async def copy(self, uids: Sequence[int], name: str) -> Filed:
        target = await self._target(name)
        bases = [row.base for row in await self._rows(uids)]
        if not bases:
            return Filed(0, ())
        self._hold(len(bases))
        return await self._filing.copy(self._account.key, self.mailbox_id, bases, target)

    async def move(self, uids: Sequence[int], name: str) -> Filed:
        target = await self._target(name)
        rows = await self._rows(uids)
        bases = [row.base for row in rows]
        if not bases:
            return Filed(0, ())
        if target == self.mailbox_id:
            # RFC 6851 section 3.3: as a copy here, and an expunge
            filed = await self._filing.copy(self._account.key, target, bases, target)
            made = frozenset(filed.sources)
            bases = [row.base for row in rows if row.uid in made]
            await self._filing.expunge(self._account.key, target, bases)
            return filed
        key, source = self._account.key, self.mailbox_id
        taken = await self._call(self._account.store.filler.taken, target, bases)
        if not taken:
            self._hold(len(bases))
            return await self._filing.move(key, source, bases, target)
        # Somebody has copied files from one to the other. A base is one message of a folder: these get another one.
        again = await self._filing.copy(key, source, taken, target)
        # What could not be copied stays.
        copied = frozenset(again.sources)
        there = [row.base for row in rows if row.uid in copied]
        await self._filing.expunge(key, source, there)
        rest = [base for base in bases if base not in frozenset(taken)]
        moved = await self._filing.move(key, source, rest, target) if rest else Filed(0, ())
        pairs = [
            pair
            for done in (again, moved)
            if done.validity  # else the UIDs are not known yet
            for pair in zip(done.sources, done.uids, strict=True)
        ]
        return Filed(
            again.validity or moved.validity,
            [uid for _, uid in sorted(pairs)],
            [uid for uid, _ in sorted(pairs)],
        )

    async def vanished(self, since: int) -> Sequence[int] | None:
        found: list[int] | None = await self._call(
            self._account.store.vanished, self.mailbox_id, since
        )
        return found

    async def contents(self, uids: Sequence[int]) -> AsyncIterator[Sequence[Message]]:
        at = 0
        while at < len(uids):
            rest = uids[at : at + 1000]
            found = await call_or_drop(
                self._world.threads,
                close_all,
                read_messages,
                self._world,
                self._account.store,
                self.mailbox_id,
                rest,
            )
            at += len(found)
            yield found

    async def columns(
        self, uids: Sequence[int], names: Sequence[str]
    ) -> AsyncIterator[Sequence[tuple[Any, ...]]]:
        digests = self._account.digests
        at = 0
        while at < len(uids):
            taken, rows = await self._call(digests.columns, self.mailbox_id, uids, at, names)
            at += taken
            yield rows

    async def match_field(self, field: str, folded: str, uids: Sequence[int]) -> Sequence[int]:
        digests = self._account.digests
        at = 0
        while at < len(uids):
            # What has never been looked at is, a slice at a time.
            at += await self._call(digests.complete, self.mailbox_id, uids, at)
        found: Sequence[int] = await self._call(digests.match, self.mailbox_id, field, folded, uids)
        return found

    async def match_text(self, text: str, uids: Sequence[int], *, body_only: bool) -> Sequence[int]:
        return await self._account.search.text(self.mailbox_id, text, uids, body_only=body_only)

    async def match_header(self, name: str, text: str, uids: Sequence[int]) -> Sequence[int]:
        return await self._account.search.header(self.mailbox_id, name, text, uids)

    async def close(self) -> None:
        if self._open:
            self._open = False
            self.listen(None)
            self._folder.leave()

    def _hold(self, count: int) -> None:
        if count >= MANY:
            self._world.watcher.hold()

    async def _target(self, name: str) -> str:
        found = (await self._account.boxes()).get(name)
        if found is None:
            raise try_create(name)
        return found.folder

    async def _rows(self, uids: Sequence[int]) -> list[Any]:
        if not uids:
            return []
        _, rows = await self._call(self._account.store.found, self.mailbox_id, uids)
        return list(rows)

    async def _call(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await called(self._world, work, *args, **kwargs)


class AccountMailboxes:
    """A `Mailboxes`. `limits`: octets and messages that the account may have."""

    def __init__(
        self,
        world: World,
        account: OpenAccount,
        filing: Filing,
        limits: Callable[[], tuple[int | None, int | None]],
        statuses: Statuses,
        ended: Callable[[], None],
    ) -> None:
        self._world = world
        self._account = account
        self._filing = filing
        self._limits = limits
        self._statuses = statuses
        self._ended: Callable[[], None] | None = ended
        self._watching: list[Callable[[], None]] = []

    async def list(self) -> Sequence[MailboxInfo]:
        boxes = await self._account.boxes()
        subscribed = dict.fromkeys(await self._call(self._account.store.folders.subscriptions))
        found = [
            MailboxInfo(box.name, box.folder, frozenset(box.special_use), name in subscribed, True)
            for name, box in boxes.items()
        ]
        return found + [
            MailboxInfo(name, "", frozenset(), True, False)
            for name in sorted(subscribed)
            if name not in boxes
        ]

    async def create(self, name: str, special_use: Collection[str] = ()) -> str:
        try:
            made: str = await self._call(
                self._account.store.folders.create, name, tuple(special_use)
            )
        finally:
            self._account.listed()
        return made

    async def delete(self, name: str) -> None:
        box = await self._account.box(name)
        if name == "INBOX":
            raise MailError(550, "5.2.0", "INBOX cannot be deleted", imap="CANNOT")
        try:
            await self._filing.remove_folder(self._account.key, box.folder)
        finally:
            self._account.listed()

    async def rename(self, name: str, to: str) -> None:
        folders = self._account.store.folders
        try:
            if name != "INBOX":
                await self._call(folders.rename, name, to)
                return
            # RFC 9051 section 6.3.6: the messages of the inbox move, and it stays, with what is below it
            target = await self._call(folders.create, to)
            inbox = await self._account.box(name)
            await self._account.refresh(inbox)
            rows = await self._call(self._account.store.rows, inbox.folder)
            if rows:
                await self._filing.move(
                    self._account.key, inbox.folder, [row[1] for row in rows], target
                )
        finally:
            self._account.listed()

    async def subscribe(self, name: str, wanted: bool) -> None:
        await self._call(self._account.store.folders.subscribe, name, wanted)
        self._account.listed()

    async def status(self, name: str) -> Status:
        account = self._account
        box = await account.box(name)
        found = self._statuses.get(account.key, box)
        if found is not None:
            return found
        # What is found out while the mailbox changes may be true for this moment only.
        before = self._statuses.before(box)
        if account.knows(box):
            await account.refresh(box)
            if before is not None:
                found = await self._call(account.store.settled_status, box.folder)
            if found is None:
                # As far as the watch has told: what it tells later does not change the directories any more.
                before = None
        else:
            # Many mailboxes are asked for at once, and mostly one look says it all.
            gone, found = await self._call(account.store.refreshed_status, box.folder)
            if gone:
                await account.forget(account.key, box.folder, gone)
                await account.refresh(box)
        if found is None:
            found = await self._call(account.store.status, box.folder)
            assert found is not None
        return self._statuses.keep(account.key, box, before, found)

    async def open(self, name: str, *, read_only: bool = False) -> OpenMailbox:
        try:
            folder = await self._account.folder(name)
        except MailError:
            raise
        except Exception as error:
            raise refusal(error) from error
        return Selected(self._world, self._account, folder, self._filing, read_only=read_only)

    def write(self) -> Writing:
        return self._filing.draft()

    async def append(self, name: str, messages: Sequence[Appending]) -> Filed:
        try:
            box = await self._into(name)
        except BaseException:
            for message in messages:
                message.content.discard()
            raise
        return await self._filing.append(self._account.key, box.folder, messages)

    async def replace(self, opened: OpenMailbox, uid: int, name: str, message: Appending) -> Filed:
        try:
            box = await self._into(name)
            _, rows = await self._call(self._account.store.found, opened.mailbox_id, [uid])
            if not rows:
                raise gone()
        except BaseException:
            message.content.discard()
            raise
        return await self._filing.replace(
            self._account.key, opened.mailbox_id, rows[0].base, box.folder, message
        )

    async def _into(self, name: str) -> Box:
        """A mailbox that messages are put into. Raises MailError imap="TRYCREATE"."""
        box = (await self._account.boxes()).get(name)
        if box is None:
            raise try_create(name)
        return box

    async def quota(self) -> Quota:
        octets, messages = await self._call(self._account.store.usage)
        octets_limit, message_limit = self._limits()
        return Quota(octets, octets_limit, messages, message_limit)

    async def metadata(self, name: str) -> dict[str, bytes]:
        folder = (await self._account.box(name)).folder if name else None
        found: dict[str, bytes] = await self._call(self._account.store.folders.metadata, folder)
        return found

    async def set_metadata(self, name: str, entries: dict[str, bytes | None]) -> None:
        folder = (await self._account.box(name)).folder if name else None
        await self._call(self._account.store.folders.set_metadata, folder, entries, MAX_ENTRIES)
        for who, changed in tuple(self._account.annotating.values()):
            if who is not self:
                changed(name, tuple(entries))

    def watch(
        self, names: Collection[str] | None, changed: Callable[[str], None]
    ) -> Callable[[], None]:
        wanted = None if names is None else frozenset(names)
        me = object()

        def happened(name: str) -> None:
            if not name or wanted is None or name in wanted:
                changed(name)

        def end() -> None:
            self._account.watchers.pop(me, None)

        self._account.watchers[me] = happened
        self._watching.append(end)
        return end

    def watch_metadata(self, changed: Callable[[str, Collection[str]], None]) -> Callable[[], None]:
        me = object()

        def end() -> None:
            self._account.annotating.pop(me, None)

        self._account.annotating[me] = (self, changed)
        self._watching.append(end)
        return end

    def watch_end(self, ended: Callable[[], None]) -> Callable[[], None]:
        me = object()

        def end() -> None:
            self._account.endings.pop(me, None)

        self._account.endings[me] = ended
        self._watching.append(end)
        return end

    async def close(self) -> None:
        for end in self._watching:
            end()
        self._watching = []
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    async def _call(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await called(self._world, work, *args, **kwargs)


async def called(world: World, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result of `work` in a thread, which goes on when the caller is cancelled. Raises MailError."""
    outcome: Deferred[Any] = Deferred()
    world.threads.call(work, *args, **kwargs).addBoth(_unless_cancelled, outcome)
    try:
        return await outcome
    except MailError:
        raise
    except Exception as error:
        raise refusal(error) from error


def _unless_cancelled(result: Any, outcome: Deferred[Any]) -> None:
    if not outcome.called:
        outcome.callback(result)


def try_create(name: str) -> MailError:
    """RFC 9051 section 7.1: it might be made."""
    error = nonexistent(name)
    return MailError(error.code, error.enhanced, error.text, imap="TRYCREATE")


def gone() -> MailError:
    """RFC 5530 section 3: a message that another session has expunged."""
    return MailError(550, "5.7.0", "That message is no longer there", imap="EXPUNGEISSUED")


_mailboxes: type[Mailboxes] = AccountMailboxes
"""mypy checks here that it is one."""
