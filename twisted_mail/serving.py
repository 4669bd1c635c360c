"""What answers clients: the factories of the mail listeners, over `rooms`. One in each process that serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from .connection.factory import MailFactory
from .connection.tls import ServerTls
from .factories import make_authenticator, make_factories
from .rooms import Rooms
from .world import World

if TYPE_CHECKING:
    from .acme.site import SiteCertificates

__all__ = ["LATE_SECONDS", "Serving", "drained", "make_tls"]

_log = Logger()
LATE_SECONDS: Final = 15.0
"""More than what the main process gives workers until it kills them."""


class _Cut(Protocol):
    def abort_all(self) -> None: ...


class Serving:
    """Answers by `rooms`, with `tls`. Raises CheckerError for checkers that cannot be had."""

    def __init__(self, rooms: Rooms, tls: ServerTls) -> None:
        config, world = rooms.config, rooms.world
        authenticator = make_authenticator(
            config, world, rooms.directory, rooms.realm, rooms.familiar
        )
        rooms.receiving.when_forgiven(authenticator.forgive)
        self.factories: dict[str, MailFactory] = make_factories(
            config, world, rooms.intake, authenticator, tls
        )
        """One for each name of [listen] that is of mail."""

    def drain(self) -> Sequence[Deferred[None]]:
        """Let nobody in; idle sessions end now, the others after the message they are in. Fire when they have."""
        return [factory.drain() for factory in self.factories.values()]

    def abort_all(self) -> None:
        """Cut every connection."""
        for factory in self.factories.values():
            factory.abort_all()


async def drained(
    world: World, ends: Sequence[Deferred[None]], seconds: float, abort: Sequence[_Cut]
) -> None:
    """Return when all `ends` have fired; after `seconds` have everybody of `abort` cut what is left.

    What does not end then, either, is left to itself after `LATE_SECONDS`: a fault in one session is no reason for a
    server never to stop.
    """

    over: Deferred[None] = Deferred()
    timer: Any = None

    def cut() -> None:
        nonlocal timer
        timer = world.reactor.callLater(LATE_SECONDS, late)
        for one in abort:
            one.abort_all()

    def late() -> None:
        _log.error(
            "not all has come to its end, {seconds:g} s after it was cut", seconds=LATE_SECONDS
        )
        over.callback(None)

    def ended(_: object) -> None:
        if timer.active():
            timer.cancel()
            over.callback(None)

    timer = world.reactor.callLater(seconds, cut)
    DeferredList(list(ends), consumeErrors=True).addCallback(ended)
    await over


def make_tls(
    files: Sequence[tuple[Path, Path]],
    certificates: SiteCertificates | None,
    world: World,
    held: Mapping[Path, bytes] | None = None,
    *,
    cbc: bool = False,
) -> ServerTls:
    """What TLS connections are made by. Raises OSError or ValueError."""
    return ServerTls(
        files,
        world.reactor.seconds,
        preferred=certificates.certificate if certificates else None,
        prove=certificates.prove if certificates else None,
        held=held,
        cbc=cbc,
    )
