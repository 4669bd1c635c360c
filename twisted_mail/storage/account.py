"""One account's mail on the disk, as storage's other rooms use it: every method blocks, and may be called in any
thread.

The parts: `storage.home` (lock, index, where folders are), `storage.filling` (messages in and out), `storage.folders`
(the folders themselves); what is read of a folder, and its flags, are here. Other programs know nothing of the lock and
may move or delete files at any moment; `refresh` finds out what they did.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Collection, Sequence

from ..disk import Disk
from ..mailboxes import Added, Snapshot, Status, StoreMode
from . import kept, maildir, scan
from .filling import Filler, Filling, Source, Wanted
from .flags import info_of
from .folder import MAX_TOLD, Folder, FolderChange, read_keywords
from .folders import Folders, nonexistent
from .home import Home, Locked
from .inboxes import hold, settled
from .index import UNSEEN, Row, RowTuple

__all__ = ["AccountStore", "Filling", "Source", "Wanted"]

MANY = 200
FEW_OF = 10
"""More names than `MANY`, and than one in so many of a folder's, are not looked at one by one."""
PIECE = 4096
"""Rows that are read at once: the interpreter is not held for longer."""


class AccountStore:
    """The mail of one account. `home` is its directory, below `top`; `generation` counts the site's unclean stops."""

    def __init__(
        self,
        disk: Disk,
        home: str,
        *,
        generation: int,
        now: Callable[[], float],
        entropy: Callable[[int], bytes],
        top: str = "",
    ) -> None:
        self._disk = disk
        self._home = Home(disk, home, generation=generation, now=now, entropy=entropy, top=top)
        self.filler = Filler(self._home)
        self.folders = Folders(self._home)
        self._caught_up = 0
        """The modification time of the inbox's ``new`` when all that was in it had its UID."""
        self.home = home
        self.files = self._home
        """Its lock and directories, for who works on the account as a whole."""
        self.maildir = self._home.maildir
        self.prepare = self._home.prepare
        self.release = self._home.release
        self.retire = self._home.retire
        self.gone = self._home.gone
        self.end = self._home.end
        self.locked = self._home.locked
        self.fill = self.filler.fill
        self.remove = self.filler.remove
        self.forget = self.filler.forget
        self.settle = self.filler.settle
        self.move = self.filler.move

    @property
    def inbox(self) -> str:
        """The inbox's folder id; known after `prepare`."""
        return self._home.inbox

    @property
    def over(self) -> bool:
        """The account was removed; one that is made in its place has a store of its own."""
        return self._home.over

    def publish_to(
        self,
        listener: Callable[[FolderChange], None] | None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        """Tell `listener` of every change that this process makes, in their order, with the lock held; and `ended`,
        once, when the account is over."""
        self._home.published = listener
        self._home.ended = ended

    def hold_inbox(self) -> int:
        """Take the lock of the one session that may write the inbox; close the descriptor to give it up.

        Raises MailError with ``pop3="IN-USE"``.
        """
        return hold(self._disk, self.home)

    # -- what is there

    def refresh(self, folder: str = "") -> list[str]:
        """Bring a folder's rows to what the Maildir has now. Gives the bases that another program took away.

        The rows of what was taken away stay until `forget` is called for them: their going has to be
        in the journal first, or a replay would bring them back.
        """
        with self.locked() as locked:
            found = _place(locked, folder)
            path, row = found.path, found.row
            before = scan.marks(self._disk, path)
            # Asked now: what changes while we look must not be taken for seen.
            sure = settled(self._disk, before)
            if before == (row.new_mark, row.cur_mark):
                return []
            scan.number_new(self._disk, found)
            found.write()
            rows = locked.index.rows(row.key)
        if not scan.agrees(self._disk, path, rows):
            return self._reconcile(folder)
        if sure or row.new_mark == UNSEEN:
            with self.locked() as locked:
                # The index may have been lost meanwhile.
                if _place(locked, folder).row == row:
                    locked.index.set_marks(row.key, *(before if sure else (0, 0)))
        return []

    def refreshed(self, folder: str = "") -> tuple[list[str], Snapshot | None]:
        """`refresh`, and the snapshot when nothing was taken away: mostly who opens a mailbox waits for one thread."""
        gone = self.refresh(folder)
        return gone, None if gone else self.snapshot(folder)

    def catch_up_before(self) -> None:
        """`catch_up` for who puts something into the inbox: what arrived before has the lower UIDs. Mostly that is
        known to be so."""
        mark = self._disk.stat(f"{self.maildir}/new").st_mtime_ns
        if mark != self._caught_up:
            # Asked now: what comes while we look must not be taken for seen.
            sure = settled(self._disk, (mark,))
            self.catch_up()
            self._caught_up = mark if sure else 0

    def catch_up(self) -> int:
        """Give UIDs and rows to what has arrived in the inbox; how many names are in ``new``. Makes no account."""
        with self.locked(make=False) as locked:
            place = locked.folder("")
            listed = scan.number_new(self._disk, place)
            unseen = place.row.new_mark == UNSEEN
        if unseen:
            # What is gone is noticed by who looks: it has to be in the journal.
            self._reconcile("")
        return listed

    def examine(self, folder: str, names: Collection[tuple[str, str]]) -> list[str]:
        """As `refresh`, when something happened to these files (``new`` or ``cur``, name): mostly, we did it."""
        with self.locked() as locked:
            place = _place(locked, folder)
            many = len(names) > MANY and FEW_OF * len(names) > locked.index.count(place.row.key)
        if many:
            # To compare everything at once is less than each of them by itself.
            return self.refresh(folder)
        with self.locked() as locked:
            place = _place(locked, folder)
            scan.number(self._disk, place, self._arrived(place, names))
            place.write()
            known = place.row.new_mark != UNSEEN and all(
                self._agrees(locked, place, sub, name) for sub, name in names
            )
        return [] if known else self.refresh(folder)

    def _arrived(self, place: Folder, names: Collection[tuple[str, str]]) -> list[str]:
        """Those that are mail which another process has put there."""
        return [
            name
            for sub, name in names
            if sub == "new"
            and maildir.is_arriving(name)
            and self._disk.exists(f"{place.path}/new/{name}")
        ]

    def _agrees(self, locked: Locked, place: Folder, sub: str, name: str) -> bool:
        if scan.plain_name(name) != name:
            return False  # It gets another name when everything is looked at.
        row = locked.index.by_base(place.row.key, maildir.base_of(name))
        there = self._disk.exists(os.path.join(place.path, sub, name))
        if row is None:
            return not there
        if (row.sub, row.name) == (sub, name):
            return there
        # An older name of it
        return not there and self._disk.exists(os.path.join(place.path, row.sub, row.name))

    def rows(self, folder: str = "") -> list[RowTuple]:
        """The messages of a folder, as the index has them."""
        with self.locked() as locked:
            return locked.index.rows(_place(locked, folder).row.key)

    def _reconcile(self, folder: str) -> list[str]:
        with self.locked() as locked:
            place = _place(locked, folder)
            path = place.path
            found = scan.readable(self._disk, path, maildir.listing(self._disk, path))
            rows = locked.index.whole_rows(place.row.key)
            found = scan.parted(self._disk, path, found, rows, self._home.fresh_base)
            uidlist = None
            if place.state.taken_over and len(found) > len(rows):
                uidlist = self._home.uidlist(path)
                self._home.forget_uidlist()
            change = scan.adopt(self._disk, place, found, rows, uidlist, int(self._home.now()))
            locked.index.moved(place.row.key, change.moved)
            for uid, bits in change.flagged:
                place.flag(uid, bits)
            if place.row.new_mark == UNSEEN:
                locked.index.set_marks(place.row.key, 0, 0)
        gone = [row.base for row in rows if row.base not in found]
        if gone:
            # readdir(3): a file that is renamed while the directory is read may be missed. Look again.
            found = maildir.listing(self._disk, path)
            gone = [base for base in gone if base not in found]
        return gone

    def snapshot(self, folder: str) -> Snapshot:
        """A folder as its rows are now."""
        with self.locked() as locked:
            place = _place(locked, folder)
            if place.row.new_mark != UNSEEN:
                return self._snapshot(locked, place)
        # The index was lost, perhaps a moment ago: who has it open is not told that all messages are gone.
        self.refresh(folder)
        with self.locked() as locked:
            return self._snapshot(locked, _place(locked, folder))

    def _snapshot(self, locked: Locked, place: Folder) -> Snapshot:
        key = place.row.key
        found = self._from_kept(locked, place)
        if found is None:
            snapshot = _snapshot(place, place.modseq, _read(locked, key))
            changes = len(snapshot)
        else:
            snapshot, changes = found
        if kept.is_much(changes, len(snapshot)):
            kept.save(locked.index, key, place.modseq, _columns(snapshot))
        return snapshot

    def _from_kept(self, locked: Locked, place: Folder) -> tuple[Snapshot, int] | None:
        """What was kept, brought up to date, and how many changes that were; None: the rows are to be read."""
        known = kept.load(locked.index, place.row.key)
        if known is None:
            return None
        snapshot = _snapshot(place, *known)
        if snapshot.modseq == place.modseq:
            return snapshot, 0
        change = self._since(locked, place, snapshot)
        if change is None:
            return None
        snapshot = snapshot.after(
            modseq=change.modseq,
            added=change.added,
            changed=change.changed,
            expunged=change.expunged,
        )
        # A file that came back has its old UID: it is no change of a message that is there.
        if len(snapshot) != locked.index.count(place.row.key):
            return None
        changes = len(change.added) + len(change.changed) + len(change.expunged)
        return _snapshot(place, place.modseq, _columns(snapshot)), changes

    def since(self, folder: str, snapshot: Snapshot) -> FolderChange | None:
        """What happened since `snapshot`, whoever did it; None when that cannot be told."""
        with self.locked() as locked:
            return self._since(locked, _place(locked, folder), snapshot)

    def _since(self, locked: Locked, place: Folder, snapshot: Snapshot) -> FolderChange | None:
        row = place.row
        if place.state.validity != snapshot.validity or row.floor > snapshot.modseq:
            return None
        if row.modseq == snapshot.modseq:
            return FolderChange(place.state.folder, row.modseq, row.uidnext, (), (), (), None)
        changed = locked.index.whole_rows(row.key, snapshot.modseq, MAX_TOLD + 1)
        if len(changed) > MAX_TOLD:
            return None
        gone = locked.index.vanished(row.key, snapshot.modseq)
        top = snapshot.uids[-1] if snapshot.uids else 0
        return FolderChange(
            place.state.folder,
            row.modseq,
            row.uidnext,
            [
                Added(one.uid, one.flags, one.modseq, one.wire, one.date)
                for one in changed
                if one.uid > top
            ],
            [(one.uid, one.flags, one.modseq) for one in changed if one.uid <= top],
            gone,
            place.keywords,
        )

    def vanished(self, folder: str, since: int) -> list[int] | None:
        """UIDs expunged after the mod-sequence `since`; None when that is not known any more."""
        with self.locked() as locked:
            row = _place(locked, folder).row
            return None if row.floor > since else locked.index.vanished(row.key, since)

    def found(self, folder: str, uids: Sequence[int]) -> tuple[str, list[Row]]:
        """The folder's directory, and the rows of those messages that are known, in the order of their UIDs."""
        with self.locked() as locked:
            place = _place(locked, folder)
            rows = chosen(locked, place, uids)
        if len(rows) < len(uids):
            # Gone; or the index was lost while somebody has the folder open.
            self.refresh(folder)
            with self.locked() as locked:
                place = _place(locked, folder)
                rows = chosen(locked, place, uids)
        return place.path, rows

    def validity(self, folder: str) -> int:
        """UIDVALIDITY."""
        with self.locked():
            known = self._home.find(folder)
            return known[1].validity if known is not None else 0

    def status(self, folder: str) -> Status:
        """Numbers, as the rows have them."""
        with self.locked() as locked:
            return _status(locked, _place(locked, folder))

    def settled_status(self, folder: str) -> Status | None:
        """The same in one look, when the rows are known to agree with the Maildir; None: `refresh` comes first."""
        with self.locked() as locked:
            place = _place(locked, folder)
            known = (place.row.new_mark, place.row.cur_mark)
            return _status(locked, place) if scan.marks(self._disk, place.path) == known else None

    def refreshed_status(self, folder: str) -> tuple[list[str], Status | None]:
        """`refresh`, and the status when nothing was taken away: who asks for many waits for one thread each."""
        found = self.settled_status(folder)
        if found is not None:
            return [], found
        gone = self.refresh(folder)
        return gone, None if gone else self.status(folder)

    def usage(self) -> tuple[int, int]:
        """Octets as stored, and number of all messages of the account, also of what has just arrived: who has a quota
        has his rows at once, but not what came before he had one, or by who did not know of it."""
        self.prepare()
        self.catch_up_before()
        with self.locked() as locked:
            return locked.index.usage()

    # -- flags

    def store(
        self,
        folder: str,
        uids: Sequence[int],
        mode: StoreMode,
        names: Sequence[str],
        unchanged_since: int | None = None,
    ) -> tuple[int, list[int]]:
        """Change flags: (mod-sequence, UIDs that had changed since). Raises MailError imap="LIMIT"."""
        with self.locked() as locked:
            place = _place(locked, folder)
            rows = chosen(locked, place, uids)
            if len(rows) == len(uids):
                return self._mark(locked, place, rows, mode, names, unchanged_since)
        self.refresh(folder)  # As in `found`
        with self.locked() as locked:
            place = _place(locked, folder)
            rows = chosen(locked, place, uids)
            return self._mark(locked, place, rows, mode, names, unchanged_since)

    def _mark(
        self,
        locked: Locked,
        place: Folder,
        rows: Sequence[Row],
        mode: StoreMode,
        names: Sequence[str],
        unchanged_since: int | None,
    ) -> tuple[int, list[int]]:
        failed: list[int] = []
        # To take a keyword away makes none.
        bits = place.bits(
            [name for name in names if mode is not StoreMode.REMOVE or place.knows(name)]
        )
        there: dict[str, tuple[str, str]] | None = None
        adding, removing = mode is StoreMode.ADD, mode is StoreMode.REMOVE
        path, move = place.path, self._disk.rename
        cur = f"{path}/cur/"
        # Most names end in one of a few ways: (what stands behind the colon, the flags wanted) → what shall stand there
        ends: dict[tuple[str, int], str] = {}
        for uid, base, sub, old, _, _, _, _, flags, modseq, _, _ in rows:
            if unchanged_since is not None and modseq > unchanged_since:
                failed.append(uid)
                continue
            wanted = flags | bits if adding else flags & ~bits if removing else bits
            if wanted == flags:
                continue
            plain, _, info = old.partition(":")
            end = ends.get((info, wanted))
            if end is None:
                end = ends[info, wanted] = info_of(f":{info}", wanted)
            name = plain + end
            try:
                move(f"{path}/{sub}/{old}", cur + name)
            except FileNotFoundError:
                # Another program was faster: on what it made of it our change is made.
                if there is None:
                    there = maildir.listing(self._disk, path)
                if base not in there:
                    continue
                sub, old = there[base]
                name = old.partition(":")[0] + info_of(old, wanted)
                move(f"{path}/{sub}/{old}", cur + name)
            place.rename(uid, wanted, sub, old, name)
        return place.modseq, failed

    def keywords(self, folder: str) -> tuple[str, ...]:
        """The names of a folder's keywords, by number."""
        with self.locked() as locked:
            return read_keywords(self._disk, _place(locked, folder).path)


def _place(locked: Locked, folder: str) -> Folder:
    """A folder by its id. Raises MailError imap="NONEXISTENT": another one will not do, where UIDs are meant."""
    found = locked.folder(folder) if not folder else locked.existing(folder)
    if found is None:
        raise nonexistent()
    return found


def _read(locked: Locked, key: int) -> kept.Columns:
    uids, flags, modseqs = array("I"), array("I"), array("Q")
    sizes, dates = array("Q"), array("q")
    cursor = locked.index.numbers(key)
    while piece := cursor.fetchmany(PIECE):
        columns = list(zip(*piece, strict=True))
        uids.extend(columns[0])
        flags.extend(columns[1])
        modseqs.extend(columns[2])
        sizes.extend(columns[3])
        dates.extend(columns[4])
    return uids, flags, modseqs, sizes, dates


def _columns(snapshot: Snapshot) -> kept.Columns:
    return snapshot.uids, snapshot.flags, snapshot.modseqs, snapshot.sizes, snapshot.dates


def _snapshot(place: Folder, modseq: int, columns: kept.Columns) -> Snapshot:
    uids, flags, modseqs, sizes, dates = columns
    return Snapshot(
        validity=place.state.validity,
        uidnext=place.uidnext,
        modseq=modseq,
        uids=uids,
        flags=flags,
        modseqs=modseqs,
        sizes=sizes,
        dates=dates,
        keywords=place.keywords,
    )


def _status(locked: Locked, place: Folder) -> Status:
    messages, unseen, deleted, octets, condemned = locked.index.totals(place.row.key)
    return Status(
        messages,
        unseen,
        deleted,
        octets,
        place.uidnext,
        place.state.validity,
        place.modseq,
        place.state.folder,
        condemned,
    )


def chosen(locked: Locked, place: Folder, uids: Sequence[int]) -> list[Row]:
    """The rows of these messages (ascending UIDs) that are known."""
    if not uids:
        return []
    key = place.row.key
    first, last = uids[0], uids[-1]
    if last - first > 4 * len(uids) + 64:
        # Few among many: one by one.
        rows = [locked.index.by_uid(key, uid) for uid in uids]
        return [row for row in rows if row is not None]
    wanted = frozenset(uids)
    return [row for row in locked.index.among(key, first, last) if row.uid in wanted]
