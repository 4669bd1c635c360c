"""What a batch does around its record: refuse before it, fill the places after it, settle them at a replay.

After the commit the answer is yes. A place that cannot be filled then is parked: a synced file of its own in
``parked/``, tried again until it is filled. When not even that can be written, every segment of the journal is kept
(`Journal.pin`) and both are tried again.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger

from ..disk import Disk, make_directories
from . import record, segments
from .account import AccountStore, Filling, Source, Wanted
from .errors import no_space, refusal
from .journal import Entry, Steps
from .record import Kind, Place, Record
from .source import InlineSource, SpilledSource

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


class Places(Steps):
    """The steps of this site's journal."""

    def __init__(
        self,
        disk: Disk,
        data: str,
        accounts: Accounts,
        *,
        boot: str,
        entropy: Callable[[int], bytes],
        unclean: Callable[[], None],
        pin: Callable[[bool], None],
    ) -> None:
        self._disk = disk
        self._data = data
        self._accounts = accounts
        self._boot = boot
        self._entropy = entropy
        self._unclean = unclean
        self._pin = pin
        self._spill = os.path.join(data, "journal", "spill")
        self._scratch = os.path.join(data, "journal", "scratch")
        self.parked = os.path.join(data, "parked")
        self._unparked: list[tuple[Entry, list[Place]]] = []
        self._unremoved: list[dict[str, Any]] = []

    # -- around a batch

    def check(self, entries: Sequence[Entry]) -> None:
        space = self._disk.statvfs(self._data)
        free = space.f_bavail * space.f_frsize - MARGIN_BYTES
        inodes = space.f_favail - MARGIN_INODES if space.f_files else None
        prepared: dict[str, Exception | None] = {}
        for entry in entries:
            if entry.kind is not Kind.ACCEPT:
                continue
            free -= entry.size + space.f_frsize
            if inodes is not None:
                inodes -= 1
            if free < 0 or (inodes is not None and inodes < 0):
                entry.error = no_space("the file system of the data directory is full")
                continue
            for place in entry.places:
                if place.account not in prepared:
                    prepared[place.account] = self._prepare(place.account)
                entry.error = entry.error or prepared[place.account]

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
            self._park(entry, places)
        for entry in entries:
            if entry.source is not None:
                entry.source.close()

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
            # The record stands until it is obeyed.
            self._unremoved.append(meta)
            self._pin(True)

    def _remove_account(self, account: str, target: str) -> None:
        store = self._accounts.get(account)
        self._accounts.drop(account)
        try:
            if self._disk.exists(store.home):
                make_directories(self._disk, os.path.dirname(os.path.join(self._data, target)))
                self._disk.rename(store.home, os.path.join(self._data, target))
        except OSError as error:
            _log.error("{home} could not be moved: {error}", home=store.home, error=str(error))

    # -- parking

    def _park(self, entry: Entry, places: list[Place]) -> None:
        try:
            self._write_parked(entry, places)
        except OSError as error:
            _log.error(
                "a place could not be parked, the journal is kept: {error}", error=str(error)
            )
            # Its content is needed until then; a spilled one stays in the journal's keeping.
            self._unparked.append((entry, places))
            self._pin(True)

    def _write_parked(self, entry: Entry, places: Sequence[Place]) -> None:
        content = list(entry.content)
        if entry.meta.get("spill"):
            fd = self._disk.open(os.path.join(self._spill, entry.meta["spill"]), os.O_RDONLY)
            try:
                content = [self._disk.pread(fd, entry.meta["size"], 0)]
            finally:
                self._disk.close(fd)
        meta = {**entry.meta, "spill": None, "places": [_plain(place) for place in places]}
        name = os.path.join(self.parked, self._entropy(8).hex())
        epoch = int.from_bytes(self._entropy(8), "little")
        head = {"version": 1, "boot": self._boot}
        fd = self._disk.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            for kind, values, blocks in ((Kind.SEGMENT, head, []), (Kind.ACCEPT, meta, content)):
                for buffer in record.encode(
                    kind, values, blocks, epoch=epoch, writer=0, sequence=0
                ):
                    self._disk.write(fd, buffer)
            self._disk.fsync(fd)
        finally:
            self._disk.close(fd)
        self._disk.rename(f"{name}.new", f"{name}.log")
        self._disk.sync_directory(self.parked)

    def retry(self) -> None:
        """Try parked places again, and to park what could not be. Blocks; call it now and then, on the lane."""
        unparked, self._unparked = self._unparked, []
        unremoved, self._unremoved = self._unremoved, []
        for entry, places in unparked:
            self._park(entry, places)
        for meta in unremoved:
            self._remove(meta)
        if (unparked or unremoved) and not (self._unparked or self._unremoved):
            self._pin(False)
        for name in self._disk.names(self.parked):
            if not name.endswith(".log"):
                continue
            path = os.path.join(self.parked, name)
            try:
                if self._apply([segments.load_file(self._disk, path)], None):
                    self._disk.unlink(path)
            except FileNotFoundError:
                continue  # another process was faster

    # -- replay

    def recover(self, loaded: Sequence[segments.Loaded]) -> None:
        make_directories(self._disk, self.parked)
        if loaded:
            self._unclean()
        for name in self._disk.names(self.parked):
            if name.endswith(".new"):
                self._disk.unlink(os.path.join(self.parked, name))
        if not self._apply(loaded, None):
            raise OSError(
                "some mail of the journal could not be put into its mailboxes; see the log"
            )
        self.retry()

    def settle(self, loaded: Sequence[segments.Loaded], writers: frozenset[int]) -> None:
        if not self._apply(loaded, writers):
            raise OSError("what a dead process left could not be settled; see the log")

    def _apply(self, loaded: Sequence[segments.Loaded], writers: frozenset[int] | None) -> bool:
        """Bring the disk to what the records say, those of `writers` or all. False when something is left."""
        story = _Story(self._boot, loaded, writers)
        whole = True
        for account, target in story.removed.items():
            if not self._disk.exists(os.path.join(self._data, target)):
                self._remove_account(account, target)
        for account in sorted(story.accounts):
            wanted: list[Wanted] = []
            sources: dict[int, Source] = {}
            for place, (found, elsewhere) in story.wanted.get(account, {}).items():
                source = sources.get(id(found)) or self._source(found)
                if source is None:
                    continue
                sources[id(found)] = source
                crc = found.meta["crc"] if elsewhere else None
                wanted.append(Wanted(Filling(place.folder, place.base, source), crc))
            try:
                failed = self._accounts.get(account).settle(
                    wanted,
                    {folder: list(bases) for folder, bases in story.gone.get(account, {}).items()},
                )
            except Exception as error:
                _log.error(
                    "mailbox {account} not settled: {error}", account=account, error=str(error)
                )
                whole = False
                continue
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
                whole = False
        return whole

    def _source(self, found: Record) -> Source | None:
        meta = found.meta
        sizes: dict[str, Any] = {
            "size": meta["size"],
            "wire": meta["wire"],
            "ascii_size": meta.get("ascii"),
        }
        if not meta.get("spill"):
            return InlineSource(self._disk, self._scratch, [bytes(found.content)], **sizes)
        path = os.path.join(self._spill, meta["spill"])
        if not self._disk.exists(path):
            _log.error("the spill file {path} is gone", path=path)
            return None
        return SpilledSource(self._disk, path, **sizes)


