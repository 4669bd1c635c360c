"""The server by one configuration: its rooms, what answers clients in this process, and the duties of the site.

Made while keys may be read (`make_life`), opened when it is to serve, and brought to an end when the server stops or
goes on with another configuration; two of them may be there for a while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from .config import Config
from .connection.tls import ServerTls
from .duties import Duties
from .listeners import Listeners
from .rooms import Prepare, Rooms
from .serving import Serving, drained, make_tls
from .site import Owner, make_certificates
from .world import World

if TYPE_CHECKING:
    from .acme.site import SiteCertificates

__all__ = ["Life", "make_life"]


class Life:
    """The server by one configuration."""

    def __init__(self, config: Config, tls: ServerTls, certificates: SiteCertificates | None):
        self.config = config
        self.tls = tls
        self.certificates = certificates
        self.rooms: Rooms | None = None
        self.serving: Serving | None = None
        self.duties: Duties | None = None

    async def open(
        self, world: World, listeners: Listeners, prepare: Prepare | None, serves: bool
    ) -> Rooms:
        """Raises what `Rooms.open` does; `close` is to be called, whatever happens."""
        addresses = listeners.addresses
        self.rooms = rooms = Rooms(self.config, world)
        await rooms.open(addresses, prepare=prepare)
        if serves:
            self.serving = Serving(rooms, self.tls)
        self.duties = Duties(rooms, self.tls, self.certificates, addresses)
        return rooms

    @property
    def factories(self) -> dict[str, Any]:
        return {
            **(self.serving.factories if self.serving else {}),
            **(self.duties.factories if self.duties else {}),
        }

    async def end(self, world: World, also: Sequence[Deferred[None]] = ()) -> None:
        """Whoever is in the middle of something comes to the end of it, for a while; then, and when `also` has fired,
        all is closed.
        """
        ends = list(also)
        ending: list[Serving | Duties] = []
        if self.duties is not None:
            await self.duties.stop_renewal()
            ends += self.duties.stop()
            ending.append(self.duties)
        if self.serving is not None:
            ends += self.serving.drain()
            ending.append(self.serving)
        await drained(world, ends, self.config.limits.drain_seconds, ending)
        await self.close()

    async def close(self) -> None:
        rooms, self.rooms = self.rooms, None
        if rooms is not None:
            await rooms.close()


def make_life(
    config: Config,
    world: World,
    owner: Owner | None = None,
    held: Mapping[Path, bytes] | None = None,
) -> Life:
    """Nothing is open yet. `held`: what is in files that this process may not read any more.

    Raises OSError or ValueError.
    """
    pairs = make_certificates(config, world.now(), owner)
    certificates = _certificates_of_ca(config, world)
    files = [(pair.certificate, pair.key) for pair in pairs]
    return Life(
        config, make_tls(files, certificates, world, held, cbc=config.tls.cbc), certificates
    )


def _certificates_of_ca(config: Config, world: World) -> SiteCertificates | None:
    """Raises OSError or ValueError."""
    if not config.tls.acme:
        return None
    # Lean import: for those who have it.
    from .acme.site import SiteCertificates

    return SiteCertificates(config, world)
