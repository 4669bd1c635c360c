"""What other programs did to a folder, and what a lost index forgot: the Maildir compared with the index's rows."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from twisted.logger import Logger

from ..disk import Disk
from ..message.downgrade import ascii_size
from ..message.headers import header_end
from ..message.surrogate import Surrogate
from ..message.wire import OctetCounter
from .dovecot import UidList
from .flags import bits_of
from .folder import Folder
from .index import UNSEEN, Row, RowTuple
from .maildir import ARRIVING, OPEN, FileName, arrival_order, base_of, is_arriving

__all__ = [
    "BLOCK",
    "Change",
    "adopt",
    "agrees",
    "downgraded_size",
    "marks",
    "measure",
    "number",
    "number_new",
    "parted",
    "plain_name",
    "readable",
]

_log = Logger()
BLOCK = 256 * 1024
"""Bytes read at once; a header is looked for in the first of them."""


@dataclass(slots=True)
class Change:
    """What the index has to learn: (sub, name, base) of moved files, (uid, bits) of other flags."""

    moved: list[tuple[str, str, str]] = field(default_factory=list)
    flagged: list[tuple[int, int]] = field(default_factory=list)


def marks(disk: Disk, folder: str) -> tuple[int, int]:
    """The modification times of `new` and `cur`, ns."""
    return (
        disk.stat(os.path.join(folder, "new")).st_mtime_ns,
        disk.stat(os.path.join(folder, "cur")).st_mtime_ns,
    )


def agrees(disk: Disk, folder: str, rows: Sequence[RowTuple]) -> bool:
    """Whether the folder holds the files of these rows, under the names that they tell, and no other.

    May say no when something moves meanwhile.
    """
    new, cur = (
        {name for name in disk.names(os.path.join(folder, sub)) if name[0] != "."}
        for sub in ("new", "cur")
    )
    if len(new) + len(cur) != len(rows):
        return False
    return new == {row[3] for row in rows if row[2] == "new"} and cur == {
        row[3] for row in rows if row[2] == "cur"
    }


def readable(
    disk: Disk, folder: str, found: dict[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """`found` with names that can be written down: a file whose name is not UTF-8 gets another, or is left out."""
    good: dict[str, tuple[str, str]] = {}
    for base, (sub, name) in found.items():
        plain = plain_name(name)
        if plain != name:
            directory = os.path.join(folder, sub)
            try:
                disk.rename(os.path.join(directory, name), os.path.join(directory, plain))
            except OSError as error:
                _log.warn("{name} is left out: {error}", name=ascii(name), error=ascii(error))
                continue
        good[base if plain == name else base_of(plain)] = (sub, plain)
    return good


def parted(
    disk: Disk,
    folder: str,
    found: dict[str, tuple[str, str]],
    rows: Sequence[Row],
    fresh: Callable[[], str],
) -> dict[str, tuple[str, str]]:
    """`found`, and the messages in the folder that share a base with another one there (somebody copied a folder, and
    put both into one): each gets a base of its own, from `fresh`. The one that a row knows keeps its name."""
    known = {row.base: (row.sub, row.name) for row in rows}
    for sub in ("new", "cur"):
        for name in disk.names(os.path.join(folder, sub)):
            base = base_of(name)
            first = found.get(base)
            if name.startswith(".") or first is None or first == (sub, name):
                continue
            try:
                one, other = (disk.stat(os.path.join(folder, *at)) for at in (first, (sub, name)))
                if one.st_ino == other.st_ino:
                    continue  # one message, being renamed
                kept, moved = first, (sub, name)
                if known.get(base) == moved:
                    kept, moved = moved, kept
                own = fresh() + moved[1][len(base) :]
                directory = os.path.join(folder, moved[0])
                disk.rename(os.path.join(directory, moved[1]), os.path.join(directory, own))
            except OSError as error:
                _log.debug("{name} is left for later: {error}", name=name, error=str(error))
                continue
            _log.warn("two messages were called {base}: one is {name} now", base=base, name=own)
            found[base] = kept
            found[base_of(own)] = (moved[0], own)
    return found


def adopt(
    disk: Disk,
    folder: Folder,
    found: dict[str, tuple[str, str]],
    rows: Sequence[Row],
    uidlist: UidList | None,
    now: int,
) -> Change:
    """What is to be done about `found` (`maildir.listing`). `uidlist`: what Dovecot knew, if it was here before.

    `folder` gets the rows of new files, and gives their UIDs and mod-sequence.

    The UID in a file's name is believed when no client can have been told that it is gone: of all files when there
    were no rows before (the index was lost, or a power cut took it back), else of those that nobody gave a row yet.
    """
    change = Change()
    state, path = folder.state, folder.path
    known = {row.base: row for row in rows}
    taken = {row.uid for row in rows}
    theirs = uidlist.uids if uidlist is not None and uidlist.validity == state.validity else {}
    strangers: list[tuple[str, str, str]] = []
    least = 1 if folder.row.new_mark == UNSEEN else folder.row.uidnext
    for base, (sub, name) in found.items():
        row = known.get(base)
        if row is not None:
            if is_arriving(name):
                # Lost, and written anew by a replay; its row is still what clients know.
                row = row._replace(sub=sub, name=name)
                name = _named(disk, path, row, state.validity, row.uid)
                row = known[base]
            if (row.sub, row.name) != (sub, name):
                change.moved.append((sub, name, base))
                if (bits := bits_of(name)) != row.flags:
                    change.flagged.append((row.uid, bits))
            continue
        parsed = FileName.parse(name)
        uid = parsed.uid if parsed.validity == state.validity else theirs.get(base)
        # RFC 9051 section 2.3.1.1: a UID is never used again, by whatever comes back
        if uid is not None and least <= uid < state.uid_ceiling and uid not in taken:
            row = measure(disk, path, sub, name, parsed)
            if row is not None:
                taken.add(uid)
                folder.uidnext = max(folder.uidnext, uid + 1)
                uidl = _uidl(uid, base, state.validity, state.taken_over, uidlist)
                if parsed.uid != uid:
                    name = _named(disk, path, row, state.validity, uid)
                folder.add(_given(row, name, uid, uidl, folder.touch(), row.date))
        else:
            strangers.append((base, sub, name))
    least = max(taken, default=0) + 1
    if strangers:
        folder.promise(len(strangers), least)
    for base, sub, name in sorted(strangers, key=_arrived):
        arrived = is_arriving(name)
        row = measure(disk, path, sub, name, FileName.parse(name) if arrived else FileName(base))
        if row is not None:
            uid = folder.take_uid(least)
            name = _named(disk, path, row, state.validity, uid)
            saved = row.date if arrived else now
            folder.add(_given(row, name, uid, None, folder.touch(), saved))
    return change


def number_new(disk: Disk, folder: Folder) -> int:
    """`number` for all that is in ``new``. Gives how many names are there."""
    names = disk.names(f"{folder.path}/new")
    number(disk, folder, [name for name in names if name.endswith(ARRIVING)])
    return len(names)


def number(disk: Disk, folder: Folder, names: Collection[str]) -> None:
    """Give UIDs and rows to mail that has arrived (`storage.arrivals`): files of these names in ``new``, in the order
    of their arrival. Of a folder whose rows were never compared with it, `adopt` knows first which UIDs are free."""
    if not names or folder.row.new_mark == UNSEEN:
        return
    state, path = folder.state, folder.path
    # What cannot be written down gets another name first (`readable`).
    wanted = {base_of(name): name for name in names if name.isascii() and name[0] != "."}
    # Filled once more by a replay: `adopt` sees to those.
    known = folder.known(list(wanted))
    fresh = [(base, "new", name) for base, name in wanted.items() if base not in known]
    if not fresh:
        return
    folder.promise(len(fresh))
    modseq = folder.touch()
    for _, _, name in sorted(fresh, key=_arrived):
        row = _sized(disk, path, name) or measure(disk, path, "new", name, FileName.parse(name))
        if row is None:
            continue
        uid = folder.take_uid()
        # As `_named` does it, from a name that is known to end so
        new = f"{name[: -len(ARRIVING)]},T={state.validity}.{uid}"
        try:
            disk.rename(f"{path}/new/{name}", f"{path}/new/{new}")
        except OSError as error:
            # Moved by its owner at this moment: it is known by its row alone.
            _log.debug("{name} keeps its name: {error}", name=name, error=str(error))
            new = name
        else:
            folder.did("new", name, False)
            folder.did("new", new, True)
        folder.add(_given(row, new, uid, None, modseq, row.date))


def _sized(disk: Disk, folder: str, name: str) -> Row | None:
    """As `measure`, in little more than half its time, of a file in ``new`` that is as its name says; else None."""
    found = _ARRIVING_NAME(name)
    if found is None:
        return None
    base, size, wire, ascii_size = found.groups()
    try:
        status = disk.stat(f"{folder}/new/{name}")
    except OSError:
        return None
    octets = int(size)
    if status.st_size != octets or not stat.S_ISREG(status.st_mode):
        return None
    narrow = None if ascii_size is None else int(ascii_size)
    return Row(0, base, "new", name, octets, int(wire), narrow, None, 0, 0, int(status.st_mtime))


def _given(row: Row, name: str, uid: int, uidl: str | None, modseq: int, saved: int) -> Row:
    """`row._replace`, in a fifth of its time: it is done for each message of a mailbox that is taken over."""
    _, base, sub, _, size, wire, ascii_size, _, flags, _, date, _ = row
    return Row(uid, base, sub, name, size, wire, ascii_size, uidl, flags, modseq, date, saved)


def _uidl(
    uid: int, base: str, validity: int, taken_over: int, uidlist: UidList | None
) -> str | None:
    """POP3's name for a message that clients know from Dovecot: its own, or as ``%08Xu%08Xv`` says."""
    if uid >= taken_over:
        return None
    own = uidlist.uidls.get(base) if uidlist is not None else None
    return own or f"{uid:08x}{validity:08x}"


