"""SELECT, EXAMINE, CLOSE and UNSELECT, with CONDSTORE and QRESYNC (RFC 7162).

No message is ever \\Recent here: sessions of many devices would only take it from one another, and IMAP4rev2 has done
away with it. Clients of IMAP4rev1 are told 0 RECENT.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, compress
from typing import TYPE_CHECKING, Final, cast

from ...connection.drive import to_the_end
from ..capability import Capability
from ..commands import QResync, Select
from ..encode import ok
from ..naming import naming
from ..oldname import list_line
from ..refusal import Bad
from ..sequence import SequenceSet
from ..state import LOGGED_IN, State
from ..vanished import earlier
from ..view import View, first_unseen, flags_text
from .registry import Verb, never

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]

_CLOSED: Final = ok(b"*", "The mailbox before is closed", "CLOSED")


async def select(session: ImapSession, command: Command) -> Answer:
    args: Select = command.args
    if args.qresync is not None and not session.qresync:
        # RFC 7162 section 3.2.5
        raise Bad("ENABLE QRESYNC comes first")
    # RFC 9051 section 6.3.2: whatever becomes of this, the mailbox before is not selected any more
    closed = b""
    if session.state is State.SELECTED:
        closed = _CLOSED
        await session.unselect()
    try:
        name = naming(session.settings).existing(args.mailbox)
        opened = await session.mailboxes.open(name, read_only=args.read_only)
    except Exception as error:
        return session.refuse(command, error, closed)
    session.view_ = view = View(opened)
    session.attend()
    if session.notify is not None:
        session.notify.selects()
    if args.condstore or args.qresync is not None:
        session.enable_condstore()
    pieces: Iterator[bytes] = iter((closed + _described(session, view, args.mailbox),))
    if args.qresync is not None:
        try:
            pieces = chain(pieces, await _changes(session, view, args.qresync))
        except Exception as error:
            # RFC 9051 section 6.3.2: a SELECT that fails leaves nothing selected
            await session.unselect()
            return session.refuse(command, error, closed)
    return session.lines(
        command,
        pieces,
        code="READ-ONLY" if view.read_only else "READ-WRITE",
    )


def _described(session: ImapSession, view: View, name: str) -> bytes:
    now = view.snapshot
    lines = [
        flags_text(now, view.read_only),
        b"* %d EXISTS\r\n" % len(now),
    ]
    if session.rev2:
        # RFC 9051 section 6.3.2
        lines.append(list_line(session, name))
    else:
        # RFC 3501 section 6.3.1
        lines.append(b"* 0 RECENT\r\n")
        unseen = first_unseen(now)
        if unseen >= 0:
            lines.append(ok(b"*", "The first unseen one", b"UNSEEN %d" % (unseen + 1)))
    lines += [
        ok(b"*", "UIDs are valid", b"UIDVALIDITY %d" % now.validity),
        ok(b"*", "The next UID", b"UIDNEXT %d" % now.uidnext),
        ok(b"*", "Highest", b"HIGHESTMODSEQ %d" % now.modseq),
        # RFC 8474 section 4.1
        ok(b"*", "Its id", f"MAILBOXID ({view.opened.mailbox_id})"),
    ]
    return b"".join(lines)


async def _changes(session: ImapSession, view: View, asked: QResync) -> Iterator[bytes]:
    """RFC 7162 section 3.2.5: what has vanished and what has changed since the client was here."""
    now = view.snapshot
    # RFC 7162 section 3.2.5.1: another UIDVALIDITY, so nothing of what it knows is to be used
    if asked.uid_validity != now.validity or asked.mod_sequence >= now.modseq:
        return iter(())
    known = asked.known_uids if asked.known_uids is not None else SequenceSet(((1, now.uidnext),))
    ranges = known.within(now.uidnext - 1)
    floor = _matched(now.uids, asked.match)
    # Up to there the client has lost nothing
    above = [(max(low, floor + 1), high) for low, high in ranges if high > floor]
    vanished = await earlier(view.opened, now, above, asked.mod_sequence)
    changed = list(compress(now.uids, map(asked.mod_sequence.__lt__, now.modseqs)))
    if asked.known_uids is not None:
        changed = [uid for uid in changed if known.holds(uid, 0)]
    # RFC 7162 section 3.2.5.2: VANISHED comes first
    return chain(vanished, view.fetch_flags(changed, session.style))


def _matched(uids: object, match: tuple[SequenceSet, SequenceSet] | None) -> int:
    """The highest UID up to which sequence numbers are as the client has them (RFC 7162 section 3.2.5.2); 0: none."""
    if match is None:
        return 0
    numbers, known = match
    here = cast("list[int]", uids)
    matched = 0
    for number, uid in zip(_each(numbers), _each(known), strict=False):
        if number > len(here) or here[number - 1] != uid:
            break
        matched = uid
    return matched


def _each(numbers: SequenceSet) -> Iterator[int]:
    for low, high in numbers.ranges:
        yield from range(low, high + 1)


async def close(session: ImapSession, command: Command) -> Answer:
    view = session.view
    if not view.read_only:
        # RFC 9051 section 6.4.1: all that has \\Deleted, and nothing is said of it
        await to_the_end(view.opened.expunge())
    modseq = view.opened.snapshot.modseq
    await session.unselect()
    # RFC 7162 section 3.2.9
    code = f"HIGHESTMODSEQ {modseq}" if session.qresync and not view.read_only else ""
    return session.ok(command, code=code)


async def unselect(session: ImapSession, command: Command) -> Answer:
    await session.unselect()
    return session.ok(command)


VERBS: Final = (
    Verb("SELECT", LOGGED_IN, select, never),
    Verb("EXAMINE", LOGGED_IN, select, never),
    Verb("CLOSE", State.SELECTED, close, never),
    Verb("UNSELECT", State.SELECTED, unselect, never),
)
CAPABILITIES: Final = (
    Capability("UNSELECT", "3691", LOGGED_IN),
    Capability("CONDSTORE", "7162", LOGGED_IN),
    Capability("QRESYNC", "7162", LOGGED_IN),
    Capability("OBJECTID", "8474", LOGGED_IN),
)
