"""Where mail for an address goes: to mailboxes here, to a realm that takes it itself, or nowhere."""

from __future__ import annotations

from typing import Protocol

from twisted.logger import Logger

from ..accounts.directory import Directory
from ..address import Address
from ..interfaces import IAccount, ILocalDelivery
from ..status import MailError

__all__ = ["DirectoryRouter", "RealmRouter", "Router"]

_log = Logger()


class Router(Protocol):
    """Decides on recipients."""

    async def route(self, recipient: Address, account: IAccount | None) -> None:
        """Return when mail for `recipient` can be taken. Raises MailError."""


def unknown(recipient: Address) -> MailError:
    """RFC 5321 section 4.2.3; RFC 3463 section 3.2."""
    return MailError(550, "5.1.1", "No such user here", str(recipient))


def elsewhere(account: IAccount | None) -> MailError:
    """Mail for a domain that is not ours."""
    if account is None:
        # RFC 5321 section 7.9; RFC 3463 section 3.8
        return MailError(550, "5.7.1", "Relaying denied: that domain is not served here")
    return MailError(451, "4.3.0", "No queue yet: mail to other domains cannot be sent from here")


class DirectoryRouter:
    """Local addresses go to the mailboxes of the directory's users."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def route(self, recipient: Address, account: IAccount | None) -> None:
        self.mailboxes(recipient, account)

    def mailboxes(self, recipient: Address, account: IAccount | None) -> tuple[str, ...]:
        """The keys of the mailboxes that get mail for `recipient`. Raises MailError."""
        try:
            expansion = self._directory.expand(recipient)
        except ValueError as error:
            # An alias that leads nowhere is the site's mistake, to be mended: the sender's server tries again.
            _log.error("mail for {address}: {error}", address=str(recipient), error=str(error))
            raise MailError(451, "4.3.5", "Address cannot be resolved just now", error) from error
        if expansion is None:
            if recipient.domain and not self._directory.is_local_domain(recipient.domain):
                raise elsewhere(account)
            if recipient.local.lower() in ("postmaster", "abuse"):
                # RFC 5321 section 4.5.1: always taken; a site without users has nobody to take it yet.
                raise MailError(451, "4.3.5", "Nobody is responsible for that yet, try again later")
            raise unknown(recipient)
        if expansion.remote:
            raise MailError(451, "4.3.0", "No queue yet: that address leads outside")
        return tuple(user.mailbox for user in expansion.locals)


class RealmRouter:
    """A realm of the site's own takes the mail; the directory's domains say only what is ours."""

    def __init__(self, realm: ILocalDelivery, directory: Directory) -> None:
        self.realm = realm
        self._directory = directory

    async def route(self, recipient: Address, account: IAccount | None) -> None:
        if await self.realm.knows(recipient):
            return
        if recipient.domain and not self._directory.is_local_domain(recipient.domain):
            raise elsewhere(account)
        raise unknown(recipient)