def measure(disk: Disk, folder: str, sub: str, name: str, parsed: FileName) -> Row | None:
    """The row of a file, without a UID; sizes from its name when they agree with the file, else by reading it."""
    path = f"{folder}/{sub}/{name}"
    try:
        status = disk.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a file")  # To read a pipe would wait for ever.
        size = status.st_size
        if parsed.size == size and parsed.wire is not None:
            wire, ascii_size = parsed.wire, parsed.ascii
        else:
            wire, ascii_size = _sizes(disk, path)
    except OSError as error:
        # Gone again, or not readable by us: it gets its row when it can be read.
        _log.warn("{path} is left out: {error}", path=path, error=str(error))
        return None
    # Maildir keeps the time of arrival as the file's modification time.
    date = int(status.st_mtime)
    return Row(0, parsed.base, sub, name, size, wire, ascii_size, None, bits_of(name), 0, date)


def _sizes(disk: Disk, path: str) -> tuple[int, int | None]:
    """The sizes on the wire, as it is and downgraded, of a file of any size. Raises OSError."""
    counter = OctetCounter()
    head = b""
    for block in _blocks(disk, path):
        head = head or block
        counter.add(block)
    return counter.octets, downgraded_size(disk, path, head, counter.octets)


def downgraded_size(disk: Disk, path: str, head: bytes, wire: int) -> int | None:
    """The octets on the wire of the downgraded form (RFC 6858) of a file that begins with `head`, BLOCK octets or all,
    and has `wire` of its own. None when its header, as far as `head` goes, is ASCII. Raises OSError."""
    if len(head) < BLOCK or head.isascii() or header_end(head.replace(b"\r\n", b"\n")) >= 0:
        return ascii_size(head, wire)
    # No program makes such a header. What would be sent is counted.
    surrogate, counter = Surrogate(), OctetCounter()
    for block in _blocks(disk, path):
        counter.add(surrogate.feed(block))
    counter.add(surrogate.finish())
    return counter.octets


