"""The mail store of one site: what the rest of the house sees of storage.

    data/journal/      segments, spill files, locks         (storage.journal)
    data/parked/       places that could not be filled      (storage.places)
    data/queue/        mail for elsewhere                   (storage.spool)
    data/mail/<key>/   one account each                     (storage.account)
    data/removed/      the mail of removed accounts
    data/deleted/      mailboxes that users deleted        (storage.sweeping)
    data/site.json     the version of what is stored       (storage.site_file)

Any number of processes may have one store open. `MailStore.start` recovers what an unclean stop left before it
returns. Nothing here blocks the reactor thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..disk import make_directories
from ..interfaces import IMailbox
from ..status import MailError
from ..world import World, call_or_drop
from . import scan, segments
from .account import AccountStore
from .arrivals import Arrivals
from .commits import Commits
from .draft import SPILL_OVER, Draft
from .errors import no_space, refusal
from .inboxes import Inboxes, Opened, settled
from .journal import Entry, Journal
from .mailbox import Inbox, listed
from .matching import Searches
from .outgoing import Outgoing
from .places import MARGIN_BYTES, Accounts, Places
from .queued import Change, QueuedMessage
from .quota import Limits, Quota, Usage, refused
from .record import Kind, Place
from .sessions import Sessions
from .site_file import VERSION, SiteFile
from .source import InlineSource, SpilledSource
from .spool import Spool
from .story import queued
from .sweeping import Sweeper
from .upgrading import STEPS, Step, Upgrade, write_version
from .upkeep import Upkeep

__all__ = ["MailStore"]

_log = Logger()
_NO_WAY_OUT = frozenset(("", ".", ".."))


class MailStore:
    """The store in the directory `data`; `host` is the last part of the names of its files.

    `boot` is the system's boot id: files written under another one may have been lost by a power cut. `limits` gives
    an account's quota by its key, at once, on the reactor thread: octets and messages, None for no limit. `steps`:
    what makes this version's data of an older one's.
    """

    def __init__(
        self,
        world: World,
        data: str,
        *,
        host: str,
        boot: str,
        segment_size: int = segments.SEGMENT_SIZE,
        limits: Callable[[str], tuple[int | None, int | None]] | None = None,
        steps: Sequence[Step] = STEPS,
    ) -> None:
        self._world = world
        self._disk = world.disk
        self._data = os.path.abspath(data)
        self._mail = os.path.join(self._data, "mail")
        self._site = SiteFile(self._disk, self._data)
        self._steps = steps
        self._sequence = 0
        self._process = world.entropy(6).hex()
        # Maildir's convention: no "/" and no ":" in the host's part; and POP3 wants a base of at most 70.
        self._host = "".join(c for c in host if c.isalnum() or c in ".-")[:28] or "localhost"
        self._accounts = Accounts(self._make_account)
        self._inboxes = Inboxes(self._disk, world.now)
        self._journal_path = os.path.join(self._data, "journal")
        self._spool = Spool(self._disk, self._data)
        self._usage = Usage(lambda key: self._accounts.get(key).usage(), world.now)
        sweeper = Sweeper(
            self._disk, self._data, lambda: world.threads.back(self._upkeep.sweep_soon)
        )
        arrivals = Arrivals(
            self._disk,
            self._home_of,
            missing=self._accounts.gone,
            due=lambda key: world.threads.back(self._upkeep.catch_up, key),
        )
        self._places = Places(
            self._disk,
            self._data,
            self._accounts,
            self._spool,
            arrivals,
            usage=self._usage,
            boot=boot,
            entropy=world.entropy,
            starting=self._begin,
            pin=lambda held: self._journal.pin(held),
            full=lambda: world.threads.back(self._upkeep.make_room),
            sweeper=sweeper,
        )
        self._journal = Journal(
            world,
            self._journal_path,
            self._places,
            boot=boot,
            mail=self._mail,
            segment_size=segment_size,
            due=lambda: world.threads.back(self._upkeep.checkpoint),
        )
        self._spool.accepted = lambda: queued(self._journal.loaded())
        self._spool.recall = lambda: self._places.recall(self._journal.loaded())
        self._upkeep = Upkeep(world, self._journal, self._places, sweeper)
        self._limits = limits
        self.commits = Commits(world, self._journal, self._accounts.get, self._unique, self.limits)
        self.append = self.commits.append
        self.copy = self.commits.copy
        self.move = self.commits.move
        self.replace = self.commits.replace
        self.expunge = self.commits.expunge
        self._sessions = Sessions(
            world,
            self,
            hold=self._accounts.hold,
            let_go=self._let_go,
            search=Searches(world),
            limits=limits or (lambda _: (None, None)),
            forget=self._noticed,
        )
        self.open_mailboxes = self._sessions.open
        self.queue = Outgoing(world, self._data, self._spool, self._settle_dead)
        """The queue on the disk, for who runs it and who looks at it."""
        self._space: tuple[float, int] = (float("-inf"), 0)

    # -- start and stop

    async def start(self) -> None:
        """Open the store, recovering first what an unclean stop left. Raises OSError, MailError, ValueError."""
        await self._world.threads.call(self._start)
        self._upkeep.start()

    async def stop(self) -> None:
        """Finish what was begun and close. After it the next start has nothing to recover."""
        self._upkeep.stop()
        self._sessions.close()
        self._journal.refuse()
        await self._upkeep.over()
        await self._world.threads.call(self._stop)

    def _start(self) -> None:
        make_directories(self._disk, self._data)
        make_directories(self._disk, self._mail)
        device = self._disk.stat(self._data).st_dev
        for path in (self._mail, self._journal_path, self._spool.directory):
            if self._disk.exists(path) and self._disk.stat(path).st_dev != device:
                raise ValueError(
                    f"{path} lies on another file system than {self._data}: messages are linked, not copied"
                )
        self._site.read()
        self._spool.prepare()
        self._journal.start()
        self._site.read()
        self._spool.remember()
        if strays := self._spool.strays():
            _log.error(
                "queue.sqlite3 is empty, and {count} messages lie in {path}: nobody knows any more whom they are for."
                " They stay there: mailctl verify names them",
                count=strays,
                path=self._spool.directory,
            )

    def _begin(self, unclean: bool) -> None:
        """Alone on the site, before anything is replayed: make what is stored this version's, and count the start."""
        self._site.read()
        upgrade = Upgrade(self._disk, self._data, self._steps)

        def switched() -> None:
            write_version(self._disk, self._data, VERSION)

        if not upgrade.run(self._site.version, VERSION, switched) and not unclean:
            upgrade.clean_start()
        self._site.count_start(unclean)

    def _stop(self) -> None:
        # The index files are closed first: a clean stop leaves them whole on the disk.
        self._journal.stop(before_sync=self._close_files)

    def _close_files(self) -> None:
        self._accounts.close()
        self._spool.keep_envelopes()
        self._spool.close()

    async def settle(self) -> bool:
        """See that what processes committed that are dead by now is in its mailboxes. False: another one is at it,
        or some of it cannot be done yet. Raises what keeps it from that."""
        return await self._settle_dead()

    async def _settle_dead(self) -> bool:
        return await self._world.threads.call(self._settled)

    def _settled(self) -> bool:
        """Whether all that anybody committed about the queue is in its rows. Raises what keeps it from that."""
        try:
            self._journal.settle()
        except BlockingIOError:
            return False
        return not self._places.parking.retry(wait=True)

    async def remove_folder(self, key: str, folder: str) -> None:
        """As `Commits.remove_folder`; its space is free some time afterwards."""
        await self.commits.remove_folder(key, folder)
        self._upkeep.folder_deleted()

    def _home_of(self, key: str) -> str:
        # Keys come from the directory, or from somebody's realm: none leads out of the mail directory.
        if "\0" in key or not _NO_WAY_OUT.isdisjoint(key.split("/")):
            raise ValueError(f"{key!r} is no key of an account")
        return f"{self._mail}/{key}"

    def _make_account(self, key: str) -> AccountStore:
        return AccountStore(
            self._disk,
            self._home_of(key),
            top=self._mail,
            generation=self._site.generation,
            now=self._world.now,
            entropy=self._world.entropy,
        )

    def _let_go(self, key: str) -> None:
        if self._accounts.let_go(key):
            self._world.threads.call(self._accounts.trim).addErrback(
                lambda failure: _log.error("files stay open: {error}", error=str(failure.value))
            )

    def account(self, key: str) -> AccountStore:
        """One account's files, for who works on it as a whole. Its methods block. Raises ValueError."""
        return self._accounts.get(key)

    # -- mail in

    def draft(self, keep: int = SPILL_OVER) -> Draft:
        """A new message's content, to be written. Over `keep` octets it leaves the memory."""
        return Draft(self._world, self._journal.spill, keep)

    def check_space(self, size: int) -> None:
        """Raise MailError 452 4.3.1 when there is no room for `size` bytes more. Asked at MAIL; up to a second old."""
        now = self._world.now()
        if not 0 <= now - self._space[0] < 1.0:
            space = self._disk.statvfs(self._data)
            free = space.f_bavail * space.f_frsize
            if space.f_files and space.f_favail <= 0:
                free = 0
            self._space = (now, free)
        if self._space[1] < size + MARGIN_BYTES:
            self._upkeep.make_room()
            raise no_space("the file system of the data directory is full")

    async def accept(
        self,
        draft: Draft,
        accounts: Sequence[str],
        *,
        ascii_size: int | None,
        envelope: dict[str, Any],
        queue: QueuedMessage | None = None,
        changes: Sequence[Change] = (),
        unlimited: Collection[str] = (),
        junk: bool = False,
    ) -> None:
        """Commit a message to the inboxes of `accounts` (keys) and to the queue, all or none.

        Durable and readable afterwards.

        The draft is the store's from now on, whatever happens. `envelope` is kept in the record for people. `queue`
        gets the sizes of the draft. `changes` of other queued messages are in the same record: the message is the
        bounce that they cause. `unlimited`: those of the accounts whose quota is not asked. `junk`: not to the inboxes,
        but to the folders for that. Raises MailError.
        """
        try:
            folders = await self._world.threads.call(self._junk, accounts) if junk else {}
            await draft.finish()
        except BaseException:
            draft.discard()
            raise
        places = [
            Place(key, folders.get(key, ""), self._unique()) for key in dict.fromkeys(accounts)
        ]
        entry = self._entry(draft, places, ascii_size, envelope, queue, changes)
        if self._limits is not None:
            entry.counted = limited = self._limited([place.account for place in places])
            if unlimited:
                limited = {key: has for key, has in limited.items() if key not in unlimited}
            if limited:
                entry.quota = Quota(limited, draft.size, 1, lenient=len(places) > 1)
        spill = draft.spill
        draft.forget()
        # The caller may be cancelled (its connection is lost) while the commit goes on.
        if spill is None:
            # Nobody else waits for it, and nothing is left to be done then.
            await self._journal.commit(entry)
            return
        outcome: Deferred[None] = Deferred()
        self._journal.commit(entry).addBoth(self._accepted, spill, outcome)
        await outcome

    def _junk(self, accounts: Collection[str]) -> dict[str, str]:
        """The folders for junk, by account; those that cannot be had now are left out: what is not lost is found."""
        found: dict[str, str] = {}
        for key in accounts:
            try:
                account = self._accounts.get(key)
                account.prepare(make=True)
                found[key] = account.folders.junk()
            except Exception as error:
                _log.warn(
                    "{account} has no folder for junk: {error}", account=key, error=str(error)
                )
        return found

    def _accepted(self, result: Any, spill: str, outcome: Deferred[None]) -> None:
        if isinstance(result, Failure):
            path = os.path.join(self._journal.spill, spill)
            self._world.threads.call(self._disk.unlink, path).addErrback(
                lambda failure: _log.error("{path} stays: {error}", path=path, error=failure.value)
            )
        outcome.callback(result)

    async def change(self, changes: Sequence[Change]) -> None:
        """Commit what becomes of queued messages; durable and done afterwards. Raises MailError."""
        meta = {"changes": [change.to_json() for change in changes]}
        entry = Entry(Kind.CHANGE, meta, changes=changes, size=512 * len(changes))
        outcome: Deferred[None] = Deferred()
        self._journal.commit(entry).addBoth(outcome.callback)
        await outcome

    def _entry(
        self,
        draft: Draft,
        places: list[Place],
        ascii_size: int | None,
        envelope: dict[str, Any],
        queue: QueuedMessage | None = None,
        changes: Sequence[Change] = (),
    ) -> Entry:
        sizes: dict[str, Any] = {
            "size": draft.size,
            "wire": draft.size + draft.lines,
            "ascii_size": ascii_size,
        }
        meta: dict[str, Any] = {
            "places": [place.to_json() for place in places],
            "size": draft.size,
            "wire": draft.size + draft.lines,
            "ascii": ascii_size,
            # What stands in the record is under the record's own.
            "crc": None if draft.spill is None else draft.crc,
            "spill": draft.spill,
            "envelope": envelope,
        }
        if queue is not None:
            queue = replace(queue, size=draft.size, wire=draft.size + draft.lines)
            meta["queue"] = queue.to_json()
        if changes:
            meta["changes"] = [change.to_json() for change in changes]
        source: InlineSource | SpilledSource
        if draft.spill is None:
            source = InlineSource(self._disk, self._journal.scratch, draft.blocks, **sizes)
        else:
            source = SpilledSource(
                self._disk, os.path.join(self._journal.spill, draft.spill), **sizes
            )
        content = draft.blocks if draft.spill is None else ()
        return Entry(Kind.ACCEPT, meta, places, queue, changes, content, draft.size, source)

    # -- quotas

    def limits(self, key: str) -> Limits | None:
        """An account's quota; None when it has none. Reactor thread only."""
        if self._limits is None:
            return None
        storage, messages = self._limits(key)
        if storage is None and messages is None:
            return None
        return Limits(storage, messages)

    def _limited(self, keys: Collection[str]) -> Mapping[str, Limits]:
        return {key: limits for key in keys if (limits := self.limits(key)) is not None}

    async def usage(self, key: str) -> tuple[int, int]:
        """Octets as stored, and messages, that an account holds. Raises MailError."""
        try:
            return await self._world.threads.call(self._usage.count, key)
        except Exception as error:
            raise refusal(error) from error

    async def check_quota(self, keys: Collection[str], size: int) -> None:
        """Raise MailError 452 4.2.2, or 552 5.2.2, when none of these accounts has room for `size` octets more.

        Asked at RCPT, for those that one recipient leads to: an alias with one full mailbox is not refused to the
        others behind it.
        """
        if self._limits is None:
            return
        limited = self._limited(keys)
        if not limited or len(limited) < len(keys):
            return
        error: MailError | None = None
        # A message of no declared size has at least some.
        size = max(size, 1)
        for key, limits in limited.items():
            if self._usage.has_room(key, limits, size, 1):
                return
            error = refused(limits, await self.usage(key), size, 1)
            if error is None:
                return
        if error is not None:
            raise error

    def _unique(self) -> str:
        """A base name: Maildir's time, unique, host. In their order messages get their UIDs."""
        self._sequence += 1
        micro = int(self._world.now() * 1_000_000)
        return (
            f"{micro // 1_000_000}.M{micro % 1_000_000:06d}P{self._process}Q{self._sequence}"
            f".{self._host}"
        )

    # -- mail out

    async def open_inbox(self, key: str) -> IMailbox:
        """The inbox of an account, frozen, held for this caller until it is closed.

        Raises MailError; with ``pop3="IN-USE"`` when another session holds it.
        """
        try:
            opened = self._inboxes.open(key)
            if opened is None:
                opened = await call_or_drop(
                    self._world.threads,
                    lambda opened: self._disk.close(opened.lock),
                    self._open_inbox,
                    key,
                )
                self._inboxes.keep(key, opened)
        except MailError:
            raise
        except Exception as error:
            _log.error("mailbox {account} cannot be opened: {error}", account=key, error=str(error))
            raise refusal(error) from error

        async def remove(bases: Sequence[str]) -> None:
            if bases:
                await self.commits.remove(key, "", bases)

        if opened.gone:
            # Taken away by another program: said in the journal, so that no replay brings it back.
            ensureDeferred(self.commits.remove(key, "", opened.gone, noticed=True)).addErrback(
                lambda failure: _log.error("removals not noted: {error}", error=str(failure.value))
            )
        return Inbox(self._world, opened.maildir, opened.rows, opened.messages, opened.lock, remove)

    def _open_inbox(self, key: str) -> Opened:
        account = self._accounts.get(key)
        account.prepare()
        lock = account.hold_inbox()
        try:
            marks = scan.marks(self._disk, account.maildir)
            sure = settled(self._disk, marks)
            gone = account.refresh()
            rows = account.rows()
            if gone:
                taken = frozenset(gone)
                rows = [row for row in rows if row[1] not in taken]
            return Opened(account.maildir, rows, listed(rows), lock, marks, sure, gone)
        except BaseException:
            self._disk.close(lock)
            raise

    async def _noticed(self, key: str, folder: str, bases: list[str]) -> None:
        """Another program took these away: said in the journal, so that no replay brings them back."""
        await self.commits.remove(key, folder, bases, noticed=True)

    async def remove_account(self, key: str) -> str:
        """Take an account's mail out of the site. Returns where it was moved to, relative to the data directory."""
        unique = f"{int(self._world.now())}-{self._world.entropy(4).hex()}"
        target = os.path.join("removed", f"{key.replace('/', '_')}-{unique}")
        await self._journal.commit(
            Entry(Kind.ACCOUNT_REMOVED, {"account": key, "target": target}, size=256)
        )
        return target
