"""A Maildir that Dovecot served becomes an account's: same UIDVALIDITY, UIDs, flags, keywords, subscriptions, UIDLs.

A folder is taken over in three steps. Its files are copied beside the account's Maildir and synced, with nobody
waiting; or they stay where they are, to be linked. Then, with the account locked, they get their names in the Maildir,
with their UIDs in them, and their rows, all in one transaction: a session, or a delivery by the running server, comes
before or after it. At last what lies there is compared with what was taken.

``importing.json`` in the account's directory says that this is under way. Who was killed goes on where he was: copies
that are there are kept, and a message that is in its folder already is not put there again.

Everything here blocks. Nothing of Dovecot's is changed, but with `Method.MOVE` its messages are deleted at the end.
"""

from __future__ import annotations

import enum
import errno
import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Final

from ..disk import Disk
from . import maildir
from .account import AccountStore
from .dovecot import UIDLIST, UidList
from .files import file_digest
from .flags import bits_of, info_of, names_of
from .folder import Folder
from .home import Home
from .importing_copies import Copies, copy_name
from .importing_dovecot import DovecotFolder, DovecotMail, Item, NotForUsError, items, not_plain
from .index import Row
from .mailbox import uidl_of
from .maildir import FileName
from .progress import Progress, Quiet
from .scan import measure, plain_name

__all__ = ["Method", "Report", "TakeOver"]

MARK: Final = "importing.json"
_NOT_LINKED: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK})


class Method(enum.Enum):
    """How the files come over. A LINK is a further name of the same file; MOVE is one, too, where that can be, and the
    file is deleted where it was when everything has been compared."""

    COPY = "copy"
    LINK = "link"
    MOVE = "move"


@dataclass(slots=True)
class Report:
    """What became of a folder. `new`: files that Dovecot had not given a UID yet. `kept`: messages that were here."""

    name: str
    taken: int = 0
    octets: int = 0
    new: int = 0
    there: int = 0
    kept: int = 0
    changed: int = 0
    wrong: list[str] = field(default_factory=list)
    """Messages whose content is another than it was: an error of disk or memory."""


