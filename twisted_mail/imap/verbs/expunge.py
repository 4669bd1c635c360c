"""EXPUNGE and UID EXPUNGE (RFC 9051 section 6.4.3 and 6.4.9, RFC 4315 section 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...connection.drive import to_the_end
from ..capability import Capability
from ..changing import last_words, there, up_to_date, writable
from ..outcome import Outcome
from ..state import State
from .registry import Verb

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import Expunge
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]


async def expunge(session: ImapSession, command: Command) -> Answer:
    args: Expunge = command.args
    view = session.view
    writable(view)
    if args.uids is None:
        await to_the_end(view.opened.expunge())
    else:
        uids = there(view, view.chosen(view.positions(args.uids, True)))
        if uids:
            await to_the_end(view.opened.expunge(uids))
    outcome = Outcome()
    answer = last_words(session, command, b"", outcome, expunges=True)
    up_to_date(session, outcome)
    return answer


VERBS: Final = (Verb("EXPUNGE", State.SELECTED, expunge),)
CAPABILITIES: Final = (Capability("UIDPLUS", "4315"),)
