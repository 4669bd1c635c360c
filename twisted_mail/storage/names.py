"""Names of mailboxes and the directories that hold them (Maildir++). Pure.

The inbox is the Maildir itself; ``Work/Plans`` lies in ``.Work.Plans``. Each part is written in modified UTF-7, as
Dovecot does it, and a dot in a part, which would begin another one, as ``&AC4-``, which strict modified UTF-7 never
writes. A name too long for a directory lies under a digest of it, ``.=<digest>``, and stands in the folder's state
file.
"""

from __future__ import annotations

import hashlib
import unicodedata
from base64 import b64decode, b64encode
from typing import Final

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
    return f"INBOX{slash}{rest}" if head.upper() == INBOX else name


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
        decoded = [_decode(part) for part in parts]
    except ValueError:
        # Another program's, in UTF-8 or broken: as it stands, if that finds it again.
        decoded = [part.replace("&", "&-") for part in parts]
        return None if any("/" in part for part in decoded) else normal("/".join(parts))
    if any("/" in part or not part for part in decoded):
        return None
    return normal("/".join(decoded))


def written(part: str) -> str:
    """One part of a name as a directory has it."""
    return _encode(part).replace(".", _DOT)


def _encode(part: str) -> str:
    """RFC 3501 section 5.1.3."""
    if part.isascii() and part.isprintable():
        return part.replace("&", "&-")
    out: list[str] = []
    wide: list[str] = []

    def flush() -> None:
        if wide:
            text = b64encode("".join(wide).encode("utf-16-be", "surrogatepass")).decode()
            out.append(f"&{text.rstrip('=').replace('/', ',')}-")
            wide.clear()

    for character in part:
        if " " <= character <= "~":
            flush()
            out.append("&-" if character == "&" else character)
        else:
            wide.append(character)
    flush()
    return "".join(out)


def _decode(part: str) -> str:
    """Raises ValueError."""
    if "&" not in part:
        if not part.isascii():
            raise ValueError(part)
        return part
    out: list[str] = []
    first, *rest = part.split("&")
    out.append(first)
    for piece in rest:
        code, dash, text = piece.partition("-")
        if not dash:
            raise ValueError(part)
        if code:
            padded = code.replace(",", "/") + "=" * (-len(code) % 4)
            out.append(b64decode(padded, validate=True).decode("utf-16-be"))
        else:
            out.append("&")
        out.append(text)
    return "".join(out)