def _blocks(disk: Disk, path: str) -> Iterator[bytes]:
    """To its end: it is closed then."""
    fd = disk.open(path, OPEN)
    try:
        at = 0
        while block := disk.pread(fd, BLOCK, at):
            yield block
            at += len(block)
    finally:
        disk.close(fd)


def _named(disk: Disk, folder: str, row: Row, validity: int, uid: int) -> str:
    """The name of a stranger's file, another one where that can be: one that keeps its UID, so that an index made anew
    gives it again."""
    old = row.name
    _, colon, info = old.partition(":")
    name = f"{FileName(row.base, row.size, row.wire, row.ascii, validity, uid)}{colon}{info}"
    directory = f"{folder}/{row.sub}/"
    try:
        disk.rename(directory + old, directory + name)
    except OSError as error:
        # Moved by its owner at this moment, or the name is too long: it is known by its row alone.
        _log.debug("{name} keeps its name: {error}", name=old, error=str(error))
        return old
    return name


def plain_name(name: str) -> str:
    """A file's name that can be written down: octets that are not UTF-8 as ASCII."""
    return name if name.isascii() else "".join(map(_plain, name))


def _plain(character: str) -> str:
    """An octet that is not UTF-8 (PEP 383), written as ASCII."""
    return f"={ord(character) - 0xDC00:02X}" if "\udc80" <= character <= "\udcff" else character


def _arrived(stranger: tuple[str, str, str]) -> tuple[int, int, str, int, str]:
    return arrival_order(stranger[0])


_ARRIVING_NAME = re.compile(
    r"([^,:]+),S=(\d{1,15}),W=(\d{1,15})(?:,A=(\d{1,15}))?,T=0", re.ASCII
).fullmatch
"""`maildir.arriving`"""