class _Story:
    """Records read in order: what must be there at the end, and what must not."""

    def __init__(
        self, boot: str, loaded: Sequence[segments.Loaded], writers: frozenset[int] | None
    ) -> None:
        self.accounts: set[str] = set()
        self.wanted: dict[str, dict[Place, tuple[Record, bool]]] = {}
        self.gone: dict[str, dict[str, dict[str, None]]] = {}
        self.removed: dict[str, str] = {}
        """Accounts that are over, and where their mail goes."""
        void = {
            (found.meta["writer"], sequence)
            for segment in loaded
            for found in segment.records
            if found.kind is Kind.VOID
            for sequence in found.meta["sequences"]
        }
        for segment in loaded:
            for found in segment.records:
                if (found.writer, found.sequence) in void:
                    continue
                if found.kind is Kind.ACCEPT and (writers is None or found.writer in writers):
                    self._accepted(found, segment.boot != boot)
                elif found.kind is Kind.REMOVE:
                    self._left(found.meta)
                elif found.kind is Kind.ACCOUNT_REMOVED:
                    self._over(found.meta)

    def _accepted(self, found: Record, elsewhere: bool) -> None:
        for place in found.places:
            self.accounts.add(place.account)
            self.removed.pop(place.account, None)
            self.wanted.setdefault(place.account, {})[place] = (found, elsewhere)

    def _left(self, meta: dict[str, Any]) -> None:
        account, bases = meta["account"], frozenset(meta["bases"])
        self.accounts.add(account)
        wanted = self.wanted.get(account, {})
        for place in [place for place in wanted if place.base in bases]:
            del wanted[place]
        if not meta["noticed"]:
            folders = self.gone.setdefault(account, {})
            folders.setdefault(meta["folder"], {}).update(dict.fromkeys(meta["bases"]))

    def _over(self, meta: dict[str, Any]) -> None:
        account = meta["account"]
        self.accounts.discard(account)
        self.wanted.pop(account, None)
        self.gone.pop(account, None)
        self.removed[account] = meta["target"]


def _plain(place: Place) -> list[str]:
    return [place.account, place.folder, place.base]
