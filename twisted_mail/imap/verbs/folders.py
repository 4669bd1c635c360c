"""CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE (RFC 9051 section 6.3.4 to 6.3.8, RFC 6154, RFC 8474)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...connection.drive import to_the_end
from ..capability import Capability
from ..naming import naming
from ..oldname import respelt
from ..refusal import No
from ..state import LOGGED_IN
from .registry import Verb

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import Create, Delete, Rename, Subscribe, Unsubscribe
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]

_OF_ALL_MAIL: Final = frozenset(("\\All", "\\Flagged"))
"""Uses of mailboxes that show what lies in others: there are none here."""


async def create(session: ImapSession, command: Command) -> Answer:
    args: Create = command.args
    name = naming(session.settings).new(args.mailbox)
    if name == "INBOX":
        raise No("INBOX is always there", "ALREADYEXISTS")
    if not _OF_ALL_MAIL.isdisjoint(args.special_use):
        # RFC 6154 section 3
        raise No("There is no mailbox of that use here", "USEATTR")
    there = await session.mailboxes.list()
    if len(there) >= session.settings.max_mailboxes:
        # RFC 5530 section 3
        raise No(f"An account has at most {session.settings.max_mailboxes} mailboxes", "LIMIT")
    mailbox_id = await to_the_end(session.mailboxes.create(name, args.special_use))
    _ours(session, name)
    # RFC 8474 section 4.2
    code = f"MAILBOXID ({mailbox_id})"
    return session.ok(command, code=code, data=respelt(session, args.mailbox))


async def delete(session: ImapSession, command: Command) -> Answer:
    args: Delete = command.args
    name = naming(session.settings).existing(args.mailbox)
    if name == "INBOX":
        raise No("INBOX cannot be deleted", "CANNOT")
    await to_the_end(session.mailboxes.delete(name))
    _ours(session, name)
    return session.ok(command, data=respelt(session, args.mailbox, "\\NonExistent"))


async def rename(session: ImapSession, command: Command) -> Answer:
    args: Rename = command.args
    names = naming(session.settings)
    name = names.existing(args.source)
    to = names.new(args.destination)
    if to == "INBOX" or to == name:
        raise No("There is a mailbox of that name", "ALREADYEXISTS")
    if to.startswith(f"{name}/") and name != "INBOX":
        raise No("A mailbox cannot be put below itself", "CANNOT")
    await to_the_end(session.mailboxes.rename(name, to))
    _ours(session, to, f"{to}/")
    return session.ok(command, data=respelt(session, args.destination, source=args.source))


async def subscribe(session: ImapSession, command: Command) -> Answer:
    args: Subscribe = command.args
    name = naming(session.settings).new(args.mailbox)
    there = await session.mailboxes.list()
    # Names need not exist (RFC 9051 section 6.3.7), so they need a bound of their own.
    if len(there) >= 2 * session.settings.max_mailboxes and not any(
        info.name == name for info in there
    ):
        raise No("Too many subscriptions", "LIMIT")
    await to_the_end(session.mailboxes.subscribe(name, True))
    _ours(session, name)
    return session.ok(command)


async def unsubscribe(session: ImapSession, command: Command) -> Answer:
    args: Unsubscribe = command.args
    name = naming(session.settings).existing(args.mailbox)
    await to_the_end(session.mailboxes.subscribe(name, False))
    _ours(session, name)
    return session.ok(command)


def _ours(session: ImapSession, *names: str) -> None:
    if session.notify is not None:
        for name in names:
            session.notify.own_name(name)


VERBS: Final = (
    Verb("CREATE", LOGGED_IN, create),
    Verb("DELETE", LOGGED_IN, delete),
    Verb("RENAME", LOGGED_IN, rename),
    Verb("SUBSCRIBE", LOGGED_IN, subscribe),
    Verb("UNSUBSCRIBE", LOGGED_IN, unsubscribe),
)
CAPABILITIES: Final = (
    Capability("CREATE-SPECIAL-USE", "6154", note="`\\All` and `\\Flagged` are refused"),
)
