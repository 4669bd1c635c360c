"""What Dovecot keeps beside a Maildir: ``dovecot-uidlist`` and ``subscriptions``. Pure; no bytes make it raise.

``dovecot-uidlist`` is read once, when a folder that Dovecot served is opened for the first time: UIDVALIDITY, the next
UID, and the UID of each message stay what clients know. ``subscriptions`` stays in use, in the form that Dovecot 2.2
and later write. (``dovecot-keywords``: `storage.flags`.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from .maildir import base_of
from .names import name_of, normal, written

__all__ = ["UIDLIST", "UidList", "format_subscriptions", "parse_subscriptions", "parse_uidlist"]

UIDLIST: Final = "dovecot-uidlist"
_MAX: Final = (1 << 32) - 1
_HEAD: Final = "V\t2"


@dataclass(frozen=True, slots=True)
class UidList:
    """`uids`, ascending, and `uidls` by base name. `uidls`: POP3's names of messages that have one of their own."""

    validity: int
    uidnext: int
    uids: dict[str, int] = field(default_factory=dict)
    uidls: dict[str, str] = field(default_factory=dict)


def parse_uidlist(data: bytes) -> UidList | None:
    """None when it is no uidlist of version 3 (Dovecot 1.0 and later) or 1."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    head = lines[0].split(" ")
    if head[0] == "3":
        values = {part[:1]: part[1:] for part in head[1:] if part}
        validity, uidnext = _number(values.get("V", "")), _number(values.get("N", ""))
    elif head[0] == "1" and len(head) >= 3:
        validity, uidnext = _number(head[1]), _number(head[2])
    else:
        return None
    if not validity or not uidnext:
        return None
    found = UidList(validity, uidnext)
    top = 0
    for line in lines[1:]:
        before, _, name = line.partition(":" if head[0] == "3" else " ")
        number, *extra = before.split(" ")
        uid, base = _number(number), base_of(name)
        # A line out of order is another writer's torn one.
        if not uid or uid <= top or not base:
            continue
        top = uid
        # What was expunged and moved back has a second line: a new message, last of all, as Dovecot reads it.
        found.uids.pop(base, None)
        found.uidls.pop(base, None)
        found.uids[base] = uid
        for part in extra:
            if (
                part[:1] == "P"
                and part[1:].isascii()
                and part[1:].isprintable()
                and len(part) <= 71
            ):
                found.uidls[base] = part[1:]
    return UidList(validity, max(uidnext, top + 1), found.uids, found.uidls)


def parse_subscriptions(data: bytes) -> list[str]:
    """Names of mailboxes, in their order, none twice."""
    lines = data.decode("utf-8", "replace").splitlines()
    # Version 2: parts with tabs between them, in modified UTF-7; before: as the directories are called.
    if lines and lines[0] == _HEAD:
        wanted = [
            ".".join(part.replace(".", "&AC4-") for part in line.split("\t")) for line in lines[1:]
        ]
    else:
        wanted = lines
    found: dict[str, None] = {}
    for line in wanted:
        if not line or len(line) > 4096:
            continue
        name = name_of(f".{line}") or normal(line)
        found[name] = None
    return list(found)


def format_subscriptions(names: Iterable[str]) -> bytes:
    """The file of these names."""
    return "".join([f"{_HEAD}\n\n", *(f"{_line(name)}\n" for name in names)]).encode()


def _line(name: str) -> str:
    return "\t".join(written(part).replace("&AC4-", ".") for part in name.split("/"))


def _number(text: str) -> int | None:
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    return value if 0 < value <= _MAX else None
