"""One mail server: the only place where the rooms are joined.

`MailService` is an `IService`: in twistd (`tap`), in somebody's program, in a test on a simulated world. Its
life:

- ``privilegedStartService`` opens the sockets and reads the keys, while that is still allowed;
- ``startService`` opens accounts and store. Whatever an unclean stop left is recovered first; clients that
  come meanwhile wait in the sockets' queues. `when_serving` tells when it is done, or failed;
- ``stopService`` lets nobody in, gives running transactions, in and out, ``limits.drain_seconds`` to come to their
  end, cuts what is left, and closes the store, so that the next start has nothing to recover.

It installs no signal handlers, writes on no terminal and never ends the process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from .accounts.admitted import Admitted
from .accounts.directory import Directory
from .accounts.realm import Realm, load_realm
from .config import LISTENERS, WEB_LISTENERS, Config
from .connection.factory import MailFactory
from .connection.tls import ServerTls
from .delivery.alarms import Alarms
from .delivery.intake import MailIntake
from .factories import intake_settings, make_authenticator, make_factories, make_web
from .interfaces import ILocalDelivery
from .listeners import ListenError, Listeners
from .receiving import Receiving
from .reporting import Reporting
from .resolving import SharedResolver
from .sending import Sending
from .site import (
    Owner,
    check_data,
    make_certificates,
    make_data,
    make_store,
    open_directory,
    refuse_root,
)
from .status import MailError
from .storage.store import MailStore
from .world import World

if TYPE_CHECKING:
    from .acme.site import SiteCertificates
    from .web.server import WebFactory

__all__ = ["MailService", "StartError"]


class StartError(Exception):
    """The server cannot start; the text is for the operator."""


class MailService(Service):
    """The server that `config` describes, in `world`.

    `owner`: who the process becomes between ``privilegedStartService`` and ``startService``, when that is
    somebody else. `prepare` is called with the accounts before anybody is served.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        world: World,
        *,
        owner: Owner | None = None,
        prepare: Callable[[Directory], Awaitable[None]] | None = None,
    ) -> None:
        self.config = config
        self._world = world
        self._owner = owner
        self._prepare = prepare
        self._bound = False
        self._listeners = Listeners(world.reactor)
        self._tls: ServerTls | None = None
        self._factories: dict[str, MailFactory] = {}
        self._web: dict[str, WebFactory] = {}
        self._certificates: SiteCertificates | None = None
        self._directory: Directory | None = None
        self._admitted: Admitted | None = None
        self._store: MailStore | None = None
        self._resolver: SharedResolver | None = None
        self._reporting: Reporting | None = None
        self._sending: Sending | None = None
        self._receiving: Receiving | None = None
        self._starting: Deferred[None] | None = None
        self._outcome: Failure | None = None
        self._waiting: list[Deferred[None]] | None = []

    @property
    def listeners(self) -> list[tuple[str, str]]:
        """Name and address of each socket, such as ``("smtp", "127.0.0.1:2525")``."""
        return self._listeners.addresses

    def when_serving(self) -> Deferred[None]:
        """Fires when clients are answered; fails with StartError when they will not be."""
        result: Deferred[None] = Deferred()
        if self._waiting is not None:
            self._waiting.append(result)
        elif self._outcome is not None:
            result.errback(self._outcome)
        else:
            result.callback(None)
        return result

    def reload(self) -> None:
        """Read the certificates again; connections stay. What is wrong with them is logged."""
        if self._tls is not None:
            self._tls.reload()
        if self._sending is not None:
            self._sending.reload()

    # IService

    def privilegedStartService(self) -> None:
        """Open sockets, make directories, read keys. Raises StartError, and then all is closed again."""
        self._bind()

    def startService(self) -> None:
        """Begin to serve. Raises StartError when that is known at once; see `when_serving` for the rest."""
        if self._waiting is None:
            self._waiting = []
        self._bind()
        self.running = True
        self._starting = Deferred.fromCoroutine(self._start())

    def stopService(self) -> Deferred[None]:
        """Fires when the last connection is gone and the store is closed."""
        self.running = False
        return Deferred.fromCoroutine(self._stop())

    # Start

    def _bind(self) -> None:
        if self._bound:
            return
        try:
            check_data(self.config, self._world.disk)
            for name in (*LISTENERS, *WEB_LISTENERS):
                for endpoint in getattr(self.config.listen, name):
                    self._listeners.bind(name, endpoint)
            make_data(self.config, self._world.disk, self._owner)
            if self._owner is None:
                refuse_root(self.config, self._world.disk)
            pairs = make_certificates(self.config, self._world.now(), self._owner)
            self._certificates = _make_certificates_of_ca(self.config, self._world)
            self._tls = ServerTls(
                [(pair.certificate, pair.key) for pair in pairs],
                self._world.reactor.seconds,
                preferred=self._certificates.certificate if self._certificates else None,
                prove=self._certificates.prove if self._certificates else None,
            )
        except (OSError, ValueError, ListenError) as error:
            Deferred.fromCoroutine(self._listeners.close())
            refusal = StartError(str(error))
            self._settle(Failure(refusal))
            raise refusal from error
        self._bound = True

    async def _start(self) -> None:
        try:
            await self._open()
        except Exception as error:
            expected = isinstance(error, (OSError, ValueError, MailError))
            if not expected:
                self._log.failure("failure while starting")
            await self._close()
            self._settle(Failure(StartError(str(error) if expected else f"failure: {error!r}")))
        else:
            if self.config.workers:
                self._log.warn(
                    "workers = {workers} has no effect yet: this process serves alone",
                    workers=self.config.workers,
                )
            for name, address in self.listeners:
                self._log.info("listening", protocol=name, address=address)
            self._settle(None)

    async def _open(self) -> None:
        config, world, tls = self.config, self._world, self._tls
        assert tls is not None
        self._directory = directory = open_directory(config, now=world.now, entropy=world.entropy)
        self._store = store = make_store(config, world, directory.quota)
        await store.start()
        # Not before: a user made for a start that then fails would have a password nobody was told.
        if self._prepare is not None:
            await self._prepare(directory)
        if not directory.domains() and self.config.auth.realm == "":
            self._log.warn(
                "no domain yet, so nobody gets mail, not even postmaster: mailctl domain add, then user add"
            )
        if not directory.postmaster_is_there():
            self._log.warn(
                "postmaster = {postmaster}: no user or alias is called that, so the first user gets postmaster's mail",
                postmaster=config.postmaster,
            )
        if not self.listeners:
            self._log.warn("[listen] names no address: nobody is served")
        self._resolver = resolver = SharedResolver(config.dns, world)
        self._reporting = reporting = Reporting(config, world, resolver)
        self._sending = sending = Sending(
            config, world, directory, self.listeners, resolver, reporting.tls
        )
        alarms = Alarms(world, directory, config.hostname)
        self._receiving = receiving = Receiving(
            config,
            world,
            resolver,
            draft=store.draft,
            hosts=sending.hosts,
            secret=directory.secret,
            alarms=alarms,
            reports=reporting.dmarc,
        )
        await receiving.start()
        self._admitted = Admitted(world.reactor, directory)
        realm = _make_realm(config, directory, store, self._admitted)
        intake = _make_intake(
            config, world, directory, store, sending, receiving, alarms, ILocalDelivery(realm, None)
        )
        alarms.notices = intake.notices
        authenticator = make_authenticator(config, world, directory, realm)
        self._factories = make_factories(config, world, intake, authenticator, tls)
        self._web = make_web(config, world, tls, self._certificates, self.listeners)
        self._listeners.open({**self._factories, **self._web})
        sending.start(store, intake)
        reporting.start(intake.notices, None if sending.post is None else sending.post.post)
        if self._certificates is not None:
            self._certificates.start(tls.reload)

    def _settle(self, outcome: Failure | None) -> None:
        self._outcome = outcome
        waiting, self._waiting = self._waiting or [], None
        for result in waiting:
            result.callback(None) if outcome is None else result.errback(outcome)

    # Stop

    async def _stop(self) -> None:
        if self._starting is not None:
            # What is being recovered is recovered: stopping in the middle would not be sooner done.
            await self._starting
        self._log.info("stopping")
        await self._listeners.close()
        await self._stop_certificates()
        await self._drain()
        await self._close()
        if self._outcome is None and self._waiting is None:
            self._waiting = []  # who asks now waits for the next start
        self._log.info("stopped")

    async def _drain(self) -> None:
        factories: list[MailFactory | WebFactory] = [
            *self._factories.values(),
            *self._web.values(),
        ]
        ends = [factory.drain() for factory in factories]
        if self._reporting is not None:
            ends.append(Deferred.fromCoroutine(self._reporting.stop()))
        if self._sending is not None:
            # What comes in until the last session has ended waits for the next start.
            ends.append(Deferred.fromCoroutine(self._stop_sending(self._sending)))
        drained = DeferredList(ends)
        timer = self._world.reactor.callLater(
            self.config.limits.drain_seconds, _abort_all, factories
        )
        await drained
        if timer.active():
            timer.cancel()

    async def _stop_sending(self, sending: Sending) -> None:
        try:
            await sending.stop()
        except Exception:
            self._log.failure("the queue did not stop well; nothing of it is lost")

    async def _stop_certificates(self) -> None:
        certificates, self._certificates = self._certificates, None
        if certificates is not None:
            await certificates.stop()

    async def _close(self) -> None:
        await self._listeners.close()
        await self._stop_certificates()
        self._bound = False
        sending, self._sending = self._sending, None
        if sending is not None:
            await self._stop_sending(sending)
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            await receiving.stop()
        reporting, self._reporting = self._reporting, None
        if reporting is not None:
            await reporting.close()
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            resolver.close()
        store, self._store = self._store, None
        if store is not None:
            try:
                await store.stop()
            except Exception:
                self._log.failure("the store did not close well; the next start recovers it")
        admitted, self._admitted = self._admitted, None
        if admitted is not None:
            admitted.stop()
        directory, self._directory = self._directory, None
        if directory is not None:
            directory.close()
        self._factories = {}
        self._web = {}


