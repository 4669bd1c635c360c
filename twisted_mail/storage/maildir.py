"""Maildir++ on the disk: folders, file names, and the small synced file that keeps a folder's numbers.

A message's file is never changed. Its name is ``<base>,S=<size>,W=<wire size>[,A=<ascii size>],T=<validity>.<uid>``, in
``cur`` followed by ``:2,<flags>``:

- the *base* is what stands before the first ``,`` or ``:``; it never changes and is unique for ever;
- ``S`` is the file's size, ``W`` the size with CRLF line ends (both as Courier and Dovecot write them), ``A`` the size
  of the downgraded form of a message whose header is not ASCII (RFC 6858);
- ``T`` is ours: the folder's UIDVALIDITY and the UID, so that an index can be made anew with the same UIDs. ``T=0``
  is mail that has arrived and got no UID yet (`storage.arrivals`); as nobody else writes that, its sizes are right.

`FolderState` is the file ``twisted-mail.state`` in each folder: UIDVALIDITY, the folder's id, and the ceilings under
which UIDs and mod-sequences may have been given. It is replaced whole and synced before one above the old ceiling is
given.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from ..disk import Disk, make_directories
from .errors import NewerMailbox

__all__ = [
    "ARRIVING",
    "MAX_UID",
    "RESERVE",
    "STATE_FILE",
    "SUBDIRECTORIES",
    "FileName",
    "FolderState",
    "arrival_order",
    "arriving",
    "base_of",
    "complete",
    "find",
    "folders",
    "is_arriving",
    "is_maildir",
    "listing",
    "make_folder",
    "make_folders",
    "numbered",
    "parse_state",
    "read_file",
    "read_small",
    "read_state",
    "write_small",
    "write_state",
]

STATE_FILE = "twisted-mail.state"
STATE_VERSION = 2
"""1 knew no mod-sequences, uses and names."""
RESERVE = 10_000
"""How many UIDs, or mod-sequences, are reserved ahead by one sync."""
MAX_UID = (1 << 32) - 1
MAX_MODSEQ = (1 << 63) - 1
_OBJECT_ID = re.compile(r"[A-Za-z0-9_-]{0,255}")
_USE = re.compile(r"\\[A-Za-z]+")
SUBDIRECTORIES = ("new", "cur")
OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""How a message's file is opened: who can write in the Maildir may have put a link there, or a pipe that never ends."""
ARRIVING = ",T=0"
"""How the names of messages end that have no UID yet."""


@dataclass(frozen=True, slots=True)
class FileName:
    """What a file's name tells. Fields that are not there, or are no numbers, are None."""

    base: str
    size: int | None = None
    wire: int | None = None
    ascii: int | None = None
    validity: int | None = None
    uid: int | None = None

    @classmethod
    def parse(cls, name: str) -> FileName:
        """Never raises."""
        plain = name.partition(":")[0]
        base, *rest = plain.split(",")
        values: dict[str, str] = {}
        for part in rest:
            key, equals, value = part.partition("=")
            if equals:
                values.setdefault(key, value)
        validity, _, uid = values.get("T", "").partition(".")
        return cls(
            base,
            _number(values.get("S", "")),
            _number(values.get("W", "")),
            _number(values.get("A", "")),
            _number(validity),
            _number(uid),
        )

    def __str__(self) -> str:
        ascii_size = f",A={self.ascii}" if self.ascii is not None else ""
        return f"{self.base},S={self.size},W={self.wire}{ascii_size},T={self.validity}.{self.uid}"


@dataclass(frozen=True, slots=True)
class FolderState:
    """What a folder is, and its numbers that must never go back.

    `folder` is its id (MAILBOXID) for ever. Every UID ever given is below `uid_ceiling`, every mod-sequence below
    `modseq_ceiling`. `special_use`: such as ``\\Sent`` (RFC 6154). `name`: the mailbox's, where the directory's cannot
    tell it. `taken_over`: UIDs below it were given by Dovecot, which has its own way to make a UIDL of them.
    `furnished`, of the inbox: the folders of a new account were made, or there were others. `validities`, of the inbox:
    no folder of the account was given a UIDVALIDITY above it.
    """

    folder: str
    validity: int
    uid_ceiling: int
    modseq_ceiling: int = 1
    special_use: tuple[str, ...] = ()
    name: str = ""
    taken_over: int = 0
    furnished: bool = False
    validities: int = 0

    def raised(self, *, uid: int = 0, modseq: int = 0) -> FolderState:
        """With room for the UID, the mod-sequence, and `RESERVE` more."""
        state = self
        if uid >= self.uid_ceiling:
            state = replace(state, uid_ceiling=min(uid + 1 + RESERVE, MAX_UID))
        if modseq >= self.modseq_ceiling:
            state = replace(state, modseq_ceiling=modseq + 1 + RESERVE)
        return state


