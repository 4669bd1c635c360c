"""Names of mailboxes and the directories that hold them (Maildir++). Pure.

The inbox is the Maildir itself; ``Work/Plans`` lies in ``.Work.Plans``. Each part is written in modified UTF-7, as
Dovecot does it, and a dot in a part, which would begin another one, as ``&AC4-``, which strict modified UTF-7 never
writes. A name too long for a directory lies under a digest of it, ``.=<digest>``, and stands in the folder's state
file.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Final

from ..modified_utf7 import decode, encode

__all__ = ["INBOX", "MAX_DEPTH", "directory_of", "is_digest", "name_of", "normal", "written"]

INBOX: Final = "INBOX"
MAX_DIRECTORY: Final = 200
"""Octets of a directory's name; a file system takes 255."""
MAX_DEPTH: Final = 32
_DOT: Final = "&AC4-"


def normal(name: str) -> str:
    """NFC, and INBOX in upper case, also as the first part of a longer name."""
    name = unicodedata.normalize("NFC", name)
    head, slash, rest = name.partition("/")
    # Not a dotless i, whose upper case is I.
    return f"INBOX{slash}{rest}" if head.isascii() and head.upper() == INBOX else name


def directory_of(name: str) -> str:
    """The directory's name below the Maildir; "" for the inbox."""
    if name == INBOX:
        return ""
    directory = "." + ".".join(written(part) for part in name.split("/"))
    if len(directory) <= MAX_DIRECTORY:
        return directory
    return ".=" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def is_digest(directory: str) -> bool:
    """Whether the name is to be had from the folder's state file."""
    return directory.startswith(".=") and len(directory) == 42


def name_of(directory: str) -> str | None:
    """The mailbox in a directory (as `directory_of` gives it); None for what is no name of a mailbox."""
    if not directory:
        return INBOX
    parts = directory[1:].split(".")
    if directory[:1] != "." or not all(parts):
        return None
    try:
        decoded = [decode(part.replace(_DOT, ".").encode("ascii")) for part in parts]
    except ValueError:
        # Another program's, in UTF-8 or roundabout: as it stands
        decoded = parts if directory.isprintable() else []
    if not decoded or any("/" in part for part in decoded):
        return None
    return normal("/".join(decoded))


def written(part: str) -> str:
    """One part of a name as a directory has it."""
    return encode(part).decode("ascii").replace(".", _DOT)
