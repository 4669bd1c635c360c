"""What a batch does around its record: refuse before it, fill the places after it, settle them at a replay.

After the commit the answer is yes. A place that cannot be filled then is parked (`storage.parking`), and tried again
until it is filled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from twisted.logger import Logger

from ..disk import Disk, make_directories
from ..status import MailError
from . import segments
from .accounts import Accounts
from .arrivals import Arrivals
from .errors import AccountOver, no_space, refusal
from .filling import Filling
from .journal import Entry, Steps
from .parking import Parking
from .quota import Asked, Quota, Usage
from .record import Kind, Place
from .settling import Owed, Settler, accepted, removing
from .spool import Item, Spool
from .sweeping import Sweeper

__all__ = ["Accounts", "Places"]

_log = Logger()
MARGIN_BYTES = 1024 * 1024
MARGIN_INODES = 100
"""What is opened for the first time, so that mail can be deleted, makes a dozen files."""


class Places(Steps):
    """The steps of this site's journal."""

    def __init__(
        self,
        disk: Disk,
        data: str,
        accounts: Accounts,
        spool: Spool,
        arrivals: Arrivals,
        *,
        usage: Usage,
        boot: str,
        entropy: Callable[[int], bytes],
        starting: Callable[[bool], None],
        pin: Callable[[bool], None],
        full: Callable[[], None],
        sweeper: Sweeper,
    ) -> None:
        self._disk = disk
        self._data = data
        self._accounts = accounts
        self._spool = spool
        self._arrivals = arrivals
        self._usage = usage
        self._boot = boot
        self._starting = starting
        self._full = full
        self._sweeper = sweeper
        self._settler = Settler(disk, data, accounts.get, accounts.drop, spool, arrivals, boot)
        self.parking = Parking(disk, data, self._settler, boot=boot, entropy=entropy, pin=pin)

    # -- around a batch

    def check(self, entries: Sequence[Entry]) -> None:
        space = self._disk.statvfs(self._data)
        free = space.f_bavail * space.f_frsize - MARGIN_BYTES
        inodes = space.f_favail - MARGIN_INODES if space.f_files else None
        prepared: dict[tuple[str, str, bool], Exception | None] = {}
        asked = Asked(self._usage)
        self._check_queue([entry for entry in entries if entry.queue is not None or entry.changes])
        for entry in entries:
            if entry.error is not None:
                continue
            if entry.kind is Kind.MOVE:
                entry.error = self._checked(
                    prepared, entry.meta["account"], entry.meta["to"], make=False
                )
                continue
            if entry.kind not in _FILLING:
                continue
            if self.parking.unparked:
                # It waits in memory: no more of it is taken before that has found its place.
                entry.error = no_space("committed mail could not be parked")
                continue
            for place in entry.places:
                if entry.error is None:
                    entry.error = self._checked(
                        prepared,
                        place.account,
                        _NEW if self._arrives(entry, place) else place.folder,
                        make=_makes(entry),
                    )
            if entry.error is None and entry.quota is not None:
                entry.error = _refused(asked, entry.quota)
            if entry.error is not None:
                continue
            # A spilled message is on the disk already.
            count = max(1, len(entry.sources))
            inline = entry.kind is Kind.FILE or not entry.meta["spill"]
            free -= space.f_frsize * count + (entry.size if inline else 0)
            if inodes is not None:
                inodes -= count
            if free < 0 or (inodes is not None and inodes < 0):
                entry.error = no_space("the file system of the data directory is full")
                self._full()

    def _checked(
        self,
        prepared: dict[tuple[str, str, bool], Exception | None],
        account: str,
        folder: str,
        *,
        make: bool,
    ) -> Exception | None:
        """Why a folder takes no mail; each is asked once for a batch. With `make` a new account is made."""
        key = (account, folder, make)
        if key not in prepared:
            prepared[key] = self._prepare(*key)
        return prepared[key]

    def _check_queue(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        try:
            taken = self._spool.known(
                [entry.queue.id for entry in entries if entry.queue is not None]
            )
        except Exception as error:
            _log.error("the queue cannot be used: {error}", error=str(error))
            for entry in entries:
                entry.error = refusal(error)
            return
        for entry in entries:
            if entry.queue is None:
                continue
            name = entry.queue.id
            if name in taken or not (name.isascii() and name.isalnum()):
                # Ids are random, and short enough for two messages to get the same one, some day. Committed, the
                # second would be taken for the first one, told twice.
                entry.error = refusal(ValueError(f"{name!r} cannot be the id of a new message"))
            taken.add(name)

    def _prepare(self, account: str, folder: str, make: bool) -> Exception | None:
        try:
            if folder == _NEW:
                self._arrivals.check(account)
                return None
            store = self._accounts.get(account)
            store.prepare(make=make)
            if folder:
                store.filler.check(folder)
        except AccountOver as error:
            return error
        except MailError as error:
            if error.imap != "TRYCREATE":
                _log.error("mailbox {account}: {error}", account=account, error=str(error))
            return error
        except Exception as error:
            _log.error(
                "mailbox {account} cannot take mail: {error}", account=account, error=str(error)
            )
            return refusal(error)
        return None

    def _arrives(self, entry: Entry, place: Place) -> bool:
        """Whether it is mail for an inbox that nobody has open, and that nobody counts."""
        return (
            entry.fillings is None
            and not place.folder
            and place.flags is None
            and place.account not in entry.counted
            and not self._accounts.is_held(place.account)
        )

    def catch_up(self, account: str) -> None:
        """Give UIDs to what has arrived for an account. Never raises. Blocks."""
        try:
            self._arrivals.caught_up(account, self._accounts.get(account).catch_up())
        except AccountOver:
            pass
        except Exception as error:
            _log.error(
                "the index of {account} is left behind: {error}", account=account, error=str(error)
            )

    def _catch_up_before(self, account: str) -> None:
        """What has arrived has lower UIDs than what a session puts there now. Never raises."""
        try:
            self._accounts.get(account).catch_up_before()
        except Exception as error:
            _log.debug("{account} was not looked into: {error}", account=account, error=str(error))

    def fill(self, entries: Sequence[Entry]) -> None:
        """In the order of the records, as a replay reads them; what goes into an index is gathered by account."""
        arriving: dict[str, list[tuple[Entry, int]]] = {}
        failed: dict[int, tuple[Entry, list[int]]] = {}
        queued = [entry for entry in entries if entry.queue is not None or entry.changes]
        if queued:
            self._fill_queue(queued)
        for entry in entries:
            account = entry.meta.get("account")
            if entry.kind in _FILLING:
                for number, place in enumerate(entry.places):
                    if self._arrives(entry, place):
                        self._fill_arrival(entry, number, failed)
                    else:
                        arriving.setdefault(place.account, []).append((entry, number))
                if "removes" not in entry.meta:
                    continue
                account = entry.places[0].account
            if account in arriving:
                self._fill_account(account, arriving.pop(account), failed)
            self._leave(entry)
        for account, wanted in arriving.items():
            self._fill_account(account, wanted, failed)
        for entry, numbers in failed.values():
            self.parking.park_places(entry, numbers)
        for entry in entries:
            for source in (entry.source, *entry.sources):
                if source is not None:
                    try:
                        source.close()
                    except OSError as error:
                        _log.error("a scratch file stays: {error}", error=str(error))

    def _leave(self, entry: Entry) -> None:
        """What an entry says of messages, folders and accounts that leave."""
        meta = entry.meta
        if entry.kind is Kind.REMOVE:
            self._remove(meta)
        elif entry.kind is Kind.MOVE:
            self._move(entry)
        elif entry.kind is Kind.FOLDER_REMOVED:
            if (owed := self._settler.remove_folder(meta)) is not None:
                self.parking.park(owed)
        elif entry.kind is Kind.ACCOUNT_REMOVED:
            self._settler.remove_account(meta["account"], meta["target"])
        for account, folder, bases in meta.get("removes") or ():
            self._remove(removing(account, folder, bases, noticed=False))

    def _fill_queue(self, entries: Sequence[Entry]) -> None:
        items = [Item(entry.queue, entry.source, entry.changes) for entry in entries]
        try:
            self._spool.fill(items)
        except Exception as error:
            for item in items:
                item.error = item.error or error
        for entry, item in zip(entries, items, strict=True):
            if item.error is None:
                continue
            _log.error(
                "the queue could not take what was committed, it is parked: {error}",
                error=str(item.error),
            )
            if entry.queue is not None:
                meta = accepted(entry.meta, (), queue=True)
                if item.applied:
                    meta.pop("changes", None)
                self.parking.park(Owed(Kind.ACCEPT, meta, entry.content, self._boot))
            elif entry.changes:
                meta = {"changes": entry.meta["changes"]}
                self.parking.park(Owed(Kind.CHANGE, meta, (), self._boot))

    def _fill_arrival(
        self, entry: Entry, number: int, failed: dict[int, tuple[Entry, list[int]]]
    ) -> None:
        place = entry.places[number]
        try:
            self._arrivals.fill(place.account, place.base, entry.source)
        except Exception as error:
            _log.error(_PARKED, account=place.account, error=str(error))
            failed.setdefault(id(entry), (entry, []))[1].append(number)

    def _fill_account(
        self,
        account: str,
        wanted: Sequence[tuple[Entry, int]],
        failed: dict[int, tuple[Entry, list[int]]],
    ) -> None:
        fillings: list[Filling] = []
        by_base: dict[str, tuple[Entry, int]] = {}
        for entry, number in wanted:
            place = entry.places[number]
            source = entry.sources[number] if entry.sources else entry.source
            filling = Filling(place.folder, place.base, source, place.flags, place.date)
            fillings.append(filling)
            by_base[place.base] = (entry, number)
            if entry.fillings is not None:
                entry.fillings.append(filling)
        if self._arrivals.waiting(account):
            self.catch_up(account)
        elif any(not filling.folder and filling.flags is not None for filling in fillings):
            self._catch_up_before(account)
        try:
            make = any(_makes(entry) for entry, _ in wanted)
            wrong = self._accounts.get(account).fill(fillings, make=make)
        except Exception as error:
            wrong = [(filling, error) for filling in fillings]
        for filling, reason in wrong:
            if isinstance(reason, AccountOver) and not _makes(by_base[filling.base][0]):
                # Removed at this moment: a message of one of its own sessions, which makes no account.
                by_base[filling.base][0].error = reason
                continue
            _log.error(_PARKED, account=account, error=str(reason))
            entry, number = by_base[filling.base]
            filling.uid = 0
            failed.setdefault(id(entry), (entry, []))[1].append(number)

    def _remove(self, meta: dict[str, Any]) -> None:
        try:
            store = self._accounts.get(meta["account"])
            leave = store.forget if meta["noticed"] else store.remove
            leave(meta.get("in", ""), meta["bases"])
        except AccountOver:
            pass
        except Exception as error:
            _log.error(
                "deleted mail of {account} is still there: {error}",
                account=meta["account"],
                error=str(error),
            )
            # What was only noticed is noticed again.
            if not meta["noticed"]:
                self.parking.park(Owed(Kind.REMOVE, meta, (), self._boot))

    def _move(self, entry: Entry) -> None:
        meta = entry.meta
        if not meta["to"]:
            self._catch_up_before(meta["account"])
        try:
            entry.moved = self._accounts.get(meta["account"]).move(
                meta["from"], meta["to"], meta["bases"]
            )
            left = [base for base, _ in entry.moved.failed]
            reason = entry.moved.failed[0][1] if left else None
        except AccountOver:
            return
        except Exception as error:
            left, reason = meta["bases"], error
        if left:
            _log.error(
                "mail of {account} is not moved yet: {error}",
                account=meta["account"],
                error=str(reason),
            )
            self.parking.park(Owed(Kind.MOVE, {**meta, "bases": left}, (), self._boot))

    # -- replay

    def recover(self, loaded: Sequence[segments.Loaded]) -> None:
        make_directories(self._disk, self.parking.directory)
        self._starting(bool(loaded))
        with self.parking.replayed() as parked:
            self._spool.check()
            # One story: what was parked may have been deleted since.
            self._settle([*parked, *loaded], None)
            self._spool.keep_envelopes()

    def recall(self, loaded: Sequence[segments.Loaded]) -> None:
        """The queue's rows were lost while others are up: once more what the journal says of it. Blocks."""
        for owed in self._settler.apply_to_queue(loaded):
            self.parking.park(owed)

    def settle(self, loaded: Sequence[segments.Loaded], writers: frozenset[int]) -> None:
        self._settle(loaded, writers)

    def sealed(self) -> None:
        self._spool.keep_envelopes()

    def begun(self) -> Collection[str]:
        return self._sweeper.there()

    def dropped(self, before: Collection[str]) -> None:
        self._sweeper.condemn(before)

    def _settle(self, loaded: Sequence[segments.Loaded], writers: frozenset[int] | None) -> None:
        """A mailbox that takes no mail keeps neither the site from starting nor the journal from ending."""
        for owed in self._settler.apply(loaded, writers):
            self.parking.write(owed)


def _makes(entry: Entry) -> bool:
    """Whether it makes the account, when that is not there: mail that arrives does, what a session files does not."""
    return entry.fillings is None


def _refused(asked: Asked, quota: Quota) -> Exception | None:
    try:
        return asked.take(quota)
    except Exception as error:
        _log.error("what an account holds cannot be told: {error}", error=str(error))
        return refusal(error)


_FILLING = frozenset({Kind.ACCEPT, Kind.FILE})
_NEW = "/new"
"""In the place of a folder's id: its inbox, without its index."""
_PARKED = "mail for {account} is parked, it could not be delivered: {error}"
