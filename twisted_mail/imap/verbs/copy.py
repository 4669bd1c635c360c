"""COPY and UID COPY (RFC 9051 section 6.4.7 and 6.4.9): all or none, with COPYUID (RFC 4315 section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...connection.drive import to_the_end
from ..changing import copy_uid, destination, gone, last_words, taken
from ..outcome import Outcome
from ..state import State
from .registry import Verb, by_uid

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import Copy
    from ..events import Command
    from ..session import ImapSession

__all__ = ["VERBS"]


async def copy(session: ImapSession, command: Command) -> Answer:
    args: Copy = command.args  # type: ignore[assignment]
    uids = taken(session, args.sequence, args.uid)
    if uids is None:
        return gone(session, command, expunges=args.uid)
    outcome = Outcome()
    if uids:
        name = destination(session, args.mailbox)
        outcome.code = copy_uid(await to_the_end(session.opened.copy(uids, name)))
    else:
        outcome.text = "No messages were there to be copied"
    return last_words(session, command, b"", outcome, expunges=args.uid)


VERBS: Final = (Verb("COPY", State.SELECTED, copy, by_uid),)
