"""One folder while its account is locked: its numbers, its keywords, and what is being changed in it.

UIDs and mod-sequences are taken here. All that one transaction changes in a folder has one mod-sequence. What is on the
disk (files, the state file) is done at once; what the index learns is gathered and written by `settle`, which also says
what open sessions have to be told.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ..disk import Disk
from ..mailboxes import FIRST_KEYWORD, MAX_KEYWORDS, SYSTEM_FLAGS, Added
from ..status import MailError
from . import maildir
from .flags import KEYWORDS_FILE, MAX_KEYWORD, format_keywords, parse_keywords
from .index import FolderRow, Index, Row
from .maildir import FolderState

__all__ = ["MAX_TOLD", "Folder", "FolderChange", "read_keywords"]

WRITTEN = 1000
"""Rows that are gathered before the index has them: of a hundred thousand, the garbage collector would hold all
threads for a tenth of a second."""
MAX_TOLD = 20_000
"""New messages that are told one by one; of more, who has the folder open reads what is there now."""


class FolderChange(NamedTuple):
    """What happened in a folder (by its id). `changed`: (uid, flags, modseq). Sorted by UID.

    Not `whole`: there is more to it than can be told. `files`: by ``new`` and ``cur``, the names of files that were
    made and taken away, and whether each is there: who watches the directory will hear of them.
    """

    folder: str
    modseq: int
    uidnext: int
    added: Sequence[Added]
    changed: Sequence[tuple[int, int, int]]
    expunged: Sequence[int]
    keywords: tuple[str, ...] | None
    """None: nothing of this has any."""
    whole: bool = True
    files: Mapping[str, Mapping[str, bool]] = MappingProxyType({})


class Folder:
    """`row` is the index's, as it was when the transaction began."""

    __slots__ = (
        "_added",
        "_disk",
        "_expunged",
        "_files",
        "_flagged",
        "_index",
        "_keywords",
        "_new_flags",
        "_new_keywords",
        "_renamed",
        "_told",
        "modseq",
        "path",
        "row",
        "state",
        "uidnext",
    )

    def __init__(
        self, disk: Disk, index: Index, path: str, state: FolderState, row: FolderRow
    ) -> None:
        self._disk = disk
        self._index = index
        self._keywords: tuple[str, ...] | None = None
        self._new_keywords = False
        self._added: list[Row] = []
        # Of rows that the index has already: what is told of them (too many: nothing), and all their flags
        self._told: list[Added] | None = []
        self._new_flags = 0
        self._flagged: list[tuple[int, int]] = []
        self._renamed: list[tuple[str, int, int, int]] = []
        self._expunged: list[int] = []
        self._files: dict[str, dict[str, bool]] = {"new": {}, "cur": {}}
        self.path = path
        self.state = state
        self.row = row
        self.uidnext = row.uidnext
        self.modseq = row.modseq

    def take_uid(self, least: int = 0) -> int:
        """The next UID, at least `least`; what is never given twice is synced first."""
        uid = max(self.uidnext, least)
        if uid >= self.state.uid_ceiling:
            self._reserve(uid=uid)
        self.uidnext = uid + 1
        return uid

    def promise(self, count: int, least: int = 0) -> None:
        """Have the index say at once that so many UIDs, from `least`, are given: they are about to stand in names of
        files, and who dies, or meets a full disk, before they have rows must not leave them to other messages."""
        # The mod-sequence, too: rows that `write` gave the index by now have it.
        self._index.set_numbers(self.row.key, max(self.uidnext, least) + count, self.modseq)
        self._index.commit()
        self._index.begin()

    def touch(self) -> int:
        """The mod-sequence of what is changed in this transaction."""
        if self.modseq == self.row.modseq:
            modseq = self.modseq + 1
            if modseq >= self.state.modseq_ceiling:
                self._reserve(modseq=modseq)
            self.modseq = modseq
        return self.modseq

    def _reserve(self, *, uid: int = 0, modseq: int = 0) -> None:
        """Room under the ceilings; another process may have made it already."""
        state = maildir.read_state(self._disk, self.path) or self.state
        raised = state.raised(uid=uid, modseq=modseq)
        if raised != state:
            maildir.write_state(self._disk, self.path, raised)
        self.state = raised

    @property
    def keywords(self) -> tuple[str, ...]:
        """Their names, by number."""
        if self._keywords is None:
            self._keywords = read_keywords(self._disk, self.path)
        return self._keywords

    def bits(self, names: Iterable[str], *, lenient: bool = False) -> int:
        """The flags of these names; keywords that are new here get a letter, which is synced.

        MailError imap="LIMIT" for one too many; `lenient`: that one is left out.
        """
        bits = 0
        for name in names:
            # RFC 9051 section 2.3.2: case-blind
            known = _SYSTEM.get(name.lower())
            if known is not None:
                bits |= known
            elif name[:1] != "\\":
                number = self._keyword(name)
                if number >= 0:
                    bits |= 1 << (FIRST_KEYWORD + number)
                elif not lenient:
                    raise MailError(
                        550,
                        "5.2.0",
                        f"A mailbox takes {MAX_KEYWORDS} keywords of at most {MAX_KEYWORD} characters:"
                        f" {name[:MAX_KEYWORD]} would be one too many",
                        imap="LIMIT",
                    )
        return bits

    def knows(self, name: str) -> bool:
        """Whether there is such a flag here already."""
        folded = name.lower()
        return folded in _SYSTEM or folded in (known.lower() for known in self.keywords)

    def _keyword(self, name: str) -> int:
        names = list(self.keywords)
        folded = [known.lower() for known in names]
        if name.lower() in folded:
            return folded.index(name.lower())
        names += [""] * (MAX_KEYWORDS - len(names))
        free = [number for number, known in enumerate(names) if not known]
        if not free or len(name) > MAX_KEYWORD:
            return -1
        # A letter without a name may stand in names of files: those messages do not get this keyword.
        used = self._index.used_flags(self.row.key)
        number = next((n for n in free if not used & 1 << (FIRST_KEYWORD + n)), free[0])
        names[number] = name
        self._keywords = parse_keywords(format_keywords(tuple(names)))
        maildir.write_small(
            self._disk, os.path.join(self.path, KEYWORDS_FILE), format_keywords(self._keywords)
        )
        self._new_keywords = True
        return number

    # -- what the index is to learn

    def known(self, bases: Sequence[str]) -> set[str]:
        """Those of these base names that messages have here."""
        self.write()
        return self._index.known(self.row.key, bases)

    def add(self, row: Row) -> None:
        """A message that is new here."""
        self._added.append(row)
        if len(self._added) >= WRITTEN:
            self.write()

    def write(self) -> None:
        """The index has what was added from now on."""
        rows, self._added = self._added, []
        if rows:
            self._index.insert(self.row.key, rows)
        for row in rows:
            self._new_flags |= row.flags
        if self._told is not None:
            self._told += [
                Added(row.uid, row.flags, row.modseq, row.wire, row.date) for row in rows
            ]
            if len(self._told) > MAX_TOLD:
                self._told = None

    def did(self, sub: str, name: str, there: bool) -> None:
        """A file was given this name, or it has it no more, by us."""
        self._files[sub][name] = there

    def flag(self, uid: int, bits: int) -> None:
        """A message has these flags now."""
        self.touch()
        self._flagged.append((bits, uid))

    def rename(self, uid: int, bits: int, sub: str, old: str, name: str) -> None:
        """`flag`, by the file `old` in `sub` being called `name` now, in ``cur``."""
        self._renamed.append((name, bits, self.touch(), uid))
        self._files[sub][old] = False
        self._files["cur"][name] = True

    def expunge(self, bases: Iterable[str]) -> dict[str, tuple[str, str]]:
        """Messages are gone, or are about to go; what is not known is passed over. Gives where their files were seen
        last: base → (``new`` or ``cur``, name)."""
        gone = self._index.delete(self.row.key, bases)
        if gone:
            uids = [uid for uid, _, _, _ in gone]
            self._expunged += uids
            self._index.remember(self.row.key, self.touch(), uids)
        return {base: (sub, name) for _, base, sub, name in gone}

    def settle(self, *, tell: bool) -> FolderChange | None:
        """Write what was gathered into the index. With `tell`, what has changed, if anything."""
        key = self.row.key
        self.write()
        told = self._told
        if self._flagged:
            self._index.flagged(key, self.modseq, self._flagged)
        if self._renamed:
            self._index.renamed(key, self._renamed)
        if (self.uidnext, self.modseq) != (self.row.uidnext, self.row.modseq):
            self._index.set_numbers(key, self.uidnext, self.modseq)
        if not tell or not (
            told
            or told is None
            or self._flagged
            or self._renamed
            or self._expunged
            or self._new_keywords
        ):
            return None
        changed = [(uid, bits, self.modseq) for bits, uid in self._flagged]
        changed += [(uid, bits, modseq) for _, bits, modseq, uid in self._renamed]
        changed.sort()
        for bits in {bits for _, bits, _ in changed}:
            self._new_flags |= bits
        if self._keywords is None and self._new_flags >> FIRST_KEYWORD:
            # Another process, or another program, may have given them their names
            self._keywords = read_keywords(self._disk, self.path)
        return FolderChange(
            self.state.folder,
            self.modseq,
            self.uidnext,
            sorted(told or ()),
            changed,
            sorted(self._expunged),
            self._keywords,
            told is not None,
            self._files,
        )


def read_keywords(disk: Disk, path: str) -> tuple[str, ...]:
    """The names of a folder's keywords, by number."""
    return parse_keywords(maildir.read_small(disk, os.path.join(path, KEYWORDS_FILE)) or b"")


_SYSTEM = {name.lower(): bit for name, bit in SYSTEM_FLAGS.items()}
