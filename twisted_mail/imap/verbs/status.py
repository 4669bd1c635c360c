"""STATUS: numbers of a mailbox that need not be selected (RFC 9051 section 6.3.11)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ...mailboxes import Status
from ..capability import Capability
from ..encode import mailbox
from ..naming import naming
from ..state import LOGGED_IN
from .registry import Verb

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import Status as StatusArguments
    from ..events import Command
    from ..session import ImapSession
    from ..settings import ImapSettings

__all__ = ["CAPABILITIES", "VERBS", "status_response"]

_ITEMS: Final[dict[str, Callable[[Status, ImapSettings], object]]] = {
    "MESSAGES": lambda found, settings: found.messages,
    # RFC 9051 appendix E: there is no \Recent any more
    "RECENT": lambda found, settings: 0,
    "UIDNEXT": lambda found, settings: found.uidnext,
    "UIDVALIDITY": lambda found, settings: found.validity,
    "UNSEEN": lambda found, settings: found.unseen,
    "DELETED": lambda found, settings: found.deleted,
    "SIZE": lambda found, settings: found.size,
    "HIGHESTMODSEQ": lambda found, settings: found.modseq,
    "MAILBOXID": lambda found, settings: f"({found.mailbox_id})",
    "APPENDLIMIT": lambda found, settings: settings.max_message_bytes,
    "DELETED-STORAGE": lambda found, settings: found.deleted_size,
}


def status_response(
    session: ImapSession, shown: str, items: tuple[str, ...], found: Status
) -> bytes:
    """The line. `shown` is the name as the client has it."""
    settings = session.settings
    values = " ".join(f"{item} {_ITEMS[item](found, settings)}" for item in items)
    return b"* STATUS %s (%s)\r\n" % (mailbox(shown, session.utf8), values.encode("ascii"))


async def status(session: ImapSession, command: Command) -> Answer:
    args: StatusArguments = command.args
    found = await session.mailboxes.status(naming(session.settings).existing(args.mailbox))
    data = status_response(session, args.mailbox, args.items, found)
    if "HIGHESTMODSEQ" in args.items:
        # RFC 7162 section 3.1: a CONDSTORE enabling command
        data = session.enable_condstore() + data
    return session.ok(command, data=data)


def _append_limit(session: ImapSession) -> tuple[str, ...]:
    return (f"APPENDLIMIT={session.settings.max_message_bytes}",)


VERBS: Final = (Verb("STATUS", LOGGED_IN, status),)
CAPABILITIES: Final = (
    Capability("STATUS=SIZE", "8438"),
    Capability(
        "APPENDLIMIT",
        "7889",
        dynamic=_append_limit,
    ),
)
