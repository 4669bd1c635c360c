"""GETMETADATA, SETMETADATA: annotations of mailboxes and of the account (RFC 5464).

What is below /shared is the account's alone, too, as mailboxes are not shared; of the server ("") only its
administrator may write there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ...connection.drive import to_the_end
from ..capability import Capability
from ..encode import astring, mailbox, string
from ..naming import naming
from ..refusal import Bad, No
from ..state import LOGGED_IN
from .registry import Verb

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import GetMetadata, SetMetadata
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "MAX_ENTRIES", "MAX_NAME", "MAX_TOTAL", "MAX_VALUE", "VERBS"]

MAX_VALUE: Final = 65_536
"""Octets of a value …"""
MAX_ENTRIES: Final = 100
"""… entries of a mailbox …"""
MAX_TOTAL: Final = 1_048_576
"""… octets of all of them, and …"""
MAX_NAME: Final = 1000
"""… of a name."""

_NAME: Final = re.compile(r"/(private|shared)((/[^/*%\x00-\x1f\x7f-\U0010ffff]+)+)")


async def getmetadata(session: ImapSession, command: Command) -> Answer:
    args: GetMetadata = command.args
    there = await session.mailboxes.metadata(_mailbox(session, args.mailbox))
    wanted = {
        name: value
        for name, value in there.items()
        if any(_within(name, entry, args.depth) for entry in args.entries)
    }
    code = ""
    if args.max_size is not None:
        long = [len(value) for value in wanted.values() if len(value) > args.max_size]
        if long:
            # RFC 5464 section 4.2.1
            code = f"METADATA LONGENTRIES {max(long)}"
        wanted = {name: value for name, value in wanted.items() if len(value) <= args.max_size}
    data = b""
    if wanted:
        pairs = [
            b"%s %s" % (astring(name.encode("utf-8", "replace")), string(value, session.utf8))
            for name, value in sorted(wanted.items())
        ]
        shown = mailbox(args.mailbox, session.utf8)
        data = b"* METADATA %s (%s)\r\n" % (shown, b" ".join(pairs))
    return session.ok(command, code=code, data=data)


def _within(name: str, entry: str, depth: int | None) -> bool:
    """RFC 5464 section 4.2.2. `depth` None is infinity."""
    if name == entry:
        return True
    if depth == 0 or not name.startswith(entry if entry.endswith("/") else f"{entry}/"):
        return False
    return depth is None or "/" not in name[len(entry.removesuffix("/")) + 1 :]


async def setmetadata(session: ImapSession, command: Command) -> Answer:
    args: SetMetadata = command.args
    entries = dict(args.entries)
    for name, value in entries.items():
        _check(args.mailbox, name, value)
    box = _mailbox(session, args.mailbox)
    after = await session.mailboxes.metadata(box)
    for name, value in entries.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = value
    if any(value is not None for value in entries.values()):
        total = sum(len(name) + len(value) for name, value in after.items())
        if len(after) > MAX_ENTRIES or total > MAX_TOTAL:
            # RFC 5464 section 4.3
            raise No("Too many annotations", "METADATA TOOMANY")
    await to_the_end(session.mailboxes.set_metadata(box, entries))
    return session.ok(command)


def _check(mailbox_name: str, name: str, value: bytes | None) -> None:
    found = _NAME.fullmatch(name)
    if found is None:
        # RFC 5464 section 3.2
        raise Bad("The name of an entry begins with /private/ or /shared/, and has no empty level")
    if len(name) > MAX_NAME:
        raise No("The name of an entry is too long", "LIMIT")
    vendor = found[2].split("/")[1:]
    if vendor[0] == "vendor" and len(vendor) < 3:
        # RFC 5464 section 3.2.1
        raise Bad("Behind /vendor/ is the name of a vendor, then of an entry")
    if found[1] == "shared" and not mailbox_name:
        raise No("That is for who runs this server", "NOPERM")
    if value is not None and len(value) > MAX_VALUE:
        raise No("The value is too long", f"METADATA MAXSIZE {MAX_VALUE}")


def _mailbox(session: ImapSession, name: str) -> str:
    return naming(session.settings).existing(name) if name else ""


VERBS: Final = (
    Verb("GETMETADATA", LOGGED_IN, getmetadata),
    Verb("SETMETADATA", LOGGED_IN, setmetadata),
)
CAPABILITIES: Final = (
    Capability("METADATA", "5464", note="changes are told by NOTIFY, not by ENABLE METADATA"),
)
