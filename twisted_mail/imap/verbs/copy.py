"""COPY and UID COPY (RFC 9051 section 6.4.7 and 6.4.9): all or none, with COPYUID (RFC 4315 section 3).

Of many messages it takes long: INPROGRESS says that it goes on (RFC 9585).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from ..changing import copy_uid, destination, filed_by, gone, last_words, taken
from ..outcome import Outcome
from ..progress import Task, during
from ..state import State
from .registry import Verb, by_uid

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ...mailboxes import Filed
    from ..commands import Copy
    from ..events import Command
    from ..session import ImapSession

__all__ = ["VERBS"]


async def copy(session: ImapSession, command: Command) -> Answer:
    args: Copy = command.args
    uids = taken(session, args.sequence, args.uid)
    if uids is None:
        return gone(session, command, expunges=args.uid)
    outcome = Outcome()
    if not uids:
        outcome.text = "No messages were there to be copied"
        return last_words(session, command, b"", outcome, expunges=args.uid)
    name = destination(session, args.mailbox)
    return session.stream(command, _copied(session, command.tag, uids, name, outcome), outcome)


async def _copied(
    session: ImapSession, tag: bytes, uids: Sequence[int], name: str, outcome: Outcome
) -> AsyncIterator[bytes]:
    task: Task[Filed] = Task()
    async for piece in during(session, tag, session.opened.copy(uids, name), task, whole=True):
        yield piece
    filed_by(session, name, task.result)
    outcome.code = copy_uid(task.result)


VERBS: Final = (Verb("COPY", State.SELECTED, copy, by_uid),)
