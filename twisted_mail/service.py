"""One mail server: when it starts, changes its configuration, and ends.

`MailService` is an `IService`: in twistd (`tap`), in somebody's program, in a test on a simulated world. Its
life:

- ``privilegedStartService`` opens the sockets and reads the keys, while that is still allowed;
- ``startService`` opens accounts and store. Whatever an unclean stop left is recovered first; clients that
  come meanwhile wait in the sockets' queues, and after some seconds are told to come again later (`starting`).
  `when_serving` tells when it is done, or failed;
- `reconfigure` goes on with another configuration, without losing anybody who is in the middle of something;
- ``stopService`` lets nobody in, gives running transactions, in and out, ``limits.drain_seconds`` to come to their
  end, cuts what is left, and closes the store, so that the next start has nothing to recover.

What there is between is a `life.Life`: it serves clients and looks after the site. With a `Fleet` the clients are
answered by other processes, on the sockets that this one has opened.

It installs no signal handlers, writes on no terminal and never ends the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from .config import LISTENERS, WEB_LISTENERS, Config
from .connection.tls import ServerTls
from .life import Life, make_life
from .listeners import ListenError, Listeners, Socket
from .rooms import Prepare, Rooms
from .siblings import Alone
from .site import Owner, check_data, make_data, refuse_root
from .starting import Starting
from .status import MailError
from .world import World

__all__ = ["Fleet", "MailService", "StartError"]

_log = Logger()
LASTING = ("listen", "data", "workers")
"""Keys of the configuration that count from the next start on."""


class StartError(Exception):
    """The server cannot start; the text is for the operator."""


_EXPECTED = (OSError, ValueError, MailError, ListenError, StartError)


class Fleet(Protocol):
    """Other processes of the site, which answer the clients."""

    async def start(
        self,
        sockets: Sequence[Socket],
        addresses: Sequence[tuple[str, str]],
        config: Config,
        files: Mapping[Path, bytes],
        rooms: Rooms,
    ) -> None:
        """Return when they answer on `sockets`, by `config`. Raises StartError.

        `addresses`: of all listeners, as `Listeners.addresses` has them; `files`: what this process has read of
        certificates; `rooms` are its own.
        """

    def read_again(self, files: Mapping[Path, bytes]) -> None:
        """Have them read their certificates. `files` as before: for those who start later."""

    async def change(self, config: Config, files: Mapping[Path, bytes], rooms: Rooms) -> None:
        """Return when all clients that come are answered by `config`. StartError: they go on as before, or are
        stopped meanwhile.
        """

    async def stop(self) -> None:
        """Return when all clients are gone, and the processes."""


class MailService(Service):
    """The server that `config` describes, in `world`.

    `owner`: who the process becomes between ``privilegedStartService`` and ``startService``, when that is
    somebody else. `prepare` is called with the accounts before anybody is served. `fleet`: who answers the clients in
    place of this process.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        world: World,
        *,
        owner: Owner | None = None,
        prepare: Prepare | None = None,
        fleet: Fleet | None = None,
    ) -> None:
        self.config = config
        self._world = world
        self._owner = owner
        self._prepare = prepare
        self._fleet = fleet
        self._bound = False
        self._listeners = Listeners(world.reactor)
        self._life: Life | None = None
        self._telling: Starting | None = None
        self._starting: Deferred[None] | None = None
        self._changing: Deferred[None] | None = None
        self._parting = False
        self._next: Config | None = None
        self._outcome: Failure | None = None
        self._waiting: list[Deferred[None]] | None = []

    @property
    def listeners(self) -> list[tuple[str, str]]:
        """Name and address of each socket, such as ``("smtp", "127.0.0.1:2525")``."""
        return self._listeners.addresses

    @property
    def rooms(self) -> Rooms | None:
        """What is open while it serves."""
        return None if self._life is None else self._life.rooms

    @property
    def tls(self) -> ServerTls | None:
        """The certificates, once they are read."""
        return None if self._life is None else self._life.tls

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
        life = self._life
        if life is None:
            return
        life.tls.reload()
        if life.duties is not None:
            life.duties.reload()
        if self._fleet is not None:
            self._fleet.read_again(life.tls.files)

    def reconfigure(self, config: Config) -> Deferred[None]:
        """Go on with `config`; fires when that is over, never fails.

        Who comes is answered by it from then on. Who is connected comes to the end of a message, and is sent away. When
        it cannot be used, a line in the log says why and all goes on as before.
        """
        if not self.running or self._life is None:
            return succeed(None)
        self._next = config
        if self._changing is None or self._changing.called:
            self._changing = Deferred.fromCoroutine(self._change())
        over: Deferred[None] = Deferred()

        def tell(_: object) -> None:
            over.callback(None)

        self._changing.addBoth(tell)
        return over

    def serve_alone(self) -> None:
        """Without the fleet: there is nobody to count with, or to tell. Before ``startService``."""
        self._fleet = None
        self._world = replace(self._world, siblings=Alone())

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
            self._life = make_life(self.config, self._world, self._owner)
        except (OSError, ValueError, ListenError) as error:
            Deferred.fromCoroutine(self._listeners.close())
            refusal = StartError(str(error))
            self._settle(Failure(refusal))
            raise refusal from error
        self._bound = True

    async def _start(self) -> None:
        life = self._life
        assert life is not None
        self._telling = telling = Starting(life.config, self._world, life.tls, self._listeners.open)
        try:
            try:
                rooms = await life.open(
                    self._world, self._listeners, self._prepare, self._fleet is None
                )
            finally:
                if telling.over():
                    self._listeners.hold()
            rooms.warn()
            if not self.listeners:
                self._log.warn("[listen] names no address: nobody is served")
            if self._fleet is not None:
                sockets = self._listeners.sockets(LISTENERS)
                await self._fleet.start(sockets, self.listeners, life.config, life.tls.files, rooms)
        except Exception as error:
            expected = isinstance(error, _EXPECTED)
            if not expected:
                self._log.failure("failure while starting")
            await self._close()
            self._settle(Failure(StartError(str(error) if expected else f"failure: {error!r}")))
        else:
            self._go(life)
            for name, address in self.listeners:
                self._log.info("listening", protocol=name, address=address)
            self._settle(None)

    def _go(self, life: Life) -> None:
        self._listeners.open(life.factories)
        assert life.duties is not None
        life.duties.start(lambda: self._renewed(life))

    def _renewed(self, life: Life) -> None:
        life.tls.reload()
        if self._fleet is not None:
            self._fleet.read_again(life.tls.files)

    def _settle(self, outcome: Failure | None) -> None:
        self._outcome = outcome
        waiting, self._waiting = self._waiting or [], None
        for result in waiting:
            result.callback(None) if outcome is None else result.errback(outcome)

    # Another configuration

    async def _change(self) -> None:
        try:
            if self._starting is not None:
                await self._starting
            while self.running and self._next is not None:
                config, self._next = self._next, None
                await self._change_to(config)
        except Exception:
            self._log.failure("failure while changing the configuration")

    async def _change_to(self, config: Config) -> None:
        old = self._life
        if old is None or old.rooms is None:
            return
        wanted = _as_far_as_it_can(config, self.config)
        if wanted == self.config:
            return
        self._log.info("the configuration has changed: going on with the new one")
        new = None
        try:
            new = make_life(wanted, self._world, self._owner, old.tls.files)
            rooms = await new.open(self._world, self._listeners, None, self._fleet is None)
            if self._fleet is not None:
                await self._fleet.change(wanted, new.tls.files, rooms)
        except Exception as error:
            if not isinstance(error, _EXPECTED):
                self._log.failure("failure in the new configuration")
            if self.running:
                self._log.error(
                    "the new configuration cannot be used, the old one goes on: {error}",
                    error=str(error),
                )
            else:
                self._log.info("the new configuration comes too late: the server stops")
            if new is not None:
                await new.close()
            return
        self._life, self.config = new, wanted
        if old.duties is not None:
            # Two would ask for the same certificate.
            await old.duties.stop_renewal()
        self._go(new)
        rooms.warn()
        self._parting = True
        await old.end(self._world)
        self._parting = False
        self._log.info("the new configuration is in use")

    # Stop

    async def _stop(self) -> None:
        if self._starting is not None:
            # What is being recovered is recovered: stopping in the middle would not be sooner done.
            await self._starting
        self._log.info("stopping")
        await self._listeners.close()
        also: list[Deferred[None]] = []
        if self._fleet is not None:
            # Before: what it changes is not waited for
            also.append(Deferred.fromCoroutine(self._fleet.stop()))
            also[0].addErrback(lambda failure: _log.failure("failure at the end", failure))
        if self._changing is not None and not self._parting:
            await self._changing
        life = self._life
        if life is not None and life.rooms is not None:
            await life.end(self._world, also)
        if self._changing is not None:
            await self._changing
        await self._close()
        if self._outcome is None and self._waiting is None:
            self._waiting = []  # who asks now waits for the next start
        self._log.info("stopped")

    async def _close(self) -> None:
        await self._listeners.close()
        telling, self._telling = self._telling, None
        if telling is not None:
            telling.abort_all()
        life, self._life = self._life, None
        if life is not None:
            if life.duties is not None:
                await life.duties.stop_renewal()
            await life.close()
        self._bound = False


def _as_far_as_it_can(wanted: Config, now: Config) -> Config:
    """`wanted`, but for what counts from the next start on; the log says what that is."""
    kept = {name: getattr(now, name) for name in LASTING}
    late = [name for name, value in kept.items() if getattr(wanted, name) != value]
    if late:
        _log.warn(
            "{keys} cannot be changed while it runs: restart the server for that",
            keys=", ".join(late),
        )
    return wanted.model_copy(update=kept) if late else wanted
