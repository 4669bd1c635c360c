"""The queue and what carries mail to other hosts, made from the configuration: for the process that runs the queue.

Apart from `sending`, because those who only take mail in need nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable

from .config import Config
from .delivery.notices import Notices
from .delivery.routes import Routes
from .dns.interfaces import Resolver
from .queue.manager import QueueManager
from .queue.schedule import Settings
from .remote.carrier import RemoteCarrier
from .remote.https_post import HttpsPost
from .remote.mta_sts import StsPolicies
from .remote.settings import DeliverySettings, TlsRule
from .remote.sts_fetch import HttpsFetch
from .remote.sts_store import SqliteStsStore
from .remote.tls_results import TlsResults
from .storage.store import MailStore
from .world import World

__all__ = ["make_carrier", "make_manager"]


def make_manager(
    config: Config,
    world: World,
    store: MailStore,
    carrier: RemoteCarrier,
    notices: Notices,
    hop_of: Callable[[str, bool], str],
) -> QueueManager:
    """The queue of `store`; it does not run yet. `hop_of`: an address, and whether it needs TLS all the way."""
    return QueueManager(
        world,
        store.queue,
        carrier,
        notices,
        _settings(config),
        hop_of,
        hostname=config.hostname,
        double_bounces_to=config.queue.double_bounces,
    )


def make_carrier(
    config: Config,
    world: World,
    resolver: Resolver,
    routes: Routes,
    own_addresses: frozenset[str],
    results: TlsResults | None,
) -> tuple[RemoteCarrier, HttpsPost]:
    """Who brings mail to others, and where reports about TLS go that are wanted by HTTPS. `results`: who hears what
    became of TLS.
    """
    settings = DeliverySettings(
        hostname=config.delivery.hostname or config.hostname,
        own_names=frozenset((config.hostname,)),
        own_addresses=own_addresses,
        # Who names the servers to ask answers for what they say.
        loopback=bool(config.dns.servers) or world.resolver is not None,
        port=config.delivery.port,
        families=config.delivery.family,
        source4=config.delivery.source_ipv4,
        source6=config.delivery.source_ipv6,
        tls=config.delivery.tls,
        tls_rules=tuple(TlsRule(one.domain, one.tls) for one in config.delivery.tls_policy),
        dane=config.delivery.dane,
        mta_sts=config.delivery.mta_sts,
        sts_port=config.delivery.https_port,
        ca_file=config.delivery.ca_file,
    )
    policies = None
    if config.delivery.mta_sts:
        policies = StsPolicies(
            resolver,
            HttpsFetch(world, resolver, settings),
            world.now,
            SqliteStsStore(world.threads, config.data / "mta-sts.sqlite3"),
        )
    carrier = RemoteCarrier(world, resolver, routes, settings, policies=policies, results=results)
    return carrier, HttpsPost(world, resolver, settings)


def _settings(config: Config) -> Settings:
    queue = config.queue
    return Settings(
        first_retry=queue.retry_first_seconds,
        cap=queue.retry_max_seconds,
        lifetime=queue.lifetime_seconds,
        warn_after=queue.warn_after_seconds,
        window=queue.window,
        concurrency=queue.connections_per_destination,
        connections=queue.connections,
        slow_connections=2 * queue.connections,
        rate=queue.rate_per_destination,
        drain=config.limits.drain_seconds,
        remember=queue.history_seconds,
        remember_most=queue.history_messages,
    )
