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
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from ..disk import Disk, make_directories
from . import record, segments
from .account import AccountStore, Filling, Source, Wanted
from .errors import no_space, refusal
from .journal import Entry, Steps
from .maildir import read_file
from .queued import QueuedMessage
from .record import Kind, Place, Record
from .source import InlineSource, SpilledSource
from .spool import Item, Spool
from .story import Story

__all__ = ["Accounts", "Places"]

_log = Logger()
MARGIN_BYTES = 1024 * 1024
MARGIN_INODES = 16
OPEN_ACCOUNTS = 200
"""Accounts whose files are kept open: each holds up to four descriptors."""


class Accounts:
    """The account stores of this process, by key; the least used ones close their files. To be used in threads."""

    def __init__(self, make: Callable[[str], AccountStore]) -> None:
        self._make = make
        self._guard = threading.Lock()
        self._known: OrderedDict[str, AccountStore] = OrderedDict()

    def get(self, key: str) -> AccountStore:
        with self._guard:
            store = self._known.get(key)
            if store is not None:
                self._known.move_to_end(key)
                return store
            store = self._known[key] = self._make(key)
            old = self._known.popitem(last=False)[1] if len(self._known) > OPEN_ACCOUNTS else None
        if old is not None:
            old.retire()
        return store

    def drop(self, key: str) -> None:
        with self._guard:
            store = self._known.pop(key, None)
        if store is not None:
            store.retire()

    def close(self) -> None:
        with self._guard:
            stores, self._known = list(self._known.values()), OrderedDict()
        for store in stores:
            store.retire()


@dataclass(frozen=True, slots=True)
class _Owed:
    """A record that could not be obeyed, or what is left of it. `boot`: under which its places may have been filled."""

    kind: Kind
    meta: dict[str, Any]
    content: Sequence[bytes]
    boot: str


