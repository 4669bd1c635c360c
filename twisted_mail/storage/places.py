"""What a batch does around its record: refuse before it, fill the places after it, settle them at a replay.

After the commit the answer is yes. A place that cannot be filled then is parked: a synced file of its own in
``parked/``, tried again until it is filled. When not even that can be written, every segment of the journal is kept
(`Journal.pin`) and both are tried again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import zlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from twisted.logger import Logger

from ..disk import Disk, make_directories
from ..status import MailError
from . import record, segments
from .accounts import Accounts
from .arrivals import Arrivals
from .aside import no_file, set_aside
from .errors import AccountOver, no_space, refusal
from .filling import Filling
from .journal import Entry, Steps
from .maildir import read_file
from .quota import Asked, Quota, Usage
from .record import Kind, Place, Record
from .settling import Owed, Settler, accepted, removing
from .spool import Item, Spool
from .sweeping import Sweeper

__all__ = ["Accounts", "Places"]

_log = Logger()
MARGIN_BYTES = 1024 * 1024
MARGIN_INODES = 100
"""What is opened for the first time, so that mail can be deleted, makes a dozen files."""
_DAMAGED = "damaged"


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
        self._entropy = entropy
        self._starting = starting
        self._pin = pin
        self._full = full
        self._sweeper = sweeper
        self._settler = Settler(disk, data, accounts.get, accounts.drop, spool, arrivals, boot)
        self.parked = os.path.join(data, "parked")
        self._guard = threading.Lock()
        self._retrying = threading.Lock()
        self._unparked: list[Owed] = []
        """Changed, and pinned for, with the guard held: the lane and a pool thread meet here."""

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
            if self._unparked:
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
            self._park_places(entry, numbers)
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
                self._park(owed)
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
                self._park(Owed(Kind.ACCEPT, meta, entry.content, self._boot))
            elif entry.changes:
                meta = {"changes": entry.meta["changes"]}
                self._park(Owed(Kind.CHANGE, meta, (), self._boot))

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
                self._park(Owed(Kind.REMOVE, meta, (), self._boot))

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
            self._park(Owed(Kind.MOVE, {**meta, "bases": left}, (), self._boot))

    # -- parking

    def _park_places(self, entry: Entry, numbers: Sequence[int]) -> None:
        if entry.kind is Kind.ACCEPT:
            places = [entry.places[number] for number in numbers]
            meta = accepted(entry.meta, places)
            self._park(Owed(Kind.ACCEPT, meta, entry.content, self._boot))
            return
        wanted = {entry.places[number].base for number in numbers}
        record = Record(Kind.FILE, 0, 0, entry.meta, memoryview(b"".join(entry.content)))
        for piece, places in record.pieces():
            if places[0].base in wanted:
                meta = accepted(piece.meta, places)
                self._park(Owed(Kind.ACCEPT, meta, [bytes(piece.content)], self._boot))

    def _park(self, owed: Owed) -> None:
        try:
            self._write_parked(owed)
        except OSError as error:
            _log.error(
                "a place could not be parked, the journal is kept: {error}", error=str(error)
            )
            # Its content is needed until then; a spilled one stays in the journal's keeping.
            with self._guard:
                self._unparked.append(owed)
                self._pin(True)

    def _write_parked(self, owed: Owed) -> None:
        content, meta = owed.content, owed.meta
        if meta.get("spill"):
            path = os.path.join(self._settler.spill, meta["spill"])
            content = [read_file(self._disk, path, meta["size"])]
            meta = {**meta, "spill": None, "crc": zlib.crc32(content[0])}
        name = os.path.join(self.parked, self._entropy(8).hex())
        epoch = int.from_bytes(self._entropy(8), "little")
        head = {"version": 1, "boot": owed.boot}
        fd = self._disk.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            try:
                for buffer in (
                    *record.encode(Kind.SEGMENT, head, epoch=epoch, writer=0, sequence=0),
                    *record.encode(owed.kind, meta, content, epoch=epoch, writer=0, sequence=0),
                ):
                    self._disk.write(fd, buffer)
                self._disk.fsync(fd)
            finally:
                self._disk.close(fd)
            self._disk.rename(f"{name}.new", f"{name}.log")
        except OSError:
            # It is tried again and again, and a disk may be full: nothing half-written stays.
            with contextlib.suppress(OSError):
                self._disk.unlink(f"{name}.new")
            raise
        self._disk.sync_directory(self.parked)

    def retry(self, *, wait: bool = False) -> bool:
        """Try parked places again, and to park what could not be. Blocks; call it in a thread, now and then.

        `wait` for another thread that is at it, else leave it to that one. True when changes of the queue may still
        be owed.
        """
        if not self._retrying.acquire(blocking=wait):
            return True
        changes = False
        try:
            with self._guard:
                unparked, self._unparked = self._unparked, []
            for owed in unparked:
                self._park(owed)
            names = self._parked_names()
            # While something is pinned, no checkpoint drops the record of what is deleted meanwhile.
            with self._guard:
                self._pin(bool(names or self._unparked))
            for name in names:
                changes = self._retry_parked(os.path.join(self.parked, name)) or changes
            with self._guard:
                self._pin(bool(self._unparked))
                return changes or any(owed.meta.get("changes") for owed in self._unparked)
        finally:
            self._retrying.release()

    def _retry_parked(self, path: str) -> bool:
        """True when changes of the queue may still be owed."""
        try:
            fd = self._disk.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            self._disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._disk.exists(path):
                return False  # another process was faster
            loaded = segments.load_file(self._disk, path)
            if not _says_something(loaded):
                self._set_aside(path)
            elif owed := self._settler.apply([loaded], None):
                return any(one.meta.get("changes") for one in owed)
            else:
                # What was put in its place is on the disk before that which would bring it again is not. `fd` was
                # opened before it was put there, so a write that failed meanwhile is told.
                self._disk.syncfs(fd)
                self._disk.unlink(path)
                self._disk.sync_directory(self.parked)
            return False
        except BlockingIOError:
            return True  # another process is at it
        except IsADirectoryError:
            self._set_aside(path)
            return False
        finally:
            self._disk.close(fd)

    def _set_aside(self, path: str) -> None:
        aside = set_aside(self._disk, path, name=_DAMAGED)
        _log.error(
            "{path}, a place that waited to be filled, is damaged: set aside as {aside}",
            path=path,
            aside=aside,
        )

    def _parked_names(self) -> list[str]:
        return sorted(name for name in self._disk.names(self.parked) if name.endswith(".log"))

    # -- replay

    def recover(self, loaded: Sequence[segments.Loaded]) -> None:
        make_directories(self._disk, self.parked)
        self._starting(bool(loaded))
        for name in self._disk.names(self.parked):
            path = os.path.join(self.parked, name)
            if name.endswith((".new", ".log")) and no_file(self._disk, path):
                self._set_aside(path)
            elif name.endswith(".new"):
                self._disk.unlink(path)
        parked = {
            path: segments.load_file(self._disk, path)
            for path in (os.path.join(self.parked, name) for name in self._parked_names())
        }
        synced = self._disk.open(self.parked, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._spool.check()
            # One story: what was parked may have been deleted since.
            self._settle([*parked.values(), *loaded], None)
            self._spool.keep_envelopes()
            settled = [path for path, found in parked.items() if _says_something(found)]
            if settled:
                self._disk.syncfs(synced)
        finally:
            self._disk.close(synced)
        for path in settled:
            self._disk.unlink(path)
        for path in parked.keys() - set(settled):
            self._set_aside(path)
        self._disk.sync_directory(self.parked)

    def recall(self, loaded: Sequence[segments.Loaded]) -> None:
        """The queue's rows were lost while others are up: once more what the journal says of it. Blocks."""
        for owed in self._settler.apply_to_queue(loaded):
            self._park(owed)

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
            self._write_parked(owed)


def _says_something(parked: segments.Loaded) -> bool:
    """Whether there is more in it than its head."""
    return any(found.kind is not Kind.SEGMENT for found in parked.records)


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
