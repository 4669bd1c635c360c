"""Journal records read in their order: what has to be there at the end, and what has not. Pure; no disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .queued import Change, QueuedMessage, State
from .record import Kind, Piece, Place, Record
from .segments import Loaded

__all__ = ["Story", "Wish", "queued"]


@dataclass(slots=True, eq=False)
class Wish:
    """Where a message is to be at the end: in `folder`, and not in those that it has `left`.

    A file that is in one of those was not moved yet; one that is anywhere else was moved by another program, and stays.
    `piece`: what to write when the message is not there at all, with the flags and the date of `place`; None when it
    is only moved. `elsewhere`: written under another boot, so that a file that is there may be damaged. `filled`: it
    was put in its place on this boot, so when it is nowhere, another program deleted it.
    """

    folder: str
    place: Place | None = None
    piece: Piece | None = None
    elsewhere: bool = False
    filled: bool = False
    left: set[str] = field(default_factory=set)
    ours: bool = False


class Story:
    """What the records of `writers`, or all, come to. `boot` is the boot id of now.

    `wanted`, by account and base: where messages are to be.
    `gone`, by account and folder: the bases that must not be there. Removals count whoever wrote them.
    `folders`, by account: folders that are over, and where they go.
    `queue`: what those writers' records say of it, in their order: a piece with the queued message and its boot
    (ACCEPT), and changes; and what others changed after them of the same messages, which has the last word. Whether
    somebody is held is said once, as it was decided last: a hold done again would take him out of the runner's hand,
    and the release after it would give him out once more.
    `mentioned`: the queued messages that anybody's changes are about.

    Folders are those that the records name. Mail for a folder that is over by then is in the inbox.
    """

    def __init__(self, boot: str, loaded: Sequence[Loaded], writers: frozenset[int] | None) -> None:
        self.accounts: set[str] = set()
        self.wanted: dict[str, dict[str, Wish]] = {}
        self.gone: dict[str, dict[str, dict[str, None]]] = {}
        self.folders: dict[str, dict[str, str]] = {}
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
                self._read(found, segment.boot != boot, ours, changed, segment.filled)
        self.queue = _decided(self.queue)
        for account, wishes in self.wanted.items():
            self.wanted[account] = {base: wish for base, wish in wishes.items() if wish.ours}
            if self.wanted[account]:
                self.accounts.add(account)

    def _read(
        self,
        found: Record,
        elsewhere: bool,
        ours: bool,
        changed: set[str],
        filled_to: Mapping[int, int],
    ) -> None:
        kind, meta = found.kind, found.meta
        if kind in (Kind.ACCEPT, Kind.CHANGE):
            self._queued(found, elsewhere, ours, changed)
        if kind in (Kind.ACCEPT, Kind.FILE):
            if ours:
                filled = not elsewhere and found.sequence <= filled_to.get(found.writer, -1)
                self._accepted(found, elsewhere, filled)
            for account, folder, bases in meta.get("removes") or ():
                self._left(account, folder, bases, noticed=False)
        elif kind is Kind.REMOVE:
            self._left(meta["account"], meta.get("in", ""), meta["bases"], meta["noticed"])
        elif kind is Kind.MOVE:
            self._moved(meta["account"], meta["from"], meta["to"], meta["bases"], ours)
        elif kind is Kind.FOLDER_REMOVED:
            self._folder_over(meta["account"], meta["folder"], meta["target"])
        elif kind is Kind.ACCOUNT_REMOVED:
            self._over(meta["account"], meta["target"])

    def _accepted(self, found: Record, elsewhere: bool, filled: bool) -> None:
        for piece, places in found.pieces():
            for place in places:
                self.accounts.add(place.account)
                self.removed.pop(place.account, None)
                folder = self._standing(place.account, place.folder)
                wanted = self.wanted.setdefault(place.account, {})
                # What was parked is met first, and is not in its place, whatever was done with the batch.
                parked = place.base in wanted
                wanted[place.base] = Wish(
                    folder, place, piece, elsewhere, filled and not parked, ours=True
                )

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

    def _left(self, account: str, folder: str, bases: Iterable[str], noticed: bool) -> None:
        self.accounts.add(account)
        if folder in self.folders.get(account, ()):
            return
        wishes = self.wanted.get(account, {})
        for base in bases:
            wish = wishes.get(base)
            if wish is not None:
                if not noticed and wish.left and folder != wish.folder:
                    continue  # Who removed it did not know that it had been moved: nothing was there to remove.
                del wishes[base]
            if not noticed:
                self._is_gone(account, (folder, *(wish.left if wish is not None else ())), base)

    def _is_gone(self, account: str, folders: Iterable[str], base: str) -> None:
        gone = self.gone.setdefault(account, {})
        for folder in folders:
            gone.setdefault(folder, {})[base] = None

    def _moved(self, account: str, folder: str, to: str, bases: Iterable[str], ours: bool) -> None:
        if folder in self.folders.get(account, ()):
            return
        to = self._standing(account, to)
        wishes = self.wanted.setdefault(account, {})
        gone = self.gone.get(account, {})
        for base in bases:
            wish = wishes.get(base)
            if base in gone.get(folder, ()) or (wish is not None and folder in wish.left):
                continue  # Who moved it did not know that it had gone: nothing was there to move.
            if wish is None:
                wish = wishes[base] = Wish(to)
            wish.left |= {folder, wish.folder}
            wish.left.discard(to)
            wish.folder = to
            wish.ours = wish.ours or ours
            gone.get(to, {}).pop(base, None)

    def _standing(self, account: str, folder: str) -> str:
        # RFC 3501 section 5.1: mail always has an inbox to go to.
        return "" if folder in self.folders.get(account, ()) else folder

    def _folder_over(self, account: str, folder: str, target: str) -> None:
        self.accounts.add(account)
        self.folders.setdefault(account, {})[folder] = target
        self.gone.get(account, {}).pop(folder, None)
        wishes = self.wanted.get(account, {})
        for base in [base for base, wish in wishes.items() if wish.folder == folder]:
            # A power cut may have left it where it was before.
            self._is_gone(account, wishes.pop(base).left, base)

    def _over(self, account: str, target: str) -> None:
        self.accounts.discard(account)
        for known in (self.wanted, self.gone, self.folders):
            known.pop(account, None)
        self.removed[account] = target


def queued(loaded: Sequence[Loaded]) -> Iterator[QueuedMessage]:
    """The messages for elsewhere that records tell of, whatever became of them."""
    for segment in loaded:
        for found in segment.records:
            if found.kind is Kind.ACCEPT and found.meta.get("queue"):
                yield QueuedMessage.from_json(found.meta["queue"])


def _decided(
    queue: Sequence[tuple[Record | None, bool, list[Change]]],
) -> list[tuple[Record | None, bool, list[Change]]]:
    """Without the holds and releases that another one came after."""
    later: set[tuple[str, int]] = set()
    kept: list[tuple[Record | None, bool, list[Change]]] = []
    for added, elsewhere, changes in reversed(queue):
        # The last one is met first.
        left = [_undecided(change, later) for change in reversed(changes)]
        kept.append((added, elsewhere, left[::-1]))
    return kept[::-1]


def _undecided(change: Change, later: set[tuple[str, int]]) -> Change:
    """A change without the holds and releases of those that are in `later`; the others are, from now on."""
    verdicts = []
    for verdict in change.verdicts:
        if verdict.state in (State.HELD, State.WAITING):
            key = (change.message, verdict.number)
            if key in later:
                continue
            later.add(key)
        verdicts.append(verdict)
    if len(verdicts) == len(change.verdicts):
        return change
    return replace(change, verdicts=tuple(verdicts))
