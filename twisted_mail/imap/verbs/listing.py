"""LIST, LSUB, NAMESPACE: which mailboxes there are (RFC 9051 section 6.3.9 and 6.3.10)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from ...status import MailError
from ..capability import Capability
from ..encode import mailbox, quoted, untagged
from ..listing import Line, Tree
from ..naming import naming
from ..patterns import matcher
from ..state import LOGGED_IN
from .registry import Verb
from .status import status_response

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import List, Lsub
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]

SLICE: Final = 200
"""Names that are looked at without letting others have a turn."""


async def list_(session: ImapSession, command: Command) -> Answer:
    args: List = command.args
    names = naming(session.settings)
    if args.patterns == ("",) and not args.extended:
        # RFC 9051 section 6.3.9: a special request for the separator and the root
        root = b'* LIST (\\Noselect) %s ""\r\n' % quoted(names.separator.encode())
        return session.ok(command, data=root)
    tree = Tree(
        ((names.shown(info.name), info) for info in await session.mailboxes.list()),
        names.separator,
    )
    # RFC 9051 section 6.3.9: in the extended form an empty pattern matches nothing
    matches = matcher((args.reference + one for one in args.patterns if one), names.separator)
    lines = tree.entries(matches, args.select, args.returns, args.extended, session.rev2)
    return session.stream(command, _answers(session, lines, args.status, names.separator))


async def _answers(
    session: ImapSession, lines: Iterator[Line], items: tuple[str, ...], separator: str
) -> AsyncIterator[bytes]:
    shown = quoted(separator.encode())
    if items and "HIGHESTMODSEQ" in items:
        yield session.enable_condstore()
    while batch := list(islice(lines, SLICE)):
        block = bytearray()
        for line in batch:
            block += _response(b"LIST", line, shown, session.utf8)
            # RFC 5819 section 2: not for what cannot be selected
            if items and line.node is not None:
                try:
                    found = await session.mailboxes.status(line.node.name)
                except MailError:
                    # RFC 5819 section 2: it is left out when it cannot be had
                    continue
                block += status_response(session, line.name, items, found)
        yield bytes(block)


async def lsub(session: ImapSession, command: Command) -> Answer:
    args: Lsub = command.args
    names = naming(session.settings)
    tree = Tree(
        ((names.shown(info.name), info) for info in await session.mailboxes.list()),
        names.separator,
    )
    shown = quoted(names.separator.encode())
    lines = tree.subscriptions(matcher((args.reference + args.pattern,), names.separator))
    data = b"".join(_response(b"LSUB", line, shown, session.utf8) for line in lines)
    return session.ok(command, data=data)


def _response(verb: bytes, line: Line, separator: bytes, utf8: bool) -> bytes:
    attributes = " ".join(line.attributes).encode("ascii", "replace")
    name = mailbox(line.name, utf8)
    if not line.child_info:
        return b"* %s (%s) %s %s\r\n" % (verb, attributes, separator, name)
    options = b" ".join(quoted(option.encode()) for option in line.child_info)
    return b'* %s (%s) %s %s ("CHILDINFO" (%s))\r\n' % (verb, attributes, separator, name, options)


async def namespace(session: ImapSession, command: Command) -> Answer:
    names = naming(session.settings)
    # RFC 2342 section 5: one personal namespace, none of others, none shared
    own = b"((%s %s))" % (quoted(names.prefix.encode()), quoted(names.separator.encode()))
    return session.ok(command, data=untagged(b"NAMESPACE", own, b"NIL", b"NIL"))


VERBS: Final = (
    Verb("LIST", LOGGED_IN, list_),
    Verb("LSUB", LOGGED_IN, lsub),
    Verb("NAMESPACE", LOGGED_IN, namespace),
)
CAPABILITIES: Final = (
    Capability("NAMESPACE", "2342"),
    Capability("CHILDREN", "3348"),
    Capability("LIST-EXTENDED", "5258"),
    Capability("LIST-STATUS", "5819"),
    Capability("SPECIAL-USE", "6154", note="not as annotations (section 4)"),
)
