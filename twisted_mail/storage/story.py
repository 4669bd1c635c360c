"""Journal records read in their order: what has to be there at the end, and what has not. Pure; no disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .queued import Change
from .record import Kind, Place, Record
from .segments import Loaded

__all__ = ["Story"]


class Story:
    """What the records of `writers`, or all, come to. `boot` is the boot id of now.

    `wanted`, by account: the places to be filled, with their record and whether it is of another boot.
    `gone`, by account and folder: the bases that must not be there. Removals count whoever wrote them.
    `queue`: what those writers' records say of it, in their order: a record with its boot (ACCEPT) and changes; and
    what others changed after them of the same messages, which has the last word.
    `mentioned`: the queued messages that anybody's changes are about.
    """

    def __init__(self, boot: str, loaded: Sequence[Loaded], writers: frozenset[int] | None) -> None:
        self.accounts: set[str] = set()
        self.wanted: dict[str, dict[Place, tuple[Record, bool]]] = {}
        self.gone: dict[str, dict[str, dict[str, None]]] = {}
        self.removed: dict[str, str] = {}
        """Accounts that are over, and where their mail goes."""
        self.queue: list[tuple[Record | None, bool, list[Change]]] = []
        self.mentioned: set[str] = set()
        changed: set[str] = set()
        void = {
            (found.meta["writer"], sequence)
            for segment in loaded
            for found in segment.records
            if found.kind is Kind.VOID
            for sequence in range(found.meta["first"], found.meta["last"] + 1)
        }
        for segment in loaded:
            for found in segment.records:
                if (found.writer, found.sequence) in void:
                    continue
                ours = writers is None or found.writer in writers
                if found.kind in (Kind.ACCEPT, Kind.CHANGE):
                    self._queued(found, segment.boot != boot, ours, changed)
                if found.kind is Kind.ACCEPT and ours:
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

    def _queued(self, found: Record, elsewhere: bool, ours: bool, changed: set[str]) -> None:
        """`changed`: the messages that our changes so far are about."""
        changes = list(map(Change.from_json, found.meta.get("changes") or ()))
        about = {change.message for change in changes}
        self.mentioned |= about
        added = None
        if ours:
            changed |= about
            added = found if found.meta.get("queue") else None
        elif changes:
            # A hold done again would undo the release that came after it.
            changes = [change for change in changes if change.message in changed]
        if changes or added is not None:
            self.queue.append((added, elsewhere, changes))

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
