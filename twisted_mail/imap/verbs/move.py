"""MOVE and UID MOVE (RFC 9051 section 6.4.8 and 6.4.9, RFC 6851): COPYUID untagged, then EXPUNGE or VANISHED.

Of many messages it takes long: INPROGRESS says that it goes on (RFC 9585).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from ..capability import Capability
from ..changing import (
    copy_uid,
    destination,
    filed_by,
    gone,
    last_words,
    taken,
    up_to_date,
    writable,
)
from ..encode import ok
from ..outcome import Outcome
from ..progress import Task, during
from ..state import State
from .registry import Verb

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ...mailboxes import Filed
    from ..commands import Move
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]


async def move(session: ImapSession, command: Command) -> Answer:
    args: Move = command.args
    uids = taken(session, args.sequence, args.uid)
    writable(session.view)
    if uids is None:
        return gone(session, command, expunges=True)
    outcome = Outcome()
    if not uids:
        outcome.text = "No messages were there to be moved"
        answer = last_words(session, command, b"", outcome, expunges=True)
        up_to_date(session, outcome)
        return answer
    name = destination(session, args.mailbox)
    return session.stream(command, _moved(session, command.tag, uids, name, outcome), outcome)


async def _moved(
    session: ImapSession, tag: bytes, uids: Sequence[int], name: str, outcome: Outcome
) -> AsyncIterator[bytes]:
    task: Task[Filed] = Task()
    async for piece in during(session, tag, session.opened.move(uids, name), task, whole=True):
        yield piece
    filed_by(session, name, task.result)
    code = copy_uid(task.result)
    if code:
        # RFC 6851 section 4.3: before the EXPUNGE responses, so not with the tag
        yield ok(b"*", "Moved", code)
    for piece in session.catch_up(expunges=True):
        yield piece
    up_to_date(session, outcome)


VERBS: Final = (Verb("MOVE", State.SELECTED, move),)
CAPABILITIES: Final = (Capability("MOVE", "6851"),)
