"""What storage refuses, as replies; and how a system error becomes one."""

from __future__ import annotations

import errno

from ..status import MailError

__all__ = [
    "AccountOver",
    "NewerMailbox",
    "expunged",
    "mailbox_broken",
    "mailbox_full",
    "mailbox_in_use",
    "message_gone",
    "no_mailbox",
    "no_space",
    "refusal",
    "too_large_for_mailbox",
    "too_many_for_mailbox",
]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class AccountOver(MailError):
    """The account was removed, or is not there: what is left of its sessions makes nothing of it again."""

    def __init__(self) -> None:
        super().__init__(451, "4.3.0", "The account is no more")


class NewerMailbox(MailError, ValueError):
    """What a newer program stored: its numbers must not begin anew. `cause` names the file, both versions and what to
    do, for the log; whose mailbox it is, is told no for now."""

    def __init__(self, cause: str) -> None:
        super().__init__(451, "4.3.0", "Mailbox temporarily unavailable", cause)


def no_space(cause: object = None) -> MailError:
    """RFC 5321 section 4.2.3, RFC 3463 section 3.4: 452 4.3.1."""
    return MailError(452, "4.3.1", "Insufficient system storage, try again later", cause)


def mailbox_broken(cause: object = None) -> MailError:
    """The mailbox cannot be used just now."""
    return MailError(451, "4.3.0", "Mailbox temporarily unavailable", cause)


def mailbox_in_use() -> MailError:
    """RFC 2449 section 8.1.2."""
    return MailError(
        450, "4.2.1", "Another session holds the mailbox, try again later", pop3="IN-USE"
    )


def message_gone() -> MailError:
    """Another program took the message away since the mailbox was opened."""
    return MailError(550, "5.7.0", "That message is no longer there", pop3="SYS/PERM")


def expunged() -> MailError:
    """RFC 5530 section 3: somebody else deleted it."""
    return MailError(550, "5.2.0", "That message is no longer there", imap="EXPUNGEISSUED")


def no_mailbox(cause: object = None) -> MailError:
    """RFC 9051 section 7.1: no such folder, though it might be made."""
    return MailError(451, "4.3.0", "There is no such mailbox", cause, imap="TRYCREATE")


def mailbox_full(cause: object = None) -> MailError:
    """RFC 3463 section 3.3: "the recipient can delete messages to make more space available. This code should be used
    as a persistent transient failure". RFC 9208 section 4.4: OVERQUOTA."""
    return MailError(452, "4.2.2", "The mailbox is full", cause, imap="OVERQUOTA")


def too_large_for_mailbox(cause: object = None) -> MailError:
    """It would not fit into the mailbox if that were empty: no use trying again."""
    return MailError(
        552, "5.2.2", "The message is larger than the mailbox", cause, imap="OVERQUOTA"
    )


def too_many_for_mailbox(count: int, limit: int, cause: object = None) -> MailError:
    """So many messages at once would not fit into the mailbox if that were empty."""
    text = f"{count} messages at once are more than the mailbox may hold, {limit}"
    return MailError(552, "5.2.2", text, cause, imap="OVERQUOTA")


def refusal(error: BaseException) -> MailError:
    """A `MailError` as it is; a full disk as 452 4.3.1; anything else as 451 4.3.0."""
    if isinstance(error, MailError):
        return error
    if isinstance(error, OSError) and error.errno in _FULL:
        return no_space(error)
    return MailError(451, "4.3.0", "Local error in processing, try again later", error)
