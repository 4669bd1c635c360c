"""GETQUOTA, GETQUOTAROOT, SETQUOTA: how full the account is (RFC 9208). One root, "", for all of an account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...mailboxes import Quota
from ..capability import Capability
from ..encode import mailbox, untagged
from ..naming import naming
from ..refusal import No
from ..state import LOGGED_IN
from .registry import Verb

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import GetQuota, GetQuotaRoot
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]


async def getquota(session: ImapSession, command: Command) -> Answer:
    args: GetQuota = command.args
    response = b"" if args.root else _response(await session.mailboxes.quota())
    if not response:
        raise No("There is no such quota root", "NONEXISTENT")
    return session.ok(command, data=response)


async def getquotaroot(session: ImapSession, command: Command) -> Answer:
    args: GetQuotaRoot = command.args
    name = naming(session.settings).existing(args.mailbox)
    if name != "INBOX":
        await session.mailboxes.status(name)  # NONEXISTENT
    response = _response(await session.mailboxes.quota())
    # RFC 9208 section 4.2.2: a mailbox without any bound has no root
    roots = (b'""',) if response else ()
    root = untagged(b"QUOTAROOT", mailbox(args.mailbox, session.utf8), *roots)
    return session.ok(command, data=root + response)


async def setquota(session: ImapSession, command: Command) -> Answer:
    raise No("Quotas are set by who runs this server", "NOPERM")


def _response(quota: Quota) -> bytes:
    """b"" when nothing is bounded: the grammar has no empty list (RFC 9208 section 7)."""
    resources = []
    if quota.storage_limit is not None:
        # RFC 9208 section 5.1: in units of 1024 octets
        used, limit = -(-quota.storage // 1024), quota.storage_limit // 1024
        resources.append(b"STORAGE %d %d" % (used, limit))
    if quota.message_limit is not None:
        resources.append(b"MESSAGE %d %d" % (quota.messages, quota.message_limit))
    return untagged(b"QUOTA", b'""', b"(%s)" % b" ".join(resources)) if resources else b""


VERBS: Final = (
    Verb("GETQUOTA", LOGGED_IN, getquota),
    Verb("GETQUOTAROOT", LOGGED_IN, getquotaroot),
    Verb("SETQUOTA", LOGGED_IN, setquota),
)
CAPABILITIES: Final = (
    # RFC 9208 section 3.1: QUOTA for those who know RFC 2087 only. No QUOTASET.
    Capability("QUOTA", "9208"),
    Capability("QUOTA=RES-STORAGE", "9208"),
    Capability("QUOTA=RES-MESSAGE", "9208"),
)