def numbered(
    base: str, size: int, wire: int, ascii_size: int | None, validity: int, uid: int
) -> str:
    """The name of a message that has a UID, without its flags: as `FileName` writes it, of which a thousand take
    milliseconds to make."""
    if ascii_size is None:
        return f"{base},S={size},W={wire},T={validity}.{uid}"
    return f"{base},S={size},W={wire},A={ascii_size},T={validity}.{uid}"


def arriving(base: str, size: int, wire: int, ascii_size: int | None) -> str:
    """The name, in ``new``, of a message that has no UID yet."""
    if ascii_size is None:
        return f"{base},S={size},W={wire}{ARRIVING}"
    return f"{base},S={size},W={wire},A={ascii_size}{ARRIVING}"


def is_arriving(name: str) -> bool:
    """Whether it has no UID yet, wherever it lies now."""
    return name.endswith(ARRIVING) or name.partition(":")[0].endswith(ARRIVING)


def base_of(name: str) -> str:
    """What stands before the first ``,`` or ``:``."""
    return name.partition(":")[0].partition(",")[0]


def is_maildir(disk: Disk, path: str) -> bool:
    """Whether `path` is a folder. One of its two directories is enough: a copy without empty ones lacks the other."""
    return any(_is_directory(disk, os.path.join(path, sub)) for sub in SUBDIRECTORIES)


def _is_directory(disk: Disk, path: str) -> bool:
    try:
        return stat.S_ISDIR(disk.stat(path).st_mode)
    except OSError:
        return False


def complete(disk: Disk, path: str) -> bool:
    """Make the directories of a folder that are missing. Whether any was. Raises OSError."""
    missing = [
        directory
        for directory in (os.path.join(path, sub) for sub in ("tmp", *SUBDIRECTORIES))
        if not disk.exists(directory)
    ]
    for directory in missing:
        make_directories(disk, directory)
    return bool(missing)


def make_folder(disk: Disk, path: str, fresh: Callable[[], FolderState]) -> FolderState:
    """Make a folder with all that belongs to it, each name synced. What is there already is kept.

    `fresh` is asked for the state of one that has none.
    """
    for part in ("", "tmp", "new", "cur"):
        make_directories(disk, os.path.join(path, part) if part else path)
    state = read_state(disk, path)
    if state is None:
        state = fresh()
        write_state(disk, path, state)
    return state


def read_state(disk: Disk, path: str) -> FolderState | None:
    """The folder's state; None when there is none or it cannot be understood.

    Raises NewerMailbox.
    """
    text = read_small(disk, os.path.join(path, STATE_FILE)) or b""
    version = _state_version(text)
    if version > STATE_VERSION:
        raise NewerMailbox(
            f"{os.path.join(path, STATE_FILE)}: stored by version {version} of the format, this program knows"
            f" {STATE_VERSION}; use the newer program"
        )
    return parse_state(text)


def _state_version(text: bytes) -> int:
    """0 when it does not say one."""
    try:
        version = json.loads(text).get("version", 0)
    except (ValueError, AttributeError, RecursionError):
        return 0
    return version if isinstance(version, int) else 0


