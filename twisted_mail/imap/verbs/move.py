"""MOVE and UID MOVE (RFC 9051 section 6.4.8 and 6.4.9, RFC 6851): COPYUID untagged, then EXPUNGE or VANISHED."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...connection.drive import to_the_end
from ..capability import Capability
from ..changing import copy_uid, destination, gone, last_words, taken, up_to_date, writable
from ..encode import ok
from ..outcome import Outcome
from ..state import State
from .registry import Verb

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import Move
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]


async def move(session: ImapSession, command: Command) -> Answer:
    args: Move = command.args  # type: ignore[assignment]
    uids = taken(session, args.sequence, args.uid)
    writable(session.view)
    if uids is None:
        return gone(session, command, expunges=True)
    outcome = Outcome()
    said = b""
    if uids:
        name = destination(session, args.mailbox)
        code = copy_uid(await to_the_end(session.opened.move(uids, name)))
        if code:
            # RFC 6851 section 4.3: before the EXPUNGE responses, so not with the tag
            said = ok(b"*", "Moved", code)
    else:
        outcome.text = "No messages were there to be moved"
    answer = last_words(session, command, said, outcome, expunges=True)
    up_to_date(session, outcome)
    return answer


VERBS: Final = (Verb("MOVE", State.SELECTED, move),)
CAPABILITIES: Final = (Capability("MOVE", "6851"),)