class TakeOver:
    """`source` into the account. `foreign` wraps what reads Dovecot's files, which may belong to somebody else;
    `owner` is who gets files that are moved. `uidl`: see `importing_dovecot.uidl_format`.
    """

    def __init__(
        self,
        disk: Disk,
        account: AccountStore,
        directory: str,
        source: DovecotMail,
        *,
        method: Method = Method.COPY,
        uses: Mapping[str, str] | None = None,
        uidl: Callable[[int, int, str], str] | None = None,
        progress: Progress | None = None,
        foreign: Callable[[], AbstractContextManager[object]] = nullcontext,
        give: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._disk = disk
        self._account = account
        self._home: Home = account.files
        self._directory = directory
        self._source = source
        self._method = method
        self._uses = dict(uses or {})
        self._uidl = uidl
        self._progress = progress or Quiet()
        self._foreign = foreign
        self._copying = method is Method.COPY
        self._give = give
        self._mark = os.path.join(account.home, MARK)
        self._copies = Copies(disk, account.home, directory, foreign)
        self.resumed = False

    # -- before

    def occupied(self) -> dict[str, int]:
        """The mailboxes of the account that hold messages, and how many."""
        found: dict[str, int] = {}
        for box in self._account.folders.all():
            gone = self._account.refresh(box.folder)
            count = len(self._account.rows(box.folder)) - len(gone)
            if count:
                found[box.name] = count
        return found

    def begin(self, *, merge: bool = False) -> list[str]:
        """See that it can be done, and make the mark. Gives the mailboxes that must be left out.

        Raises NotForUsError, with nothing changed.
        """
        self._account.prepare()
        with self._foreign():
            device = self._disk.stat(self._directory).st_dev
        if device != self._disk.stat(self._account.home).st_dev:
            if self._method is Method.LINK:
                raise NotForUsError(
                    f"{self._directory} is on another file system than {self._account.home}: "
                    "take a copy (--copy)"
                )
            self._copying = True
        text = maildir.read_small(self._disk, self._mark)
        if text is not None:
            under_way = json.loads(text)["source"]
            if under_way != self._directory:
                raise NotForUsError(
                    f"the import of {under_way} is not finished: give that directory, or, to "
                    f"leave it as it is, delete {self._mark}"
                )
            self.resumed = True
            return []
        occupied = self.occupied()
        if occupied and not merge:
            holds = ", ".join(f"{name}: {count}" for name, count in occupied.items())
            raise NotForUsError(
                f"the account holds mail already ({holds}). Its UIDs would have to change. With --merge, what is "
                "here goes on above Dovecot's UIDs, and clients that have seen it fetch it again; `mailctl "
                "import maildir` adds messages as new ones"
            )
        others: list[str] = []
        for folder in self._source.folders:
            box = self._account.folders.find(folder.name)
            known = self._home.find(box.folder) if box is not None else None
            if folder.name in occupied and known is not None:
                validity = folder.uidlist.validity if folder.uidlist is not None else 0
                if known[1].taken_over and known[1].validity != validity:
                    # Its clients rely on another Dovecot's numbers.
                    others.append(folder.name)
        mark = json.dumps({"source": self._directory, "method": self._method.value}).encode()
        maildir.write_small(self._disk, self._mark, mark + b"\n")
        return others

    # -- the work

    def run(self, left_out: Collection[str] = ()) -> list[Report]:
        """Take everything over. Raises OSError, MailError, NotForUsError, InterruptedImportError; it can go on then."""
        folders = [one for one in self._source.folders if one.name not in left_out]
        with self._foreign():
            work = [(folder, items(self._disk, folder)) for folder in folders]
        count = sum(len(found) for _, found in work)
        try:
            self._look(work, count)
        except BaseException:
            if not self.resumed:
                # Nothing has been done yet.
                self._disk.unlink(self._mark)
            raise
        if self._copying:
            self._copy_all(work, count)
        self._progress.begin("taking over", count, 0)
        self._free_uses({folder.name for folder in folders})
        reports = [self._take(folder, number, found) for number, (folder, found) in enumerate(work)]
        self._progress.end()
        self._subscribe()
        self._verify(work, reports, count)
        return reports

    def finish(self, reports: Collection[Report]) -> None:
        """Delete what is not needed any more; with `MOVE` the messages where they were, unless something is wrong."""
        if any(report.wrong for report in reports):
            return
        if self._method is Method.MOVE:
            with self._foreign():
                for folder in self._source.folders:
                    if folder.name in {report.name for report in reports}:
                        for item in items(self._disk, folder):
                            self._disk.unlink(os.path.join(folder.path, item.sub, item.name))
        self._copies.remove()
        self._disk.unlink(self._mark)
        self._disk.sync_directory(self._account.home)

    def _look(self, work: list[tuple[DovecotFolder, list[Item]]], count: int) -> None:
        """Every file can be read and is a message. Raises NotForUsError."""
        self._progress.begin("looking", count, 0)
        # What stays the other's file, too, has to be readable as it is.
        with nullcontext() if self._method is Method.LINK else self._foreign():
            for folder, found in work:
                for item in found:
                    path = os.path.join(folder.path, item.sub, item.name)
                    try:
                        head = maildir.read_small(self._disk, path, 16)
                    except PermissionError as error:
                        if self._method is not Method.LINK:
                            raise
                        raise NotForUsError(
                            f"{path} could not be read by the server if it were linked: take --copy or --move"
                        ) from error
                    reason = not_plain(head or b"")
                    if reason is not None:
                        raise NotForUsError(
                            f"{path}: {reason}; have Dovecot write plain files first: doveadm -o "
                            f"'mail_plugins=zlib' -o plugin/zlib_save= backup -u USER maildir:NEW-DIRECTORY"
                        )
                    self._progress.step(1, 0)
        self._progress.end()

    def _copy_all(self, work: list[tuple[DovecotFolder, list[Item]]], count: int) -> None:
        self._progress.begin("copying", count, 0)
        for number, (folder, found) in enumerate(work):
            done = set(self._listed(folder.name)) if self.resumed else set()
            for size in self._copies.make(number, folder, found, done):
                self._progress.step(1, size)
        self._copies.sync()
        self._progress.end()

    # -- into the Maildir

    def _take(self, folder: DovecotFolder, number: int, found: list[Item]) -> Report:
        report = Report(folder.name)
        box = self._account.folders.find(folder.name)
        use = self._uses.get(folder.name)
        create = self._account.folders.create
        id_ = box.folder if box is not None else create(folder.name, (use,) if use else ())
        # What can be known before: others wait while the account is locked.
        measured = {item.base: self._measure(folder, number, item) for item in found}
        with self._home.locked() as locked:
            path, state = self._known(id_)
            before = state
            there = maildir.listing(self._disk, path)
            if folder.uidlist is not None and state.validity != folder.uidlist.validity:
                self._adopt_numbers(
                    path, replace(state, special_use=self._with(state, use)), folder, found
                )
            elif use and use not in state.special_use:
                self._home.keep(path, replace(state, special_use=self._with(state, use)))
            place = locked.folder(id_)
            taken = {row.uid for row in locked.index.whole_rows(place.row.key)}
            again = before.validity == place.state.validity and not self.resumed
            for item in found:
                base = plain_name(item.base)
                if base in there:
                    report.there += 1
                elif again and before.taken_over and 0 < item.uid < before.taken_over:
                    # It came over once; its owner has moved or deleted it since.
                    report.there += 1
                else:
                    row = self._place(place, number, folder, item, base, taken, measured[item.base])
                    there[base] = (row.sub, row.name)
                    report.taken += 1
                    report.octets += row.size
                    report.new += not item.uid
            report.kept = len(there) - report.taken - (report.there if self.resumed else 0)
            for sub in ("new", "cur"):
                self._disk.sync_directory(os.path.join(path, sub))
        # What was here before gets new UIDs, above Dovecot's.
        self._account.refresh(id_)
        # Not within the transaction, which should not end halfway.
        self._progress.step(len(found), 0)
        return report

    def _free_uses(self, names: Collection[str]) -> None:
        """An empty folder of ours that was made for what another one is to be used for gives that up."""
        wanted = {use for name, use in self._uses.items() if name in names}
        for box in self._account.folders.all():
            if box.name in names or not wanted & set(box.special_use):
                continue
            with self._home.locked():
                path, state = self._known(box.folder)
                kept = tuple(use for use in state.special_use if use not in wanted)
                self._home.keep(path, replace(state, special_use=kept))

    def _known(self, id_: str) -> tuple[str, maildir.FolderState]:
        known = self._home.find(id_)
        if known is None:
            raise NotForUsError("a mailbox was removed meanwhile; begin again")
        # What another process knows of the inbox may be older than what the disk says.
        return known[0], maildir.read_state(self._disk, known[0]) or known[1]

    def _with(self, state: maildir.FolderState, use: str | None) -> tuple[str, ...]:
        if use is None or use in state.special_use:
            return state.special_use
        return (*state.special_use, use)

    def _adopt_numbers(
        self, path: str, state: maildir.FolderState, folder: DovecotFolder, found: list[Item]
    ) -> None:
        """UIDVALIDITY and the next UID; from here on the folder is Dovecot's of before."""
        uidlist = folder.uidlist
        assert uidlist is not None
        # The names of the files tell the UIDs, this one what POP3 called them: for an index made anew.
        names = {item.base: item.name.partition(":")[0] for item in found}
        lines = [f"3 V{uidlist.validity} N{uidlist.uidnext}"]
        for base, uid in uidlist.uids.items():
            own = self._own_uidl(uidlist, uid, names.get(base, base), base)
            lines.append(f"{uid} {f'P{own} ' if own else ''}:{plain_name(names.get(base, base))}")
        maildir.write_small(
            self._disk, os.path.join(path, UIDLIST), ("\n".join(lines) + "\n").encode()
        )
        self._home.forget_uidlist()
        state = replace(
            state,
            validity=uidlist.validity,
            uid_ceiling=uidlist.uidnext,
            taken_over=uidlist.uidnext,
        )
        self._home.keep(path, state)

    def _own_uidl(self, uidlist: UidList, uid: int, name: str, base: str) -> str | None:
        """What POP3 called a message, unless that is Dovecot's usual way."""
        own = uidlist.uidls.get(base)
        if own is None and self._uidl is not None:
            own = self._uidl(uid, uidlist.validity, name)
        return own

    def _where(self, folder: DovecotFolder, number: int, item: Item) -> tuple[str, str, str]:
        """Where a message's file is until it comes into its mailbox."""
        if self._copying:
            return self._copies.directory(number), "", copy_name(item)
        return folder.path, item.sub, item.name

    def _measure(self, folder: DovecotFolder, number: int, item: Item) -> Row | None:
        """Its sizes and date; None when it is not there: it came over before, or has vanished."""
        path = os.path.join(*self._where(folder, number, item))
        with nullcontext() if self._copying else self._foreign():
            if not self._disk.exists(path):
                return None
            where = self._where(folder, number, item)
            return measure(self._disk, *where, FileName.parse(item.name))

    def _place(
        self,
        place: Folder,
        number: int,
        folder: DovecotFolder,
        item: Item,
        base: str,
        taken: set[int],
        row: Row | None,
    ) -> Row:
        """One message gets its name and its row."""
        if row is None:
            path = os.path.join(folder.path, item.sub, item.name)
            raise NotForUsError(f"{path} has vanished: is Dovecot still running?")
        validity = place.state.validity
        theirs = folder.uidlist is not None and folder.uidlist.validity == validity
        uid = item.uid if theirs else 0
        if not 0 < uid < place.state.taken_over or uid in taken:
            uid = place.take_uid(max(taken, default=0) + 1)
            uidl = None
        else:
            assert folder.uidlist is not None
            own = self._own_uidl(folder.uidlist, uid, item.name.partition(":")[0], item.base)
            uidl = own or f"{uid:08x}{validity:08x}"
        taken.add(uid)
        flags = names_of(bits_of(item.name), folder.keywords)
        bits = place.bits(flags, lenient=True)
        # A message with a flag has been looked at.
        where = "new" if item.sub == "new" and not bits else "cur"
        info = info_of(item.name, bits) if where == "cur" else ""
        full = f"{FileName(base, row.size, row.wire, row.ascii, validity, uid)}{info}"
        if len(os.fsencode(full)) > 255:
            full = f"{base}{info}"
        self._bring(
            os.path.join(*self._where(folder, number, item)), os.path.join(place.path, where, full)
        )
        row = row._replace(
            uid=uid,
            base=base,
            sub=where,
            name=full,
            uidl=uidl if uidl != uidl_of(base) else None,
            flags=bits,
            modseq=place.touch(),
            saved=int(self._home.now()),
        )
        place.add(row)
        return row

    def _bring(self, path: str, target: str) -> None:
        if self._copying:
            self._disk.rename(path, target)
            return
        try:
            with self._foreign():
                self._disk.link(path, target)
                if self._method is Method.MOVE:
                    self._give(target)
        except OSError as error:
            if error.errno not in _NOT_LINKED:
                raise
            raise NotForUsError(
                f"{path} cannot be linked into {os.path.dirname(target)} ({error.strerror}): another file system? "
                "Take a copy (--copy)"
            ) from error

    def _subscribe(self) -> None:
        known = set(self._account.folders.subscriptions())
        for name in self._source.subscriptions:
            if name not in known:
                self._account.folders.subscribe(name, True)

    # -- afterwards

    def _listed(self, name: str) -> dict[str, tuple[str, str]]:
        box = self._account.folders.find(name)
        return maildir.listing(self._disk, box.path) if box is not None else {}

    def _verify(
        self, work: list[tuple[DovecotFolder, list[Item]]], reports: list[Report], count: int
    ) -> None:
        """What lies here is what was taken. A message that its owner has moved meanwhile is counted as changed."""
        self._progress.begin("comparing", count, 0)
        for (folder, found), report in zip(work, reports, strict=True):
            box = self._account.folders.find(folder.name)
            path = box.path if box is not None else ""
            there = self._listed(folder.name)
            for item in found:
                place = there.get(plain_name(item.base))
                same = (
                    None if place is None else self._same(folder, item, os.path.join(path, *place))
                )
                if same is None:
                    report.changed += 1
                elif not same:
                    report.wrong.append(item.name)
                self._progress.step(1, 0)
        self._progress.end()

    def _same(self, folder: DovecotFolder, item: Item, path: str) -> bool | None:
        source = os.path.join(folder.path, item.sub, item.name)
        try:
            status = self._disk.stat(path)
            with self._foreign():
                own = self._disk.stat(source)
            if (own.st_ino, own.st_dev) == (status.st_ino, status.st_dev):
                return True
            digest = self._copies.digest(folder, item)
            if digest is None:
                with self._foreign():
                    digest = file_digest(self._disk, source)
            return file_digest(self._disk, path) == digest
        except FileNotFoundError:
            return None
