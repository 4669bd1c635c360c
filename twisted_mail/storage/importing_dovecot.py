"""What Dovecot left: its Maildir++, the numbers and names it kept beside the mail, and its configuration. Reads only.

Folders are given with the names that ours have (`storage.names`), whichever way their directories are written. What
cannot be taken over as it lies (mdbox, LAYOUT=fs, compressed files) is refused with the command that converts it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from ..disk import Disk
from . import maildir
from .dovecot import UIDLIST, UidList, parse_subscriptions, parse_uidlist
from .flags import KEYWORDS_FILE, parse_keywords
from .folders import MAX_SUBSCRIPTIONS, SUBSCRIPTIONS
from .home import MAX_UIDLIST
from .names import INBOX, name_of

__all__ = [
    "USUAL_NAMES",
    "DovecotConfig",
    "DovecotFolder",
    "DovecotMail",
    "Item",
    "NotForUsError",
    "is_config",
    "items",
    "not_plain",
    "read_config",
    "read_dovecot",
    "uidl_format",
    "usual_use",
]

USUAL_NAMES: Final = {
    "drafts": "\\Drafts",
    "draft": "\\Drafts",
    "entwürfe": "\\Drafts",
    "sent": "\\Sent",
    "sent messages": "\\Sent",
    "sent items": "\\Sent",
    "sent mail": "\\Sent",
    "gesendet": "\\Sent",
    "trash": "\\Trash",
    "deleted messages": "\\Trash",
    "deleted items": "\\Trash",
    "papierkorb": "\\Trash",
    "junk": "\\Junk",
    "junk e-mail": "\\Junk",
    "spam": "\\Junk",
    "archive": "\\Archive",
    "archives": "\\Archive",
}
"""What a mailbox of this name (in lower case) is for, when nobody says. The first of several, in this order."""

_CONVERT: Final = (
    "doveadm -o mail_location={location} -o namespace/inbox/separator=/ "
    "backup -u USER maildir:NEW-DIRECTORY"
)
_MAGIC: Final = {
    b"\x1f\x8b": "compressed (gzip)",
    b"BZh": "compressed (bzip2)",
    b"\xfd7zXZ\x00": "compressed (xz)",
    b"\x28\xb5\x2f\xfd": "compressed (zstd)",
    b"Dovecot-LZ4": "compressed (lz4)",
    b"CRYPTED\x03\x07": "encrypted",
}


class NotForUsError(ValueError):
    """It cannot be taken over; the text says why, and what to do."""


class DovecotFolder(NamedTuple):
    """One mailbox. `path`: its directory. `uidlist`: None when Dovecot never opened it. `keywords` by number."""

    name: str
    path: str
    uidlist: UidList | None
    keywords: tuple[str, ...]


class DovecotMail(NamedTuple):
    """All of an account, the inbox first. `left_out`: directories that are no mailbox for us, each with the reason."""

    folders: list[DovecotFolder]
    subscriptions: list[str]
    left_out: list[tuple[str, str]]


class Item(NamedTuple):
    """A message's file. `uid`: 0 for one that Dovecot has not seen yet; those come last, as they arrived."""

    uid: int
    base: str
    sub: str
    name: str


def read_dovecot(disk: Disk, directory: str, control: str | None = None) -> DovecotMail:
    """What lies in a Maildir (`control`: where CONTROL= pointed). Raises NotForUsError, OSError."""
    _refuse_others(disk, directory)
    found: dict[str, DovecotFolder] = {}
    left_out: list[tuple[str, str]] = []
    for path in maildir.folders(disk, directory):
        own = "" if path == directory else os.path.basename(path)
        name = name_of(own)
        if name is None:
            left_out.append((own, "no name of a mailbox"))
            continue
        if name in found:
            left_out.append((own, f"{name} is in {os.path.basename(found[name].path)} already"))
            continue
        beside = path if control is None else os.path.join(control, own or ".INBOX")
        uidlist = maildir.read_small(disk, os.path.join(beside, UIDLIST), MAX_UIDLIST)
        keywords = maildir.read_small(disk, os.path.join(beside, KEYWORDS_FILE))
        found[name] = DovecotFolder(
            name, path, parse_uidlist(uidlist or b""), parse_keywords(keywords or b"")
        )
    if control is not None and found[INBOX].uidlist is None:
        raise NotForUsError(f"{control}/.INBOX: no {UIDLIST}; is this what CONTROL= named?")
    path = os.path.join(control or directory, SUBSCRIPTIONS)
    subscriptions = parse_subscriptions(maildir.read_small(disk, path, MAX_SUBSCRIPTIONS) or b"")
    return DovecotMail(list(found.values()), subscriptions, left_out)


def _refuse_others(disk: Disk, directory: str) -> None:
    if not disk.exists(directory):
        raise NotForUsError(f"{directory}: not there")
    if not stat.S_ISDIR(disk.stat(directory).st_mode):
        raise NotForUsError(f"{directory}: not a directory")
    names = set(disk.names(directory))
    if "mailboxes" in names and not maildir.is_maildir(disk, directory):
        format_ = "mdbox" if "storage" in names else "sdbox"
        raise NotForUsError(
            f"{directory}: Dovecot's {format_}; make a Maildir of it first: "
            + _CONVERT.format(location=f"{format_}:{directory}")
        )
    if not maildir.is_maildir(disk, directory) or not disk.exists(os.path.join(directory, "cur")):
        below = os.path.join(directory, "Maildir")
        hint = f"; perhaps {below} is meant" if maildir.is_maildir(disk, below) else ""
        raise NotForUsError(f"{directory}: not a Maildir, it has no new and cur{hint}")
    for name in sorted(names - {"new", "cur", "tmp"}):
        path = os.path.join(directory, name)
        if not name.startswith(".") and _has_maildir(disk, path, 4):
            raise NotForUsError(
                f"{directory}: {name} is a mailbox in a plain directory (LAYOUT=fs); make a Maildir++ of it "
                "first: " + _CONVERT.format(location=f"maildir:{directory}:LAYOUT=fs")
            )


