"""What the commands that change a mailbox have in common: may they, and how their answers end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

from ..mailboxes import Filed
from .encode import compact
from .naming import naming
from .outcome import Outcome
from .refusal import No

if TYPE_CHECKING:
    from ..connection.interfaces import Answer
    from .events import Command
    from .sequence import SequenceSet
    from .session import ImapSession
    from .view import View

__all__ = [
    "copy_uid",
    "destination",
    "filed_by",
    "gone",
    "last_words",
    "taken",
    "there",
    "up_to_date",
    "writable",
]

MANY: Final = 1000


def writable(view: View) -> None:
    """Raises No for a mailbox that was opened by EXAMINE (RFC 9051 section 6.3.3)."""
    if view.read_only:
        raise No("The mailbox is selected read-only", "READ-ONLY")


def there(view: View, uids: Sequence[int]) -> Sequence[int]:
    """Those of `uids`, ascending, that are in the mailbox now: the client may not have been told yet what is not."""
    now = view.opened.snapshot
    if now is view.snapshot:
        return view.present(uids)
    if len(uids) < MANY:
        return [uid for uid in uids if now.index(uid) >= 0]
    return list(filter(frozenset(now.uids).__contains__, uids))


def taken(session: ImapSession, sequence: SequenceSet, uid: bool) -> Sequence[int] | None:
    """UIDs of the messages that a COPY or MOVE is about; None when one of them is gone: it is all or nothing (RFC 2180
    section 4.4.1). UIDs that are not there are passed over (RFC 9051 section 6.4.9).

    Raises Bad for a number that no message has.
    """
    view = session.view
    chosen = view.chosen(view.positions(sequence, uid))
    uids = there(view, chosen)
    return None if len(uids) < len(chosen) and not uid else uids


def gone(session: ImapSession, command: Command, *, expunges: bool) -> Answer:
    """NO, with what is pending: so the client hears which ones are gone, where it may."""
    outcome = Outcome("Some of the messages are gone", "EXPUNGEISSUED", "NO")
    return last_words(session, command, b"", outcome, expunges=expunges)


def destination(session: ImapSession, mailbox: str) -> str:
    """The mailbox as storage names it. Raises No for what can be no name."""
    return naming(session.settings).existing(mailbox)


def filed_by(session: ImapSession, name: str, filed: Filed) -> None:
    """The session itself put these messages into `name`."""
    if session.notify is not None:
        session.notify.own_messages(name, filed.uids)


def last_words(
    session: ImapSession,
    command: Command,
    said: bytes,
    outcome: Outcome,
    *,
    expunges: bool,
    uid: bool = False,
) -> Answer:
    """`said`, what is pending of the mailbox, and the tagged line; `uid`: with UID in each FETCH (RFC 9051 section
    6.4.9). The client is up to date when this returns: HIGHESTMODSEQ may be put into the outcome."""
    style = session.style
    if uid and not style.uid:
        style = style._replace(uid=True)
    pending = session.view.advance(style, expunges)
    if pending is None and outcome.status == "OK":
        return session.ok(command, outcome.text, outcome.code, data=said)
    pieces = chain([said] if said else [], pending or ())
    return session.stream(command, _one_by_one(pieces), outcome)


def up_to_date(session: ImapSession, outcome: Outcome) -> None:
    """RFC 7162 section 3.2.7: what the client has been told everything up to."""
    if session.condstore and not outcome.code:
        outcome.code = b"HIGHESTMODSEQ %d" % session.view.snapshot.modseq


def copy_uid(filed: Filed) -> bytes:
    """RFC 4315 section 3, without brackets; b"" when nothing was copied."""
    if not filed.uids:
        return b""
    return b"COPYUID %d %b %b" % (filed.validity, compact(filed.sources), compact(filed.uids))


async def _one_by_one(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