def _abort_all(factories: Sequence[MailFactory | WebFactory]) -> None:
    for factory in factories:
        factory.abort_all()


def _make_certificates_of_ca(config: Config, world: World) -> SiteCertificates | None:
    """Raises OSError or ValueError."""
    if not config.tls.acme:
        return None
    # Lean import: for those who have it.
    from .acme.site import SiteCertificates

    return SiteCertificates(config, world)


def _make_realm(
    config: Config, directory: Directory, store: MailStore, admitted: Admitted
) -> IRealm:
    """Raises RealmError."""
    if config.auth.realm:
        return load_realm(config.auth.realm)
    return Realm(directory, store.open_inbox, store.open_mailboxes, admitted)


def _make_intake(
    config: Config,
    world: World,
    directory: Directory,
    store: MailStore,
    sending: Sending,
    receiving: Receiving,
    alarms: Alarms,
    realm: ILocalDelivery | None,
) -> MailIntake:
    return MailIntake(
        world,
        intake_settings(config, sending.literals),
        store,
        directory,
        realm,
        routes=sending.routes,
        srs=sending.srs,
        guard=receiving.guard,
        sign=None if receiving.sealer is None else receiving.sealer.sign_whole,
        bounced=alarms.bounced,
        teller=receiving.parts.teller,
    )
