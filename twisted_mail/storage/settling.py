"""Bringing the disk to what journal records say: at a start, for processes that died, and for what was parked.

What cannot be done is `Owed`: it is written to a file of its own, and tried again.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from ..disk import Disk, make_directories
from ..status import MailError
from . import maildir
from .account import AccountStore
from .arrivals import Arrivals
from .errors import AccountOver
from .filling import Filling, Wanted
from .queued import QueuedMessage
from .record import Kind, Piece, Place
from .segments import Loaded
from .source import InlineSource, SpilledSource
from .spool import Item, Spool
from .story import Story, Wish

__all__ = ["Owed", "Settler", "accepted", "moving", "removing"]

_log = Logger()
_QUEUE = ("queue", "changes")


@dataclass(frozen=True, slots=True)
class Owed:
    """A record that could not be obeyed, or what is left of it. `boot`: under which its places may have been filled."""

    kind: Kind
    meta: dict[str, Any]
    content: Sequence[bytes]
    boot: str


def accepted(
    meta: dict[str, Any], places: Sequence[Place], *, queue: bool = False
) -> dict[str, Any]:
    """What an ACCEPT says, for these of its places; with `queue` also what it says of the queue."""
    kept = {
        name: value
        for name, value in meta.items()
        if name != "removes" and (queue or name not in _QUEUE)
    }
    return {**kept, "places": [place.to_json() for place in places]}


def moving(account: str, folder: str, to: str, bases: Sequence[str]) -> dict[str, Any]:
    """What a MOVE says."""
    return {"account": account, "from": folder, "to": to, "bases": list(bases)}


def removing(account: str, folder: str, bases: Sequence[str], *, noticed: bool) -> dict[str, Any]:
    """What a REMOVE says."""
    return {"account": account, "in": folder, "bases": list(bases), "noticed": noticed}


class Settler:
    """For the site in the directory `data`. `accounts` gives an account's store by its key."""

    def __init__(
        self,
        disk: Disk,
        data: str,
        accounts: Callable[[str], AccountStore],
        drop: Callable[[str], None],
        spool: Spool,
        arrivals: Arrivals,
        boot: str,
    ) -> None:
        self._disk = disk
        self._data = data
        self._accounts = accounts
        self._drop = drop
        self._spool = spool
        self._arrivals = arrivals
        self._boot = boot
        self.spill = os.path.join(data, "journal", "spill")
        self._scratch = os.path.join(data, "journal", "scratch")

    def apply(self, loaded: Sequence[Loaded], writers: frozenset[int] | None) -> list[Owed]:
        """Do what the records of `writers` say, or all. Returns what could not be done."""
        story = Story(self._boot, loaded, writers)
        owed: list[Owed] = []
        for account, target in story.removed.items():
            if not self._disk.exists(os.path.join(self._data, target)):
                self.remove_account(account, target)
        for account in sorted(story.accounts):
            owed += self._account(
                account,
                story.wanted.get(account, {}),
                {folder: list(bases) for folder, bases in story.gone.get(account, {}).items()},
                story.folders.get(account, {}),
            )
        return owed + self._queue(story, writers)

    def apply_to_queue(self, loaded: Sequence[Loaded]) -> list[Owed]:
        """Do what all records say of the queue, whose rows were lost. Returns what could not be done."""
        return self._queue(Story(self._boot, loaded, None), None)

    # -- accounts and folders that are over

    def remove_account(self, account: str, target: str) -> None:
        """Move its mail to `target` (below the data directory). Never raises."""
        try:
            store = self._accounts(account)
            # Before it goes: who has it open makes nothing of it again, and is told.
            store.end()
            self._drop(account)
            if self._disk.exists(store.home):
                make_directories(self._disk, os.path.dirname(os.path.join(self._data, target)))
                self._disk.rename(store.home, os.path.join(self._data, target))
        except Exception as error:
            _log.error("{account} could not be moved: {error}", account=account, error=str(error))

    def remove_folder(self, meta: dict[str, Any]) -> Owed | None:
        """Move a folder out of its account. Gives what is still to be done."""
        try:
            target = os.path.join(self._data, meta["target"])
            self._accounts(meta["account"]).folders.remove(meta["folder"], target)
        except AccountOver:
            pass
        except Exception as error:
            _log.error(
                "a folder of {account} is still there: {error}",
                account=meta["account"],
                error=str(error),
            )
            return Owed(Kind.FOLDER_REMOVED, meta, (), self._boot)
        return None

    # -- mailboxes

    def _account(
        self,
        account: str,
        wishes: Mapping[str, Wish],
        gone: Mapping[str, Sequence[str]],
        folders: Mapping[str, str],
    ) -> list[Owed]:
        owed: list[Owed] = []
        try:
            left: Sequence[str] = self._settle(account, wishes, gone, folders)
        except Exception as error:
            _log.error("mailbox {account} not settled: {error}", account=account, error=str(error))
            left = [base for base, wish in wishes.items() if wish.left or not wish.filled]
            for folder, bases in gone.items():
                meta = removing(account, folder, bases, noticed=False)
                owed.append(Owed(Kind.REMOVE, meta, (), self._boot))
        moves: dict[tuple[str, str], list[str]] = {}
        for base in left:
            wish = wishes[base]
            for folder in wish.left:
                moves.setdefault((folder, wish.folder), []).append(base)
            if wish.piece is not None and wish.place is not None and not wish.filled:
                # Of another boot stays of another boot: what is there has to be checked then, too.
                boot = "" if wish.elsewhere else self._boot
                meta = accepted(wish.piece.meta, [wish.place._replace(folder=wish.folder)])
                owed.append(Owed(Kind.ACCEPT, meta, [bytes(wish.piece.content)], boot))
        owed += [
            Owed(Kind.MOVE, moving(account, *course, bases), (), self._boot)
            for course, bases in moves.items()
        ]
        for folder, target in folders.items():
            meta = {"account": account, "folder": folder, "target": target}
            if (again := self.remove_folder(meta)) is not None:
                owed.append(again)
        return owed

    def _settle(
        self,
        account: str,
        wishes: Mapping[str, Wish],
        gone: Mapping[str, Sequence[str]],
        folders: Mapping[str, str],
    ) -> list[str]:
        """The bases of those that are not where they are to be."""
        if not gone and not folders and all(map(_arrives, wishes.values())):
            return self._arrived(account, wishes)
        wanted: list[Wanted] = []
        sources: dict[int, InlineSource | SpilledSource] = {}
        removed = {folder: os.path.join(self._data, to) for folder, to in folders.items()}
        try:
            for base, wish in wishes.items():
                source = None
                if wish.piece is not None and wish.place is not None:
                    source = sources.get(id(wish.piece)) or self._source(wish.piece, wish.place)
                    if source is not None:
                        sources[id(wish.piece)] = source
                if source is None and not wish.left:
                    continue
                flags, date = (wish.place.flags, wish.place.date) if wish.place else (None, None)
                if source is not None:
                    date = source.date
                filling = Filling(wish.folder, base, source, flags, date)
                wanted.append(Wanted(filling, wish.elsewhere, wish.left, wish.filled))
            try:
                failed = self._accounts(account).settle(wanted, gone, removed)
            except AccountOver:
                # Another one of that name may have been made since; what has no content makes none.
                if not sources:
                    return []
                failed = self._accounts(account).settle(wanted, gone, removed)
        finally:
            for one in sources.values():
                one.close()
        for filling, reason in failed:
            _not_delivered(filling.base, account, reason)
        return [filling.base for filling, _ in failed]

    def _arrived(self, account: str, wishes: Mapping[str, Wish]) -> list[str]:
        """As `_settle`, for an account that mail has arrived for and nothing else: no index is opened. A start may
        meet very many of them; those whose mail is filled on this boot it does not even look at."""
        todo = {base: wish for base, wish in wishes.items() if not wish.filled}
        if not todo:
            return []
        failed: list[str] = []
        self._arrivals.complete(account)
        store = self._accounts(account)
        if store.gone():
            # Another account of that name is there by now, with a lock of its own.
            store = self._accounts(account)
        with store.files.alone():
            there: dict[str, str] | None = None
            for base, wish in todo.items():
                assert wish.piece is not None
                source = self._source(wish.piece, wish.place)
                if source is None:
                    continue
                try:
                    name = maildir.arriving(base, source.size, source.wire, source.ascii)
                    path: str | None = os.path.join(store.maildir, "new", name)
                    if not self._disk.exists(str(path)):
                        there = there or _everything(self._disk, store.maildir)
                        path = there.get(base)
                    if path is None:
                        self._arrivals.fill(account, base, source)
                    elif wish.elsewhere:
                        source.mend(path)
                except (OSError, MailError) as error:
                    _not_delivered(base, account, error)
                    failed.append(base)
                finally:
                    source.close()
        return failed

    def _source(self, piece: Piece, place: Place | None) -> InlineSource | SpilledSource | None:
        meta = piece.meta
        sizes: dict[str, Any] = {
            "size": meta["size"],
            "wire": meta["wire"],
            "ascii_size": meta.get("ascii"),
            "crc": _crc(meta, piece.content),
            "date": None if place is None else _date(place),
        }
        if not meta.get("spill"):
            return InlineSource(self._disk, self._scratch, [bytes(piece.content)], **sizes)
        path = os.path.join(self.spill, meta["spill"])
        if not self._disk.exists(path):
            _log.error("the spill file {path} is gone", path=path)
            return None
        return SpilledSource(self._disk, path, **sizes)

    # -- the queue

    def _queue(self, story: Story, writers: frozenset[int] | None) -> list[Owed]:
        items: list[Item] = []
        sources: list[InlineSource | SpilledSource] = []
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
                item = Item(None, None, changes, again=writers is not None)
                items.append(item)
                if found is None or found.meta["queue"]["id"] in known:
                    continue
                try:
                    source = self._source(Piece(found.meta, found.content), None)
                    if source is not None:
                        sources.append(source)
                        item.crc = _crc(found.meta, found.content) if elsewhere else None
                        item.message = QueuedMessage.from_json(found.meta["queue"])
                        item.source = source
                except Exception as error:
                    # It is parked: what cannot be understood is no reason to forget it.
                    item.error = error
            if items:
                self._spool.settle(items)
        finally:
            for one in sources:
                one.close()
        return self._owed_queue(story, items)

    def _owed_queue(self, story: Story, items: Sequence[Item]) -> list[Owed]:
        owed: list[Owed] = []
        for (found, elsewhere, changes), item in zip(story.queue, items, strict=True):
            if item.error is None:
                continue
            _log.error("the queue is not settled: {error}", error=str(item.error))
            boot = "" if elsewhere else self._boot
            if found is not None:
                meta = accepted(found.meta, (), queue=True)
                if item.applied:
                    meta.pop("changes", None)
                owed.append(Owed(Kind.ACCEPT, meta, [bytes(found.content)], boot))
            else:
                meta = {"changes": [change.to_json() for change in changes]}
                owed.append(Owed(Kind.CHANGE, meta, (), boot))
        return owed


