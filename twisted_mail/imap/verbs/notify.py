"""NOTIFY (RFC 5465); `imap.notifier` does it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from ..capability import Capability
from ..commands import Notify
from ..notifier import Notifier
from ..state import LOGGED_IN
from .registry import Verb

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]


async def notify(session: ImapSession, command: Command) -> Answer:
    args: Notify = command.args
    if args.groups is None:
        session.notify_by(None)
        return session.ok(command)
    notifier = Notifier(session, args.groups)
    await notifier.begin()
    # RFC 5465 section 3.1: it replaces the one before
    session.notify_by(notifier)
    if args.status:
        return session.stream(command, _first(notifier))
    return session.ok(command)


async def _first(notifier: Notifier) -> AsyncIterator[bytes]:
    async for line in notifier.first():
        yield line


VERBS: Final = (Verb("NOTIFY", LOGGED_IN, notify),)
CAPABILITIES: Final = (
    Capability(
        "NOTIFY",
        "5465",
        LOGGED_IN,
        note="no AnnotationChange; annotations that another process changes are not told; the end of a command "
        "tells what is pending, whatever was asked for; STATUS tells what the client did itself, too",
    ),
)