def _has_maildir(disk: Disk, path: str, depth: int) -> bool:
    try:
        names = disk.names(path) if stat.S_ISDIR(disk.stat(path).st_mode) else []
    except OSError:
        return False
    return {"new", "cur"} <= set(names) or (
        depth > 0 and any(_has_maildir(disk, os.path.join(path, name), depth - 1) for name in names)
    )


def items(disk: Disk, folder: DovecotFolder) -> list[Item]:
    """The messages of a folder in the order of their UIDs."""
    uids = folder.uidlist.uids if folder.uidlist is not None else {}
    found = [
        Item(uids.get(base, 0), base, sub, name)
        for base, (sub, name) in maildir.listing(disk, folder.path).items()
    ]
    return sorted(found, key=lambda item: (not item.uid, item.uid, _arrival(item.base), item.base))


def _arrival(base: str) -> int:
    head = base.partition(".")[0]
    return int(head) if head.isascii() and head.isdigit() and len(head) < 16 else 0


def not_plain(head: bytes) -> str | None:
    """What keeps a file that begins so from being read as a message."""
    return next((text for magic, text in _MAGIC.items() if head.startswith(magic)), None)


# -- its configuration


@dataclass(frozen=True, slots=True)
class DovecotConfig:
    """What of ``doveconf -n`` matters to clients. `uses`: name of a mailbox → its special use."""

    separator: str = "."
    prefix: str = ""
    uses: tuple[tuple[str, str], ...] = ()
    pop3_uidl_format: str = "%08Xu%08Xv"


_OF_DOVECOT: Final = re.compile(
    r"^# [^\n]*dovecot\.conf"
    r"|^[ \t]*(?:(?:namespace|protocol|service|plugin|passdb|userdb|mailbox)\b[^\n=]*\{"
    r"|(?:mail_(?:location|driver|path|home|plugins|uid)|namespace/\w+/\w+|pop3_uidl_format|protocols"
    r"|dovecot_(?:config|storage)_version)[ \t]*=)",
    re.MULTILINE,
)


def is_config(text: str) -> bool:
    """Whether any line of it is from Dovecot's configuration."""
    return _OF_DOVECOT.search(text) is not None


def read_config(text: str) -> DovecotConfig:
    """What ``doveconf -n`` printed. Never raises."""
    config = DovecotConfig()
    stack: list[str] = []
    values: dict[str, str] = {}
    uses: dict[str, str] = {}
    chosen: dict[str, str] | None = None
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.endswith("{"):
            stack.append(line[:-1].strip())
            if len(stack) == 1:
                values = {}
            continue
        if line == "}":
            closed = stack.pop() if stack else ""
            inbox = values.get("inbox") == "yes" or closed == "namespace inbox"
            if not stack and closed.startswith("namespace") and (inbox or chosen is None):
                chosen = values
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            continue
        if key == "pop3_uidl_format" and stack in ([], ["protocol pop3"]):
            config = replace(config, pop3_uidl_format=value)
        elif len(stack) == 1 and stack[0].startswith("namespace"):
            values[key] = value.strip('"')
        elif len(stack) == 2 and stack[1].startswith("mailbox") and key == "special_use":
            name = stack[1].removeprefix("mailbox").strip().strip('"')
            uses[name] = value.split()[0] if value.split() else ""
    separator = (chosen or {}).get("separator", "") or "."
    prefix = (chosen or {}).get("prefix", "")
    names = tuple((name.replace(separator, "/"), use) for name, use in uses.items() if use)
    return replace(config, separator=separator, prefix=prefix, uses=names)


def usual_use(names: Iterable[str]) -> dict[str, str]:
    """Mailboxes that, by their names, have a special use; each use once."""
    folded = {name.lower(): name for name in names}
    found: dict[str, str] = {}
    for known, use in USUAL_NAMES.items():
        for name in (known, f"inbox/{known}"):
            if name in folded and use not in found.values():
                found[folded[name]] = use
    return found


# -- POP3's names


_VARIABLE: Final = re.compile(r"%(0?)(\d{0,2})([XU]?)([uvfgm%])")
_PLAIN: Final = re.compile(r"[!-$&-~]*")


def uidl_format(text: str) -> Callable[[int, int, str], str] | None:
    """What makes a UIDL of (UID, UIDVALIDITY, file name without flags) as pop3_uidl_format says; None for the default.

    Raises NotForUsError for one that cannot be made here.
    """
    if text == "%08Xu%08Xv":
        return None
    unknown = _VARIABLE.sub("", text)
    wanted = {found[4] for found in _VARIABLE.finditer(text)}
    if not _PLAIN.fullmatch(unknown) or not wanted or "m" in wanted:
        raise NotForUsError(
            f"pop3_uidl_format = {text}: only %u, %v, %f and %g are understood here; POP3 clients would fetch "
            "everything again. Go on all the same with --pop3-uidl-format default"
        )

    def made(uid: int, validity: int, name: str) -> str:
        def one(found: re.Match[str]) -> str:
            zero, width, modifier, variable = found.groups()
            if variable == "%":
                return "%"
            if variable in "fg":
                return name
            number = uid if variable == "u" else validity
            value = f"{number:x}" if modifier == "X" else str(number)
            return value.rjust(int(width or 0), "0") if zero else value

        return _VARIABLE.sub(one, text)

    return made
