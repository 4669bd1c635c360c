"""IDLE (RFC 2177): changes are told as they happen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...connection.interfaces import Answer
from ..capability import Capability
from ..encode import continuation
from ..events import IDLE
from ..state import ANY, LOGGED_IN
from .registry import Verb

if TYPE_CHECKING:
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]


async def idle(session: ImapSession, command: Command) -> Answer:
    session.begin_idle(command.tag)
    # What has changed up to now comes at once, by the same way as what comes later
    session.poke()
    return Answer(continuation(b"Idling"), expect=IDLE)


VERBS: Final = (Verb("IDLE", LOGGED_IN, idle),)
# Announced before login, too: imaplib asks only then
CAPABILITIES: Final = (Capability("IDLE", "2177", ANY),)
