"""What a user of the library may put in our place, as zope interfaces.

`twisted.cred.portal.IRealm` gives avatars that provide `IAccount`; an account opens an `IMailbox`. A realm that
also provides `ILocalDelivery` takes the mail that SMTP receives. Methods marked *awaitable* return anything that
can be awaited: they may be `async def`, or return a Deferred. They raise `twisted_mail.status.MailError` to say
what the client shall read; anything else is answered as a temporary failure and logged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from zope.interface import Attribute, Interface

from .address import Address
from .mailboxes import Mailboxes

__all__ = [
    "Content",
    "IAccount",
    "IEndingAccount",
    "ILocalDelivery",
    "IMailbox",
    "IMailboxAccount",
    "MessageInfo",
]


class MessageInfo(NamedTuple):
    """One message of a frozen mailbox.

    `uidl`: 1–70 bytes of 0x21–0x7E, never used again for another message (RFC 1939 section 7).
    `size`: octets with CRLF line ends, before dot-stuffing (RFC 1939 section 11).
    `ascii_size`: the same of the downgraded form (RFC 6858) when the header holds bytes over 0x7F, else None.
    """

    uidl: str
    size: int
    ascii_size: int | None = None


class Content(Protocol):
    """An open message: a stream of bytes with LF line ends, read once from its start."""

    async def read(self, size: int) -> bytes:
        """At least one and at most `size` bytes; b"" at the end. May be shorter than asked."""

    def close(self) -> None:
        """Let go of the file. To be called once, always."""


class IMailbox(Interface):
    """The inbox of one account as it was when it was opened, for one POP3 session."""

    messages: Sequence[MessageInfo] = Attribute("Sequence of `MessageInfo`; does not change.")

    def fetch(index: int) -> Awaitable[Content]:
        """*Awaitable.* The `Content` of ``messages[index]``. MailError when it is gone."""

    def remove(indexes: Sequence[int]) -> Awaitable[None]:
        """*Awaitable.* Delete these messages for good; they are gone, durably, when it returns. All or none."""

    def close() -> Awaitable[None]:
        """*Awaitable.* Give up the mailbox and its lock. Called once, always, after anything else."""


class IAccount(Interface):
    """One user who has logged in: the avatar of every protocol."""

    name: str = Attribute("str: the account's name as logs show it, such as ``alice@example.org``.")

    def open_inbox() -> Awaitable[IMailbox]:
        """*Awaitable.* The inbox as an `IMailbox`, locked for this session.

        Raises MailError with ``pop3="IN-USE"`` while another session holds it (RFC 2449 section 8.1.2).
        """

    def may_send_as(address: Address) -> bool:
        """Whether this user may write this address as envelope sender (RFC 6409 section 6.1), and, in a domain of this
        site or below one, in the From field."""


class IMailboxAccount(IAccount):
    """An account with more than an inbox, for IMAP. One that is only an `IAccount` has its inbox there, read-only."""

    def open_mailboxes() -> Awaitable[Mailboxes]:
        """*Awaitable.* The account's mailboxes, for one session. Raises MailError."""


class IEndingAccount(IAccount):
    """Optional on an avatar: its sessions of IMAP and POP3 can be ended from outside."""

    def watch_end(ended: Callable[[], None]) -> Callable[[], None]:
        """Call `ended`, once, on the reactor thread, not before this returns, when this user is let in no more.

        Gives what ends the watch. An IMAP client is sent away then, one of POP3 at its next command; nothing that
        it had marked is deleted.
        """


class ILocalDelivery(Interface):
    """Optional on a realm: it takes local mail itself, in place of our store."""

    def knows(address: Address) -> Awaitable[bool]:
        """*Awaitable.* Whether mail for `address` is wanted.

        False is answered 550 5.1.1 where the directory has the domain (``mailctl domain add``), elsewhere as mail
        for other sites is: to strangers 550 5.7.1.
        """

    def deliver(
        sender: Address | None, recipients: Sequence[Address], message: bytes
    ) -> Awaitable[None]:
        """*Awaitable.* Keep `message` (LF line ends, trace headers included) for each recipient, all or none.

        250 goes out when it returns, so it returns when the message is safe. `sender` is None for ``<>``. What we would
        put into a folder for junk has one field ``X-Spam-Flag: YES``, among those on top.
        """
