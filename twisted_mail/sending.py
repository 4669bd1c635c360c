"""Mail that leaves: what `service` joins for it, from the configuration to the queue that runs.

`Sending` makes the route table and sender rewriting that the intake and the queue share, and the queue itself
(`carrying`) when this process is to run it. Nothing is connected and nothing asked before there is mail.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from .accounts.directory import Directory
from .address import Address
from .config import Config
from .delivery.intake import MailIntake
from .delivery.routes import Routes, make_routes
from .delivery.routing import SenderRewriting
from .delivery.srs import Srs
from .resolving import SharedResolver
from .siblings import News
from .storage.store import MailStore
from .world import World

if TYPE_CHECKING:
    from .queue.manager import QueueManager
    from .remote.carrier import RemoteCarrier
    from .remote.https_post import HttpsPost
    from .remote.tls_results import TlsResults

__all__ = ["Sending"]


NEW_MAIL: Final = "queue"
"""News: there is something new in the queue."""


class _FromOneDomain:
    """SRS addresses of one domain, whatever the alias."""

    def __init__(self, srs: Srs, domain: str) -> None:
        self._domain = domain
        self._forward = srs.forward
        self.reverse = srs.reverse

    def forward(self, sender: Address, domain: str) -> Address:
        return self._forward(sender, self._domain)


class Sending:
    """For the site that `config` describes. `addresses`: where it listens, as `Listeners.addresses` has them.
    `results`: who hears what became of TLS.

    Raises ValueError or OSError for what the configuration names and cannot be had.
    """

    def __init__(
        self,
        config: Config,
        world: World,
        directory: Directory,
        addresses: Sequence[tuple[str, str]],
        resolver: SharedResolver,
        results: TlsResults | None = None,
    ) -> None:
        self._results = results
        self._config = config
        self._world = world
        self._resolver = resolver
        self._manager: QueueManager | None = None
        self._remote: RemoteCarrier | None = None
        self.post: HttpsPost | None = None
        """Where reports about TLS go that are wanted by HTTPS, once it has started."""
        self._hosts = _own_hosts(addresses, config.delivery.port)
        self.routes: Routes = make_routes(config.routes)
        self.srs: SenderRewriting | None = _rewriting(config, world, directory)

    @property
    def hosts(self) -> frozenset[str]:
        """The addresses that are this host."""
        return self._hosts

    @property
    def literals(self) -> frozenset[str]:
        """The address literals that are this host."""
        return frozenset(
            f"[IPv6:{address}]" if ":" in address else f"[{address}]" for address in self._hosts
        )

    def start(self, store: MailStore, intake: MailIntake) -> None:
        """Run the queue, unless the configuration says not to."""
        config = self._config
        if not config.queue.run:
            return
        # Lean import: for the process that runs the queue.
        from .carrying import make_carrier, make_manager

        world = self._world
        self._remote, self.post = make_carrier(
            config, world, self._resolver(), self.routes, self._hosts, self._results
        )
        self._manager = make_manager(
            config, world, store, self._remote, intake.notices, self._hop_of
        )
        self._manager.start()
        self._world.siblings.hear(NEW_MAIL, self._hear_of_new_mail)

    def announce(self, store: MailStore) -> None:
        """Tell the process that runs the queue, soon, of what this one puts into it."""
        store.queue.announce(lambda: self._world.siblings.tell(NEW_MAIL, ()))

    def _hear_of_new_mail(self, _: News) -> None:
        if self._manager is not None:
            self._manager.kick()

    def reload(self) -> None:
        """Read again whom certificates of other servers are believed from."""
        if self._remote is not None:
            self._remote.authorities.reload()

    async def stop(self) -> None:
        """Let what is being sent come to its end, for a while; what is not sent waits for the next start."""
        manager, self._manager = self._manager, None
        if manager is not None:
            await manager.stop()

    def _hop_of(self, address: str, requiretls: bool) -> str:
        return self.routes.hop_of(Address.parse(address), requiretls=requiretls)


def _rewriting(config: Config, world: World, directory: Directory) -> SenderRewriting | None:
    if not config.delivery.srs:
        return None
    # The directory's secret is the same in all processes and for ever; what is shown to the world is another one.
    srs = Srs(hmac.digest(directory.secret, b"sender rewriting", "sha256"), world.now)
    domain = config.delivery.srs_domain
    return _FromOneDomain(srs, domain) if domain else srs


def _own_hosts(addresses: Sequence[tuple[str, str]], port: int) -> frozenset[str]:
    """The single addresses on which this server takes mail from others, at the port that others' servers have."""
    hosts = set()
    for name, address in addresses:
        host, _, number = address.rpartition(":")
        if name != "smtp" or number != str(port):
            continue
        try:
            parsed = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            continue  # a unix socket
        if not parsed.is_unspecified:
            hosts.add(str(parsed))
        else:
            # It is here, too, whatever else it is.
            hosts.update(("127.0.0.1", "::1"))
    return frozenset(hosts)
