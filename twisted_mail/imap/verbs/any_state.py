"""CAPABILITY, NOOP, LOGOUT, ID: what may be said in every state; CHECK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ...connection.interfaces import Answer, Then
from ..capability import Capability
from ..encode import bye, nstring, ok
from ..state import ANY, State
from .registry import Verb, never

if TYPE_CHECKING:
    from ..commands import Id
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]

MAX_LOGGED: Final = 10
"""Fields of a client's ID that are logged …"""
MAX_LOGGED_LENGTH: Final = 100
"""… and octets of each."""


async def capability(session: ImapSession, command: Command) -> Answer:
    return session.ok(command, data=f"* CAPABILITY {session.capabilities()}\r\n".encode())


async def noop(session: ImapSession, command: Command) -> Answer:
    return session.ok(command)


async def logout(session: ImapSession, command: Command) -> Answer:
    await session.leave()
    return Answer(bye("Logging out") + ok(command.tag, "LOGOUT completed"), Then.CLOSE)


async def identify(session: ImapSession, command: Command) -> Answer:
    args: Id = command.args
    if args.parameters:
        session.note_client(
            {_text(name): _text(value or b"") for name, value in args.parameters[:MAX_LOGGED]}
        )
    # RFC 2971 section 3.2; the version is nobody's business
    return session.ok(
        command, data=b"* ID (%s %s)\r\n" % (nstring(b"name"), nstring(b"twisted-mail"))
    )


def _text(value: Any) -> str:
    return bytes(value[:MAX_LOGGED_LENGTH]).decode("utf-8", "replace")


VERBS: Final = (
    Verb("CAPABILITY", ANY, capability, never),
    Verb("NOOP", ANY, noop),
    Verb("CHECK", State.SELECTED, noop),
    Verb("LOGOUT", ANY, logout, never),
    Verb("ID", ANY, identify),
)
CAPABILITIES: Final = (
    Capability("IMAP4rev1", "3501", ANY),
    Capability("IMAP4rev2", "9051", ANY, note="the LIST of SELECT has no attributes"),
    Capability("ID", "2971", ANY),
)
