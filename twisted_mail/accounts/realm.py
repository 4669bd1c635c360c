"""Our realm: whoever a checker vouches for, as an account with a mailbox in the store.

Promises: the avatar is of a user the directory has and lets in, whichever checker gave the id; what
it may send as is asked of the directory each time. `load_realm` puts another `IRealm` in its place.

Mailboxes are opened by whom the realm is given (`open_inbox`, `open_mailboxes`): it knows no storage.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from operator import attrgetter
from typing import cast

from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from zope.interface import Interface, implementer

from ..address import Address
from ..interfaces import IAccount, IEndingAccount, IMailbox, IMailboxAccount
from ..mailboxes import Mailboxes
from ..status import MailError
from .admitted import Admitted
from .directory import Directory
from .tables import User

__all__ = ["Account", "NoAccount", "Realm", "RealmError", "find_callable", "load_realm"]


class RealmError(ValueError):
    """A configured realm that cannot be had; the text is for the operator."""


class NoAccount(UnauthorizedLogin):
    """Somebody has a right password and no account: a checker knows more names than the directory."""


@implementer(IMailboxAccount, IEndingAccount)
class Account:
    """A user of the directory who has logged in."""

    def __init__(
        self,
        user: User,
        directory: Directory,
        open_inbox: Callable[[str], Awaitable[IMailbox]],
        open_mailboxes: Callable[[str], Awaitable[Mailboxes]],
        admitted: Admitted | None = None,
    ) -> None:
        self.name = str(user.address)
        self.user = user
        self._directory = directory
        self._open_inbox = open_inbox
        self._open_mailboxes = open_mailboxes
        self._admitted = admitted
        self._since = directory.seen

    async def open_inbox(self) -> IMailbox:
        """The user's inbox. Raises MailError as `IAccount.open_inbox` says."""
        return await self._open_inbox(self.user.mailbox)

    async def open_mailboxes(self) -> Mailboxes:
        """All mailboxes of the user. Raises MailError as `IMailboxAccount.open_mailboxes` says."""
        return await self._open_mailboxes(self.user.mailbox)

    def watch_end(self, ended: Callable[[], None]) -> Callable[[], None]:
        """As `IEndingAccount.watch_end` says: when the user is disabled or removed."""
        if self._admitted is None:
            return lambda: None
        return self._admitted.watch(self.user, ended, self._since)

    def may_send_as(self, address: Address) -> bool:
        """Whether mail for `address` comes to this user, maybe among others: the own address, with
        any ``+tag``, and every alias that leads here. Who was disabled meanwhile may send as nobody.
        """
        user = self._directory.user(self.user.address)
        if user is None or not user.enabled:
            return False
        expansion = self._directory.expand(address)
        return expansion is not None and any(user.id == self.user.id for user in expansion.locals)


@implementer(IRealm)
class Realm:
    """Avatars from the directory. Both functions are given the key of the user's mailbox.

    `admitted` tells sessions when their user is let in no more.
    """

    def __init__(
        self,
        directory: Directory,
        open_inbox: Callable[[str], Awaitable[IMailbox]],
        open_mailboxes: Callable[[str], Awaitable[Mailboxes]] | None = None,
        admitted: Admitted | None = None,
    ) -> None:
        self._directory = directory
        self._gives = (directory, open_inbox, open_mailboxes or _no_mailboxes, admitted)

    def requestAvatar(
        self, avatarId: bytes | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], object, Callable[[], None]]:
        """The account of `avatarId`: an address or its local part alone, as UTF-8.

        Raises NoAccount for whom the directory does not have: a right password elsewhere makes no
        mailbox here.
        """
        if IAccount not in interfaces:
            raise NotImplementedError("this realm has IAccount only")
        name = avatarId.decode(errors="replace") if avatarId else ""
        user = self._directory.login_user(name)
        if user is None or not user.enabled:
            raise NoAccount
        return IAccount, Account(user, *self._gives), _logout


async def _no_mailboxes(mailbox: str) -> Mailboxes:
    raise MailError(451, "4.3.0", "Mailboxes are not available here")


def _logout() -> None:
    """Nothing is held for a login: mailboxes are closed by whom they were opened for."""


def find_callable(name: str) -> Callable[[], object]:
    """What ``package.module:callable`` names. Raises RealmError, with the reason in words."""
    module_name, colon, callable_name = name.partition(":")
    if not (colon and module_name and callable_name):
        raise RealmError(f"{name!r} is not of the form package.module:callable")
    try:
        found = attrgetter(callable_name)(importlib.import_module(module_name))
    except (
        Exception
    ) as error:  # somebody else's code runs: the operator wants to read whatever it is
        raise RealmError(f"{name!r} cannot be imported: {_said(error)}") from error
    if not callable(found):
        raise RealmError(f"{name!r} is not callable")
    return cast(Callable[[], object], found)


def load_realm(name: str) -> IRealm:
    """The realm that ``auth.realm`` names: ``package.module:callable``, called without arguments.

    Raises RealmError, with the reason in words.
    """
    make = find_callable(name)
    try:
        made = make()
    except Exception as error:  # as above
        raise RealmError(f"{name!r} gives no realm: {_said(error)}") from error
    if not IRealm.providedBy(made):
        raise RealmError(f"{name!r} gave {type(made).__name__}, which does not provide IRealm")
    return IRealm(made)


def _said(error: Exception) -> str:
    """In one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
