"""What clients and duties of a site both stand on: accounts, the store, the resolver, policies, the way in.

Every process of a site that serves clients (`serving`) or looks after the site (`duties`) has these rooms open once.
They are right for several processes on one disk; what must be done once a site is not done here but in `duties`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.cred.portal import IRealm
from twisted.logger import Logger

from .accounts.admitted import Admitted
from .accounts.authenticate import RIGHT
from .accounts.directory import Directory
from .accounts.familiar import Familiar
from .accounts.realm import Realm, load_realm
from .config import Config
from .delivery.alarms import Alarms
from .delivery.intake import MailIntake
from .factories import intake_settings
from .interfaces import ILocalDelivery
from .receiving import Receiving
from .reporting import Reporting
from .resolving import SharedResolver
from .sending import Sending
from .site import make_store, open_directory
from .storage.store import MailStore
from .world import World

__all__ = ["Prepare", "Rooms"]

Prepare = Callable[[Directory], Awaitable[None]]
"""Called with the accounts before anybody is served."""

_log = Logger()


class Rooms:
    """By `config`. `open` first; `close` last, when nobody uses them any more, and also when `open` has failed."""

    directory: Directory
    store: MailStore
    resolver: SharedResolver
    reporting: Reporting
    sending: Sending
    receiving: Receiving
    realm: IRealm
    familiar: Familiar
    intake: MailIntake

    def __init__(self, config: Config, world: World) -> None:
        self.config = config
        self.world = world
        self._closing: list[Callable[[], Awaitable[None]]] = []

    async def open(
        self,
        addresses: Sequence[tuple[str, str]],
        *,
        prepare: Prepare | None = None,
        duties: bool = True,
    ) -> None:
        """Open them: whatever an unclean stop left is recovered first. `addresses`: where the site listens, as
        `Listeners.addresses` has them; `duties`: whether this process looks after the site.

        Raises OSError, ValueError and MailError.
        """
        config, world = self.config, self.world
        self.directory = directory = open_directory(config, now=world.now, entropy=world.entropy)
        self._at_close(directory.close)
        admitted = Admitted(world.reactor, directory)
        self._at_close(admitted.stop)
        self.store = store = make_store(config, world, directory.quota)
        self._closing.append(self._close_store)
        await store.start()
        # Not before: a user made for a start that then fails would have a password nobody was told.
        if prepare is not None:
            await prepare(directory)
        self.resolver = resolver = SharedResolver(config.dns, world)
        self._at_close(resolver.close)
        self.reporting = reporting = Reporting(config, world, resolver)
        self._closing.append(reporting.close)
        self.sending = sending = Sending(
            config, world, directory, addresses, resolver, reporting.tls
        )
        if not duties:
            sending.announce(store)
        alarms = Alarms(world, directory, config.hostname)
        self.familiar = familiar = Familiar(world.now, remembers=duties)
        self.receiving = receiving = Receiving(
            config,
            world,
            resolver,
            draft=store.draft,
            hosts=sending.hosts,
            secret=directory.secret,
            alarms=alarms,
            reports=reporting.dmarc,
            duties=duties,
            sources=[familiar],
        )
        self._closing.append(receiving.stop)
        await receiving.start()
        # After what was kept. Where nobody logs in, in the process that keeps it, it comes from the others.
        world.siblings.hear(RIGHT, familiar.hear)
        if config.auth.realm:
            self.realm = load_realm(config.auth.realm)
        else:
            self.realm = Realm(directory, store.open_inbox, store.open_mailboxes, admitted)
        self.intake = MailIntake(
            world,
            intake_settings(config, sending.literals),
            store,
            directory,
            ILocalDelivery(self.realm, None),
            routes=sending.routes,
            srs=sending.srs,
            guard=receiving.guard,
            sign=None if receiving.sealer is None else receiving.sealer.sign_whole,
            bounced=alarms.bounced,
            teller=receiving.parts.teller,
        )
        alarms.notices = self.intake.notices

    def warn(self) -> None:
        """Say in the log what is missing before mail can come."""
        config, directory = self.config, self.directory
        if not directory.domains() and config.auth.realm == "":
            _log.warn(
                "no domain yet, so nobody gets mail, not even postmaster: mailctl domain add, then user add"
            )
        if not directory.postmaster_is_there():
            _log.warn(
                "postmaster = {postmaster}: no user or alias is called that, so the first user gets postmaster's mail",
                postmaster=config.postmaster,
            )

    async def close(self) -> None:
        """Close what is open, in the opposite order. Never raises."""
        while self._closing:
            try:
                await self._closing.pop()()
            except Exception:
                _log.failure("a part of the server did not close well")

    def close_files(self) -> None:
        """As the end of the process does, when there was no `close`."""
        if hasattr(self, "store"):
            self.store._close_files()
        if hasattr(self, "receiving"):
            self.receiving.close_files()

    def _at_close(self, work: Callable[[], object]) -> None:
        async def close() -> None:
            work()

        self._closing.append(close)

    async def _close_store(self) -> None:
        try:
            await self.store.stop()
        except Exception:
            _log.failure("the store did not close well; the next start recovers it")
