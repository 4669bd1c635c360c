"""What a session has: who is logged in, the mailboxes that are open, what the client has enabled and wants to hear.

`session.ImapSession` is made on it. It promises that what was opened is closed once, and a seat given back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.logger import Logger

from ..accounts.authenticate import Authenticator, Login
from ..interfaces import IEndingAccount, IMailboxAccount
from ..mailboxes import Mailboxes, OpenMailbox
from ..world import World
from .encode import bye, ok
from .notifier import Notifier
from .refusal import No
from .seats import Seats
from .settings import ImapSettings
from .state import State
from .view import Style, View

__all__ = ["Standing"]


class Standing:
    """One client. The arguments are those of `session.ImapSession`."""

    _log = Logger()

    __slots__ = (
        "_clear_allowed",
        "_login",
        "_login_failures",
        "_parting",
        "_unwatches",
        "authenticator",
        "client_ip",
        "compressed",
        "connection",
        "enabled",
        "idle_seconds",
        "idling",
        "mailboxes_",
        "notify",
        "poke",
        "seats",
        "settings",
        "style",
        "tls",
        "tls_available",
        "utf8",
        "view_",
        "world",
    )

    poke: Callable[[], None]

    def __init__(
        self,
        world: World,
        settings: ImapSettings,
        authenticator: Authenticator,
        seats: Seats,
        *,
        client_ip: str,
        connection: str,
        loopback: bool = False,
        tls_available: bool = False,
        tls: bool = False,
    ) -> None:
        self.world = world
        self.settings = settings
        self.authenticator = authenticator
        self.seats = seats
        self.client_ip = client_ip
        self.connection = connection
        self._clear_allowed = loopback and settings.allow_plaintext_loopback
        self.tls_available: bool = tls_available
        self.tls: bool = tls
        self.compressed: bool = False
        self.idle_seconds: float | None = settings.login_seconds
        self._login_failures = 0
        self._login: Login | None = None
        self._parting: bytes | None = None
        self._unwatches: list[Callable[[], None]] = []
        self.idling: bytes | None = None
        self.notify: Notifier | None = None
        self.mailboxes_: Mailboxes | None = None
        self.view_: View | None = None
        self.enabled: frozenset[str] = frozenset()
        self.style = Style()
        self.utf8 = False

    # What commands use

    @property
    def state(self) -> State:
        if self.mailboxes_ is None:
            return State.NOT_AUTHENTICATED
        return State.AUTHENTICATED if self.view_ is None else State.SELECTED

    @property
    def mailboxes(self) -> Mailboxes:
        assert self.mailboxes_ is not None, "the table of verbs lets nobody in without a login"
        return self.mailboxes_

    @property
    def view(self) -> View:
        assert self.view_ is not None, "the table of verbs asks for a selected mailbox"
        return self.view_

    @property
    def opened(self) -> OpenMailbox:
        return self.view.opened

    @property
    def condstore(self) -> bool:
        return self.style.condstore

    @property
    def qresync(self) -> bool:
        return self.style.qresync

    @property
    def rev2(self) -> bool:
        return "IMAP4REV2" in self.enabled

    @property
    def private(self) -> bool:
        """Whether a password may be said now."""
        return self.tls or self._clear_allowed

    @property
    def account(self) -> str:
        """The account's name; "" before login."""
        return "" if self._login is None else self._login.account.name

    def enable_condstore(self) -> bytes:
        """After any CONDSTORE enabling command: what is to be said (RFC 7162 section 3.1.2.1), perhaps b""."""
        if self.style.condstore:
            return b""
        self.enable(("CONDSTORE",))
        if self.view_ is None:
            return b""
        return ok(b"*", "Highest", b"HIGHESTMODSEQ %d" % self.view_.snapshot.modseq)

    def note_client(self, fields: dict[str, str]) -> None:
        """Log what the client says it is (RFC 2971)."""
        self._log.info(
            "client: {id}",
            connection=self.connection,
            client=self.client_ip,
            account=self.account,
            id=fields,
        )

    def begin_idle(self, tag: bytes) -> None:
        """From now on changes are told as they happen."""
        self.idling = tag
        self.attend()

    def end_idle(self) -> None:
        """Changes wait for a command again."""
        self.idling = None
        self.attend()

    def notify_by(self, notifier: Notifier | None) -> None:
        """From now on (RFC 5465)."""
        before, self.notify = self.notify, notifier
        if before is not None:
            before.end()
        self._restyle()
        self.attend()

    def attend(self) -> None:
        """Hear of changes in the selected mailbox as they happen, if the client wants to."""
        if self.view_ is not None:
            # RFC 5465 section 4: in IDLE the same as NOTIFY says
            wanted = (
                self.idling is not None if self.notify is None else self.notify.selected is not None
            )
            self.view_.opened.listen(self.poke if wanted else None)

    # Login and mailbox

    async def enter(self, login: Login) -> None:
        """The login was right: open the account's mailboxes. Raises MailError, No."""
        account = login.account
        taken = False
        try:
            taken = self.seats.take(account.name)
            if not taken:
                self._log.warn(
                    "too many sessions of {account}: imap.max_sessions = {limit}",
                    connection=self.connection,
                    client=self.client_ip,
                    account=account.name,
                    limit=self.settings.max_sessions,
                )
                # RFC 5530 section 3
                raise No("Too many sessions of this account", "LIMIT")
            if IMailboxAccount.providedBy(account):
                self.mailboxes_ = await account.open_mailboxes()
            else:
                from .inbox_only import InboxOnly

                self.mailboxes_ = InboxOnly(account, self.world.now)
        except BaseException:
            if taken:
                self.seats.give_back(account.name)
            self._log_out(login)
            raise
        self._unwatches.append(self.mailboxes_.watch_end(self._account_over))
        if IEndingAccount.providedBy(account):
            self._unwatches.append(account.watch_end(self._account_over))
        self._login = login
        self._login_failures = 0
        self.idle_seconds = self.settings.idle_seconds
        self._log.info(
            "{account} logged in",
            connection=self.connection,
            account=account.name,
            client=self.client_ip,
            tls=self.tls,
        )

    def _account_over(self) -> None:
        """The account is no more, or its user is let in no more: the client is sent away."""
        if self._parting is not None:
            return
        self._log.info("{account} is closed", connection=self.connection, account=self.account)
        # RFC 9051 section 7.1.5, RFC 5530 section 3
        self._parting = bye("The account is closed", "UNAVAILABLE")
        self.poke()

    def enable(self, names: Iterable[str]) -> None:
        """Extensions by their names in upper case, as ENABLE has them."""
        self.enabled |= frozenset(names)
        enabled = self.enabled
        self.utf8 = not enabled.isdisjoint(("UTF8=ACCEPT", "IMAP4REV2"))
        self._restyle()

    def _restyle(self) -> None:
        enabled = self.enabled
        qresync = "QRESYNC" in enabled
        condstore = qresync or "CONDSTORE" in enabled
        # RFC 9051 section 7.5.2, RFC 7162 section 3.2.4, RFC 5465 section 5.1
        uid = condstore or "IMAP4REV2" in enabled or (self.notify is not None and self.notify.flags)
        self.style = Style(condstore, qresync, uid)

    def forget(self) -> None:
        """As before login (RFC 8437 section 2)."""
        self.enabled = frozenset()
        self._restyle()
        self.utf8 = False
        self.idle_seconds = self.settings.login_seconds

    async def unselect(self) -> None:
        """No mailbox is selected any more."""
        view, self.view_ = self.view_, None
        if view is not None:
            view.opened.listen(None)
            try:
                await view.opened.close()
            except Exception:
                self._log.failure("mailbox not closed", connection=self.connection)

    async def leave(self) -> None:
        """Give up mailbox and login, if any. Never raises."""
        self.idling = None
        self.notify_by(None)
        mailboxes, self.mailboxes_ = self.mailboxes_, None
        login, self._login = self._login, None
        unwatches, self._unwatches = self._unwatches, []
        for unwatch in unwatches:
            unwatch()
        await self.unselect()
        if mailboxes is None or login is None:
            return
        self._log.info(
            "{account} logged out", connection=self.connection, account=login.account.name
        )
        self.seats.give_back(login.account.name)
        try:
            await mailboxes.close()
        except Exception:
            self._log.failure("mailboxes not closed", connection=self.connection)
        finally:
            self._log_out(login)

    def _log_out(self, login: Login) -> None:
        try:
            login.logout()
        except Exception:
            self._log.failure("logout failed", connection=self.connection)