def parse_state(text: bytes) -> FolderState | None:
    """What a state file says; None for one that nobody can have written. Never raises."""
    try:
        values = json.loads(text)
        state = FolderState(
            str(values["folder"]),
            int(values["uidvalidity"]),
            int(values["uid_ceiling"]),
            int(values.get("modseq_ceiling", 1)),
            tuple(map(str, values.get("special_use", ()))),
            str(values.get("name", "")),
            int(values.get("taken_over", 0)),
            bool(values.get("furnished", False)),
            int(values.get("validities", 0)),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    # They go to clients as they are: RFC 9051 section 9 (nz-number), RFC 8474 section 7 (objectid), RFC 6154 section 6
    sound = (
        0 < state.validity <= MAX_UID
        and 0 < state.uid_ceiling <= MAX_UID + 1
        and 0 < state.modseq_ceiling <= MAX_MODSEQ
        and 0 <= state.taken_over <= MAX_UID
        and 0 <= state.validities <= MAX_UID
        and _OBJECT_ID.fullmatch(state.folder)
        and all(map(_USE.fullmatch, state.special_use))
    )
    return state if sound else None


def write_state(disk: Disk, path: str, state: FolderState) -> None:
    """Replace the state file; it is on the disk when this returns."""
    write_small(disk, os.path.join(path, STATE_FILE), _written(state))


def make_folders(disk: Disk, states: Mapping[str, FolderState], files: Mapping[str, bytes]) -> None:
    """Make folders, which are not there, by their paths in directories that are; and write small `files`.

    All is on the disk when this returns, by far fewer syncs than one after the other; before, no state is seen that is
    not whole.
    """
    for path in states:
        for part in (path, *(os.path.join(path, sub) for sub in ("tmp", "new", "cur"))):
            disk.mkdir(part, 0o700)
    written = {os.path.join(path, STATE_FILE): _written(one) for path, one in states.items()}
    _write_together(disk, {**written, **files}, map(os.path.dirname, states))


def _written(state: FolderState) -> bytes:
    values: dict[str, object] = {
        "version": STATE_VERSION,
        "folder": state.folder,
        "uidvalidity": state.validity,
        "uid_ceiling": state.uid_ceiling,
        "modseq_ceiling": state.modseq_ceiling,
    }
    if state.special_use:
        values["special_use"] = list(state.special_use)
    if state.name:
        values["name"] = state.name
    if state.taken_over:
        values["taken_over"] = state.taken_over
    if state.furnished:
        values["furnished"] = True
    if state.validities:
        values["validities"] = state.validities
    return json.dumps(values).encode() + b"\n"


def read_small(disk: Disk, path: str, limit: int = 65_536) -> bytes | None:
    """The first `limit` bytes of a small file; None when there is none."""
    try:
        fd = disk.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return disk.pread(fd, limit, 0)
    finally:
        disk.close(fd)


def write_small(disk: Disk, path: str, data: bytes) -> None:
    """Replace a small file whole; it is on the disk when this returns."""
    _write_together(disk, {path: data})


def _write_together(
    disk: Disk, files: Mapping[str, bytes], directories: Iterable[str] = ()
) -> None:
    """`directories` are synced as well."""
    for path, data in files.items():
        fd = disk.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            disk.write(fd, data)
            disk.fdatasync(fd)
        finally:
            disk.close(fd)
    for path in files:
        disk.rename(f"{path}.new", path)
    for directory in dict.fromkeys((*map(os.path.dirname, files), *directories)):
        disk.sync_directory(directory)


def folders(disk: Disk, maildir: str) -> list[str]:
    """The paths of all folders of a Maildir++, the inbox first."""
    found = [maildir]
    for name in sorted(disk.names(maildir)):
        if name.startswith(".") and name not in (".", ".."):
            path = os.path.join(maildir, name)
            if is_maildir(disk, path):
                found.append(path)
    return found


def listing(disk: Disk, folder: str) -> dict[str, tuple[str, str]]:
    """base → (``"new"`` or ``"cur"``, name) of every message in one folder.

    `new` is read again after `cur`: a file that another program moves while we read is seen all the same. One of both
    may be missing. Raises FileNotFoundError when the folder is, or goes meanwhile.
    """
    found: dict[str, tuple[str, str]] = {}
    there: set[str] = set()
    for sub in ("new", "cur", "new"):
        try:
            names = disk.names(os.path.join(folder, sub))
        except FileNotFoundError:
            if sub in there:
                raise
            continue
        there.add(sub)
        for name in names:
            if not name.startswith("."):
                base = base_of(name)
                if sub == "cur" or base not in found:
                    found[base] = (sub, name)
    if not there:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), folder)
    return found


def find(disk: Disk, maildir: str, base: str) -> str | None:
    """The path of the message with this base name, in whichever folder it lies now."""
    for folder in folders(disk, maildir):
        place = listing(disk, folder).get(base)
        if place is not None:
            return os.path.join(folder, *place)
    return None


def open_below(disk: Disk, path: str, root: str) -> int:
    """A descriptor of a message's file in somebody else's Maildir at `root` (without links): its owner may have put a
    link, or a directory that is one, where a message should be, and we may be allowed to read what he may not.

    Raises OSError, also for what is no file of that Maildir.
    """
    fd = disk.open(path, OPEN)
    try:
        if not stat.S_ISREG(disk.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a file", path)
        # Of what is open, so nobody can exchange it after a look at it
        if not os.readlink(f"/proc/self/fd/{fd}").startswith(os.path.join(root, "")):
            raise OSError(errno.EXDEV, "a link leads out of the Maildir", path)
    except BaseException:
        disk.close(fd)
        raise
    return fd


def read_file(disk: Disk, path: str, size: int) -> bytes:
    """The first `size` bytes of a file."""
    fd = disk.open(path, os.O_RDONLY)
    try:
        return disk.pread(fd, size, 0)
    finally:
        disk.close(fd)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def arrival_order(base: str) -> tuple[int, int, str, int, str]:
    """What base names are sorted by. They begin with the time of arrival: seconds, often microseconds; then, of one
    process, a number.
    """
    found = _TIMES(base)
    if found is None:
        return (0, 0, "", 0, base)
    seconds, micro, process, sequence = found.groups()
    return (int(seconds), int(micro or 0), process or "", int(sequence or 0), base)


_TIMES = re.compile(
    r"(\d{1,15})(?![^.])(?:\.M(\d{1,6})P([^.Q]*)(?:Q(\d{1,15}))?(?![^.]))?", re.ASCII
).match