def _crc(meta: dict[str, Any], content: bytes | memoryview) -> int | None:
    crc: int | None = meta["crc"]
    # The record's own has vouched for what stands in it.
    return zlib.crc32(content) if crc is None and not meta.get("spill") else crc


def _arrives(wish: Wish) -> bool:
    """Whether it is only mail that has arrived in the inbox."""
    place = wish.place
    return (
        wish.piece is not None
        and place is not None
        and not (place.folder or wish.folder or wish.left)
        and place.flags is None
    )


def _everything(disk: Disk, path: str) -> dict[str, str]:
    """base → path of every message of an account. readdir(3): a file that is renamed meanwhile may be missed, so all
    is read twice."""
    return {
        base: os.path.join(folder, *place)
        for _ in range(2)
        for folder in maildir.folders(disk, path)
        for base, place in maildir.listing(disk, folder).items()
    }


def _not_delivered(base: str, account: str, reason: Exception) -> None:
    _log.error(
        "{base} of {account} not delivered: {error}", base=base, account=account, error=str(reason)
    )


def _date(place: Place) -> int | None:
    """When it came: a file that is written anew was not modified now. Base names begin with the time of arrival."""
    if place.date is not None:
        return place.date
    head = place.base.partition(".")[0]
    return int(head) if head.isascii() and head.isdigit() and len(head) < 12 else None
