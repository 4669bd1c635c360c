"""What `mailctl verify` looks at in one account: index, files and numbers.

Nothing is changed but by a `mend`, and no file of mail ever is. Beside a server that runs things change while they are
looked at: a message is a file before it has a row, and a row for a moment after its file has gone. So what seems wrong
is looked at again under the account's lock, and only what is wrong both times is told.

Looked at are names, sizes and numbers; the text of messages has no checksum. `deep` reads it all the same: sizes with
CRLF, and files of nothing but NULs, which is what some file systems leave after a power cut.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from ..disk import Disk
from ..message.wire import OctetCounter
from . import index as index_module
from . import maildir
from .aside import set_aside
from .errors import NewerMailbox
from .problems import Problem, check_database, exposed, out_of_reach, patiently, read_only

__all__ = ["Account"]

BLOCK: Final = 1024 * 1024
TOLD: Final = 20
"""Of one kind in one folder so many are told one by one; the rest are counted."""
OLD: Final = 36 * 3600
"""Seconds after which a file in ``tmp`` is nobody's any more (maildir(5))."""


class Account:
    """The account `key` in the directory `home`. `refresh`: has the index of a folder, by its id, compared with
    its files (`AccountStore.refresh`). `owner`: the user to whom all of it should belong."""

    def __init__(
        self,
        disk: Disk,
        key: str,
        home: str,
        *,
        generation: int,
        refresh: Callable[[str], object],
        deep: bool = False,
        owner: int | None = None,
    ) -> None:
        self._disk = disk
        self._home = home
        self._owner = owner
        self._maildir = os.path.join(home, "Maildir")
        self._generation = generation
        self._refresh = refresh
        self._deep = deep
        self._made_anew = False
        self.key = key
        self.messages = 0
        """So many files of mail were looked at."""

    def check(self) -> Iterator[Problem]:
        """All that is wrong. Blocks. Raises OSError."""
        first = patiently(self._look)
        if not first:
            return
        lock = os.path.join(self._home, "lock")
        if not self._disk.exists(lock):
            yield from first
            return
        held = self._disk.open(lock, os.O_RDWR)
        try:
            self._disk.flock(held, fcntl.LOCK_EX)
            again = {problem.key for problem in patiently(self._look)}
        finally:
            self._disk.close(held)
        yield from (problem for problem in first if problem.key in again)

    def _look(self) -> Iterator[Problem]:
        self.messages = 0
        for name in ("digests.sqlite3", "fulltext.sqlite3"):
            yield from check_database(self._disk, os.path.join(self._home, name), "cache")
        if not maildir.is_maildir(self._disk, self._maildir):
            yield Problem(
                "mailbox", self._home, "has no Maildir", "put it back, or move the directory away"
            )
            return
        path = os.path.join(self._home, "index.sqlite3")
        broken = list(check_database(self._disk, path, "index"))
        yield from broken
        states: dict[str, maildir.FolderState | None] = {}
        for folder in maildir.folders(self._disk, self._maildir):
            try:
                states[folder] = maildir.read_state(self._disk, folder)
            except NewerMailbox as error:  # it says where, and what to do
                text = str(error.cause)
                yield Problem("folder", folder, text, "nothing of this folder was looked at")
        first: dict[str, str] = {}
        there = {state.folder for state in states.values() if state is not None}
        lost = set() if broken else self._lost(path, there)
        for folder, state in states.items():
            yield from self._exposed(folder)
            rows = None
            other = first.setdefault(state.folder, folder) if state is not None else folder
            if other != folder:
                text = f"says that it is {other}, as a copy does"
                advice = "the next login gives it an id, and a UIDVALIDITY, of its own"
                where = os.path.join(folder, maildir.STATE_FILE)
                yield Problem("folder", where, text, advice, note=True)
            elif state is not None and not broken:
                rows = self._rows(path, state)
            try:
                yield from self._temporary(folder)
                yield from self._folder(folder, rows, lost if state is None else set())
            except FileNotFoundError:
                raise
            except OSError as error:
                text = f"cannot be looked at: {error.strerror}"
                advice = "mend that, and look again: this folder was not looked at"
                yield Problem("mailbox", str(error.filename or folder), text, advice)

    def _lost(self, path: str, there: set[str]) -> set[int]:
        """The UIDVALIDITY of each folder that the index knows, and that is not `there`."""
        if not self._disk.exists(path):
            return set()
        try:
            with closing(read_only(path)) as db:
                known = list(db.execute("SELECT folder, validity FROM folder"))
        except sqlite3.Error:
            return set()
        return {validity for id_, validity in known if id_ not in there}

    def _rows(self, path: str, state: maildir.FolderState) -> _Rows | None:
        """What the index says of a folder; None when it has to be compared anyway before it is believed."""
        if not self._disk.exists(path):
            return None
        try:
            with closing(read_only(path)) as db:
                row = db.execute(
                    "SELECT key, validity, uidnext, modseq, generation, new_mark FROM folder WHERE folder = ?",
                    (state.folder,),
                ).fetchone()
                if row is None or row[1] != state.validity or row[4] != self._generation:
                    return None
                if row[5] == index_module.UNSEEN:
                    return None
                messages = {
                    base: (uid, size)
                    for base, uid, size in db.execute(
                        "SELECT base, uid, size FROM message WHERE folder = ?", (row[0],)
                    )
                }
        except sqlite3.Error:
            return None
        return _Rows(row[1], row[2], row[3], messages, state)

    def _folder(self, folder: str, rows: _Rows | None, lost: set[int]) -> Iterator[Problem]:
        """`lost`: when it has no state, the UIDVALIDITY of each folder that the index knows, and that is nowhere."""
        told: dict[str, int] = {}

        def tell(problem: Problem) -> Iterator[Problem]:
            told[problem.what] = told.get(problem.what, 0) + 1
            if told[problem.what] <= TOLD:
                yield problem

        state_file = os.path.join(folder, maildir.STATE_FILE)
        there = self._disk.exists(state_file)
        if there and maildir.read_state(self._disk, folder) is None:
            yield Problem(
                "folder",
                state_file,
                "is damaged",
                "the next login sets it aside: a new UIDVALIDITY",
            )
        found = maildir.listing(self._disk, folder)
        uids: dict[tuple[int | None, int], str] = {}
        for base, (sub, name) in found.items():
            path = os.path.join(folder, sub, name)
            if os.path.islink(path):
                text = "is a link, which is not followed"
                advice = "nobody gets to read it: put the file itself there, or move it away"
                yield from tell(Problem("mail", path, text, advice))
                continue
            try:
                status = self._disk.stat(path)
            except FileNotFoundError:
                continue  # renamed or deleted just now
            self.messages += 1
            parsed = maildir.FileName.parse(name)
            if not there and parsed.uid and parsed.validity in lost:
                there = True  # is told once
                text = f"is not there; its UIDVALIDITY was {parsed.validity}"
                advice = "put it back from a backup, or the next login gives another: clients fetch it once more"
                yield Problem("folder", state_file, text, advice)
            for problem in self._file(path, parsed, status, rows):
                yield from tell(problem)
            if parsed.uid and (rows is None or parsed.validity == rows.validity):
                other = uids.setdefault((parsed.validity, parsed.uid), base)
                if other != base:
                    yield from tell(
                        Problem(
                            "number",
                            path,
                            f"has UID {parsed.uid}, and so has {other}",
                            "--repair gives one of them another",
                            self._anew,
                        )
                    )
        if rows is not None:
            for problem in self._compared(folder, found, rows):
                yield from tell(problem)
        for what, count in told.items():
            if count > TOLD:
                yield Problem(what, folder, f"{count - TOLD} more of these", "as those above")

    def _file(
        self,
        path: str,
        name: maildir.FileName,
        status: os.stat_result,
        rows: _Rows | None,
    ) -> Iterator[Problem]:
        if not stat.S_ISREG(status.st_mode):
            yield Problem("mail", path, "is not a file", "nobody gets to see it: move it away")
            return
        yield from out_of_reach(path, status, self._owner)
        wrong = "nothing here has another copy: put it back from a backup; it is served as it is"
        if name.size is not None and name.size != status.st_size:
            text = f"has {status.st_size} octets, its name says {name.size}"
            yield Problem("mail", path, text, wrong)
        elif (
            rows is not None
            and rows.messages.get(name.base, (0, status.st_size))[1] != status.st_size
        ):
            text = f"has {status.st_size} octets, the index says {rows.messages[name.base][1]}"
            yield Problem("mail", path, text, wrong)
        elif not status.st_size:
            yield Problem("mail", path, "is empty", wrong)
        elif self._deep and (text := self._read(path, name)):
            yield Problem("mail", path, text, wrong)

    def _read(self, path: str, name: maildir.FileName) -> str:
        try:
            fd = self._disk.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return ""  # renamed or deleted just now
        counter, at, blank = OctetCounter(), 0, True
        try:
            while block := self._disk.pread(fd, BLOCK, at):
                at += len(block)
                counter.add(block)
                blank = blank and not block.strip(b"\0")
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        finally:
            self._disk.close(fd)
        if blank:
            return "holds nothing but NULs"
        if name.wire is not None and name.validity and counter.octets != name.wire:
            return f"is {counter.octets} octets with CRLF, its name says {name.wire}"
        return ""

    def _compared(
        self, folder: str, found: dict[str, tuple[str, str]], rows: _Rows
    ) -> Iterator[Problem]:
        for base, (uid, _) in rows.messages.items():
            if base not in found:
                yield Problem(
                    "lost",
                    os.path.join(folder, base),
                    f"UID {uid} is in the index, and its file is nowhere in the folder",
                    "deleted by another program, or lost: the next login forgets it; a backup may have it",
                )
                continue
            name = maildir.FileName.parse(found[base][1])
            if name.validity == rows.validity and name.uid and name.uid != uid:
                yield self._unlike(
                    folder, found[base], f"has UID {uid} in the index, {name.uid} in its name"
                )
        for base, place in found.items():
            name = maildir.FileName.parse(place[1])
            if base not in rows.messages and name.validity == rows.validity and name.uid:
                yield self._unlike(folder, place, "is not in the index")
        highest = max((uid for uid, _ in rows.messages.values()), default=0)
        if highest >= rows.uidnext:
            text = f"the index gave UID {highest}, and goes on at {rows.uidnext}"
            yield Problem("number", folder, text, "--repair makes the index anew", self._anew)
        if rows.uidnext > rows.state.uid_ceiling or rows.modseq > rows.state.modseq_ceiling:
            yield Problem(
                "number",
                os.path.join(folder, maildir.STATE_FILE),
                f"numbers up to UID {rows.uidnext} and mod-sequence {rows.modseq} were given, and it says less",
                "--repair raises it",
                lambda: self._raise(folder, rows),
            )

    def _unlike(self, folder: str, place: tuple[str, str], text: str) -> Problem:
        return Problem(
            "index",
            os.path.join(folder, *place),
            text,
            "--repair makes the index anew, of the files and their names",
            self._anew,
        )

    def _anew(self) -> None:
        if self._made_anew:
            return  # for another problem
        self._made_anew = True
        held = self._disk.open(os.path.join(self._home, "lock"), os.O_RDWR | os.O_CREAT)
        try:
            self._disk.flock(held, fcntl.LOCK_EX)
            set_aside(self._disk, os.path.join(self._home, "index.sqlite3"))
        finally:
            self._disk.close(held)
        self._refresh("")
        for folder in maildir.folders(self._disk, self._maildir):
            if (state := maildir.read_state(self._disk, folder)) is not None:
                self._refresh(state.folder)

    def _raise(self, folder: str, rows: _Rows) -> None:
        held = self._disk.open(os.path.join(self._home, "lock"), os.O_RDWR | os.O_CREAT)
        try:
            self._disk.flock(held, fcntl.LOCK_EX)
            state = maildir.read_state(self._disk, folder)
            if state is not None:
                raised = state.raised(uid=rows.uidnext, modseq=rows.modseq)
                maildir.write_state(self._disk, folder, raised)
        finally:
            self._disk.close(held)

    def _exposed(self, folder: str) -> Iterator[Problem]:
        for sub in ("", "new", "cur"):
            path = os.path.join(folder, sub)
            if not self._disk.exists(path):
                yield Problem("mailbox", path, "is not there", "the next login makes it")
                continue
            yield from exposed(self._disk, path, self._owner)

    def _temporary(self, folder: str) -> Iterator[Problem]:
        path = os.path.join(folder, "tmp")
        if not self._disk.exists(path):
            return
        now = self._disk.clock_ns() // 1_000_000_000
        old = 0
        for name in self._disk.names(path):
            try:
                old += now - self._disk.stat(os.path.join(path, name)).st_mtime > OLD
            except FileNotFoundError:
                continue
        if old:
            text = f"{old} files in it that a program began and never finished"
            yield Problem("temporary", path, text, "they may be removed", note=True)


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the index says of a folder; `messages`: base → UID and size."""

    validity: int
    uidnext: int
    modseq: int
    messages: dict[str, tuple[int, int]]
    state: maildir.FolderState
