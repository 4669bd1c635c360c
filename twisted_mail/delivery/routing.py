"""Where mail for an address goes: to mailboxes here, to a realm that takes it itself, elsewhere, or nowhere.

In this order: an address of ours with an SRS hash goes back to whom it stands for; what the directory knows goes to
its mailboxes and, by aliases, elsewhere; other addresses go elsewhere, for those who may send there: users, and
anybody where a route says ``accept``. Elsewhere is not looked up here: a route that fails is met in the queue, but for
one that says ``fail`` to the very address the client names.

Nothing in the spelling of an address leads past this: a local part is a name and nothing else, whatever ``%``, ``!``,
``@`` or quotes stand in it, and source routes are dropped in `address` (RFC 5321 section 4.1.1.3).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple, Protocol

from twisted.logger import Logger

from ..accounts.directory import Directory
from ..address import Address
from ..interfaces import ILocalDelivery
from ..status import MailError
from .routes import Routes

__all__ = ["DirectoryRouter", "RealmRouter", "SenderRewriting", "Way"]

_log = Logger()
_SRS: Final = "SRS"


class SenderRewriting(Protocol):
    """`delivery.srs.Srs`, or what is put around it."""

    def forward(self, sender: Address, domain: str) -> Address:
        """An address of `domain` that stands for `sender`; `sender` itself when there is none."""

    def reverse(self, address: Address) -> Address | None:
        """Whom `address` stands for; None when it is an ordinary one. Raises MailError for a wrong or old hash."""


class Way(NamedTuple):
    """Where mail for one recipient goes; at least one of the three is not empty.

    `mailboxes`: keys in our store; `realm`: the address by which the realm takes it; `remote`: addresses elsewhere.
    `origin` is the address of ours that led to those (an alias, SRS), None when the sender wrote the address himself.
    """

    mailboxes: tuple[str, ...] = ()
    remote: tuple[Address, ...] = ()
    origin: Address | None = None
    realm: Address | None = None

    @property
    def here(self) -> bool:
        """Whether somebody here gets it."""
        return bool(self.mailboxes) or self.realm is not None


def unknown(recipient: Address) -> MailError:
    """RFC 5321 section 4.2.3; RFC 3463 section 3.2."""
    return MailError(550, "5.1.1", "No such user here", str(recipient))


class _Router:
    """What both have: whose domains are ours, SRS, and who may send elsewhere.

    `literals` are address literals of this host, such as ``[192.0.2.1]``: mail for them is for the home domain.
    """

    def __init__(
        self,
        directory: Directory,
        routes: Routes,
        srs: SenderRewriting | None = None,
        literals: Collection[str] = (),
    ) -> None:
        self._directory = directory
        self._routes = routes
        self._srs = srs
        self._literals = frozenset(literals)

    def home(self) -> str:
        """The domain of names that come without one; "" when none fits."""
        address = self._directory.login_address("postmaster")
        return "" if address is None else address.domain

    def _is_ours(self, domain: str) -> bool:
        return not domain or self._directory.is_local_domain(domain)

    def _at_home(self, recipient: Address) -> Address:
        """RFC 5321 section 4.1.3: an address literal of ours names this host."""
        if recipient.domain in self._literals and (home := self.home()):
            return Address(recipient.local, home)
        return recipient

    def _reversed(self, recipient: Address) -> Address | None:
        """Whom an SRS address of ours stands for."""
        if (
            self._srs is None
            or recipient.local[:3].upper() != _SRS
            or not self._is_ours(recipient.domain)
        ):
            return None
        return self._srs.reverse(recipient)

    def _elsewhere(self, address: Address, trusted: bool, origin: Address | None = None) -> Way:
        """`trusted`: may send anywhere."""
        if not trusted and not self._routes.accepts(address.domain):
            # RFC 5321 section 7.9; RFC 3463 section 3.8
            raise MailError(550, "5.7.1", "Relaying denied: that domain is not served here")
        refusal = self._routes.refusal(address)
        if refusal is not None:
            raise refusal
        return Way(remote=(address,), origin=origin)


class DirectoryRouter(_Router):
    """Local addresses go to the mailboxes of the directory's users."""

    def way(self, recipient: Address, trusted: bool) -> Way:
        """Where mail for `recipient` goes. Raises MailError. `trusted`: the sender is a user, or this server itself."""
        if recipient.domain[:1] == "[":
            recipient = self._at_home(recipient)
        if self._srs is not None and (original := self._reversed(recipient)) is not None:
            if not self._is_ours(original.domain):
                # The hash says that mail of this address has gone through here.
                return self._elsewhere(original, True, recipient)
            recipient = original
        try:
            expansion = self._directory.expand(recipient)
        except ValueError as error:
            # An alias that leads nowhere is the site's mistake, to be mended: the sender's server tries again.
            _log.error("mail for {address}: {error}", address=str(recipient), error=str(error))
            raise MailError(451, "4.3.5", "Address cannot be resolved just now", error) from error
        if expansion is None:
            if not self._is_ours(recipient.domain):
                return self._elsewhere(recipient, trusted)
            if recipient.local.lower() in ("postmaster", "abuse"):
                # RFC 5321 section 4.5.1: always taken; a site without users has nobody to take it yet.
                raise MailError(451, "4.3.5", "Nobody is responsible for that yet, try again later")
            raise unknown(recipient)
        mailboxes = tuple([user.mailbox for user in expansion.locals])
        if expansion.remote:
            return Way(mailboxes, expansion.remote, recipient)
        return Way(mailboxes)


class RealmRouter(_Router):
    """A realm of the site's own takes the mail; the directory's domains say only what is ours."""

    def __init__(
        self,
        realm: ILocalDelivery,
        directory: Directory,
        routes: Routes,
        srs: SenderRewriting | None = None,
        literals: Collection[str] = (),
    ) -> None:
        super().__init__(directory, routes, srs, literals)
        self._realm = realm

    async def way(self, recipient: Address, trusted: bool) -> Way:
        """As `DirectoryRouter.way`."""
        if await self._realm.knows(recipient):
            return Way(realm=recipient)
        named = self._at_home(recipient)
        original = self._reversed(named)
        address = original if original is not None else named
        if address is not recipient and await self._realm.knows(address):
            return Way(realm=address)
        if self._is_ours(address.domain):
            raise unknown(recipient)
        if original is not None:
            return self._elsewhere(original, True, named)
        return self._elsewhere(address, trusted)