class Places(Steps):
    """The steps of this site's journal."""

    def __init__(
        self,
        disk: Disk,
        data: str,
        accounts: Accounts,
        spool: Spool,
        *,
        boot: str,
        entropy: Callable[[int], bytes],
        starting: Callable[[bool], None],
        pin: Callable[[bool], None],
        full: Callable[[], None],
    ) -> None:
        self._disk = disk
        self._data = data
        self._accounts = accounts
        self._spool = spool
        self._boot = boot
        self._entropy = entropy
        self._starting = starting
        self._pin = pin
        self._full = full
        self._spilled = os.path.join(data, "journal", "spill")
        self._scratch = os.path.join(data, "journal", "scratch")
        self.parked = os.path.join(data, "parked")
        self._guard = threading.Lock()
        self._retrying = threading.Lock()
        self._unparked: list[_Owed] = []
        """Changed, and pinned for, with the guard held: the lane and a pool thread meet here."""

    # -- around a batch

    def check(self, entries: Sequence[Entry]) -> None:
        space = self._disk.statvfs(self._data)
        free = space.f_bavail * space.f_frsize - MARGIN_BYTES
        inodes = space.f_favail - MARGIN_INODES if space.f_files else None
        prepared: dict[str, Exception | None] = {}
        self._check_queue([entry for entry in entries if entry.queue is not None or entry.changes])
        for entry in entries:
            if entry.kind is not Kind.ACCEPT or entry.error is not None:
                continue
            if self._unparked:
                # It waits in memory: no more of it is taken before that has found its place.
                entry.error = no_space("committed mail could not be parked")
                continue
            # A spilled message is on the disk already.
            free -= space.f_frsize + (0 if entry.meta["spill"] else entry.size)
            if inodes is not None:
                inodes -= 1
            if free < 0 or (inodes is not None and inodes < 0):
                entry.error = no_space("the file system of the data directory is full")
                self._full()
                continue
            for place in entry.places:
                if place.account not in prepared:
                    prepared[place.account] = self._prepare(place.account)
                entry.error = entry.error or prepared[place.account]

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

    def _prepare(self, account: str) -> Exception | None:
        try:
            self._accounts.get(account).prepare()
        except Exception as error:
            _log.error(
                "mailbox {account} cannot take mail: {error}", account=account, error=str(error)
            )
            return refusal(error)
        return None

    def fill(self, entries: Sequence[Entry]) -> None:
        filling: dict[str, list[tuple[Entry, Place]]] = {}
        for entry in entries:
            if entry.kind is Kind.ACCEPT:
                for place in entry.places:
                    filling.setdefault(place.account, []).append((entry, place))
        failed: dict[int, tuple[Entry, list[Place]]] = {}
        queued = [entry for entry in entries if entry.queue is not None or entry.changes]
        if queued:
            self._fill_queue(queued)
        for account, wanted in filling.items():
            for entry, place, error in self._fill_account(account, wanted):
                _log.error(
                    "mail for {account} is parked, it could not be delivered: {error}",
                    account=account,
                    error=str(error),
                )
                failed.setdefault(id(entry), (entry, []))[1].append(place)
        for entry in entries:
            if entry.kind is Kind.REMOVE:
                self._remove(entry.meta)
            elif entry.kind is Kind.ACCOUNT_REMOVED:
                self._remove_account(entry.meta["account"], entry.meta["target"])
        for entry, places in failed.values():
            self._park(_Owed(Kind.ACCEPT, _only(entry.meta, places), entry.content, self._boot))
        for entry in entries:
            if entry.source is not None:
                try:
                    entry.source.close()
                except OSError as error:
                    _log.error("a scratch file stays: {error}", error=str(error))

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
                meta = _only(entry.meta, (), queue=True)
                if item.applied:
                    meta.pop("changes", None)
                self._park(_Owed(Kind.ACCEPT, meta, entry.content, self._boot))
            elif entry.changes:
                meta = {"changes": entry.meta["changes"]}
                self._park(_Owed(Kind.CHANGE, meta, (), self._boot))

    def _fill_account(
        self, account: str, wanted: Sequence[tuple[Entry, Place]]
    ) -> list[tuple[Entry, Place, Exception]]:
        fillings = [Filling(place.folder, place.base, entry.source) for entry, place in wanted]
        by_base = {place.base: (entry, place) for entry, place in wanted}
        try:
            failed = self._accounts.get(account).fill(fillings)
        except Exception as error:
            failed = [(filling, error) for filling in fillings]
        return [(*by_base[filling.base], error) for filling, error in failed]

    def _remove(self, meta: dict[str, Any]) -> None:
        try:
            store = self._accounts.get(meta["account"])
            leave = store.forget if meta["noticed"] else store.remove
            leave(meta["folder"], meta["bases"])
        except Exception as error:
            _log.error(
                "deleted mail of {account} is still there: {error}",
                account=meta["account"],
                error=str(error),
            )
            # What was only noticed is noticed again.
            if not meta["noticed"]:
                self._park(_Owed(Kind.REMOVE, meta, (), self._boot))

    def _remove_account(self, account: str, target: str) -> None:
        try:
            store = self._accounts.get(account)
            self._accounts.drop(account)
            if self._disk.exists(store.home):
                make_directories(self._disk, os.path.dirname(os.path.join(self._data, target)))
                self._disk.rename(store.home, os.path.join(self._data, target))
        except Exception as error:
            _log.error("{account} could not be moved: {error}", account=account, error=str(error))

    # -- parking

    def _park(self, owed: _Owed) -> None:
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

    def _write_parked(self, owed: _Owed) -> None:
        content, meta = owed.content, owed.meta
        if meta.get("spill"):
            content = [
                read_file(self._disk, os.path.join(self._spilled, meta["spill"]), meta["size"])
            ]
            meta = {**meta, "spill": None}
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
            if not loaded.records:
                _log.error("{path} is damaged and left alone", path=path)
            elif owed := self._apply([loaded], None):
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
        finally:
            self._disk.close(fd)

    def _parked_names(self) -> list[str]:
        return sorted(name for name in self._disk.names(self.parked) if name.endswith(".log"))

    # -- replay

    def recover(self, loaded: Sequence[segments.Loaded]) -> None:
        make_directories(self._disk, self.parked)
        self._starting(bool(loaded))
        for name in self._disk.names(self.parked):
            if name.endswith(".new"):
                self._disk.unlink(os.path.join(self.parked, name))
        parked = {
            path: segments.load_file(self._disk, path)
            for path in (os.path.join(self.parked, name) for name in self._parked_names())
        }
        synced = self._disk.open(self.parked, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # One story: what was parked may have been deleted since.
            self._settle([*parked.values(), *loaded], None)
            settled = [path for path, found in parked.items() if found.records]
            if settled:
                self._disk.syncfs(synced)
        finally:
            self._disk.close(synced)
        for path in settled:
            self._disk.unlink(path)
        self._disk.sync_directory(self.parked)

    def settle(self, loaded: Sequence[segments.Loaded], writers: frozenset[int]) -> None:
        self._settle(loaded, writers)

    def _settle(self, loaded: Sequence[segments.Loaded], writers: frozenset[int] | None) -> None:
        """A mailbox that takes no mail keeps neither the site from starting nor the journal from ending."""
        for owed in self._apply(loaded, writers):
            self._write_parked(owed)

    def _apply(
        self, loaded: Sequence[segments.Loaded], writers: frozenset[int] | None
    ) -> list[_Owed]:
        """Bring the disk to what the records say, those of `writers` or all. Returns what could not be done."""
        story = Story(self._boot, loaded, writers)
        owed: list[_Owed] = []
        for account, target in story.removed.items():
            if not self._disk.exists(os.path.join(self._data, target)):
                self._remove_account(account, target)
        for account in sorted(story.accounts):
            places = story.wanted.get(account, {})
            gone = {folder: list(bases) for folder, bases in story.gone.get(account, {}).items()}
            try:
                left = self._settle_account(account, places, gone)
            except Exception as error:
                _log.error(
                    "mailbox {account} not settled: {error}", account=account, error=str(error)
                )
                left = list(places)
                owed += [
                    _Owed(
                        Kind.REMOVE,
                        {"account": account, "folder": folder, "bases": bases, "noticed": False},
                        (),
                        self._boot,
                    )
                    for folder, bases in gone.items()
                ]
            for place in left:
                found, elsewhere = places[place]
                # Of another boot stays of another boot: what is there has to be checked then, too.
                boot = "" if elsewhere else self._boot
                content = [bytes(found.content)]
                owed.append(_Owed(Kind.ACCEPT, _only(found.meta, [place]), content, boot))
        return owed + self._settle_queue(story, writers)

    def _settle_queue(self, story: Story, writers: frozenset[int] | None) -> list[_Owed]:
        items: list[Item] = []
        sources: list[Source] = []
        try:
            if writers is not None and story.queue:
                # Others are up. What their records are about was put in its place, and may be over and forgotten.
                known = self._spool.known(
                    [found.meta["queue"]["id"] for found, _, _ in story.queue if found is not None]
                )
                known |= story.mentioned
            else:
                known = set()
            for found, elsewhere, changes in story.queue:
                item = Item(None, None, changes)
                items.append(item)
                if found is None or found.meta["queue"]["id"] in known:
                    continue
                try:
                    source = self._source(found)
                    if source is not None:
                        sources.append(source)
                        item.crc = found.meta["crc"] if elsewhere else None
                        item.message = QueuedMessage.from_json(found.meta["queue"])
                        item.source = source
                except Exception as error:
                    # It is parked: what cannot be understood is no reason to forget it.
                    item.error = error
            if items:
                self._spool.settle(items)
        finally:
            for source in sources:
                source.close()
        return self._owed_queue(story, items)

    def _owed_queue(self, story: Story, items: Sequence[Item]) -> list[_Owed]:
        owed: list[_Owed] = []
        for (found, elsewhere, changes), item in zip(story.queue, items, strict=True):
            if item.error is None:
                continue
            _log.error("the queue is not settled: {error}", error=str(item.error))
            boot = "" if elsewhere else self._boot
            if found is not None:
                meta = _only(found.meta, (), queue=True)
                if item.applied:
                    meta.pop("changes", None)
                owed.append(_Owed(Kind.ACCEPT, meta, [bytes(found.content)], boot))
            else:
                meta = {"changes": [change.to_json() for change in changes]}
                owed.append(_Owed(Kind.CHANGE, meta, (), boot))
        return owed

    def _settle_account(
        self,
        account: str,
        places: Mapping[Place, tuple[Record, bool]],
        gone: Mapping[str, Sequence[str]],
    ) -> list[Place]:
        wanted: list[Wanted] = []
        sources: dict[int, Source] = {}
        try:
            for place, (found, elsewhere) in places.items():
                source = sources.get(id(found)) or self._source(found)
                if source is None:
                    continue
                sources[id(found)] = source
                crc = found.meta["crc"] if elsewhere else None
                wanted.append(Wanted(Filling(place.folder, place.base, source), crc))
            failed = self._accounts.get(account).settle(wanted, gone)
        finally:
            for source in sources.values():
                source.close()
        for filling, reason in failed:
            _log.error(
                "{base} of {account} not delivered: {error}",
                base=filling.base,
                account=account,
                error=str(reason),
            )
        return [Place(account, filling.folder, filling.base) for filling, _ in failed]

    def _source(self, found: Record) -> Source | None:
        meta = found.meta
        sizes: dict[str, Any] = {
            "size": meta["size"],
            "wire": meta["wire"],
            "ascii_size": meta.get("ascii"),
        }
        if not meta.get("spill"):
            return InlineSource(self._disk, self._scratch, [bytes(found.content)], **sizes)
        path = os.path.join(self._spilled, meta["spill"])
        if not self._disk.exists(path):
            _log.error("the spill file {path} is gone", path=path)
            return None
        return SpilledSource(self._disk, path, **sizes)


def _only(meta: dict[str, Any], places: Sequence[Place], *, queue: bool = False) -> dict[str, Any]:
    """What an ACCEPT says, for these of its places; with `queue` also what it says of the queue."""
    plain = [[place.account, place.folder, place.base] for place in places]
    kept = {name: value for name, value in meta.items() if queue or name not in _QUEUE}
    return {**kept, "places": plain}


_QUEUE = ("queue", "changes")
