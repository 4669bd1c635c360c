"""The resolver that a site shares, made when it is first needed: its cache is for everybody."""

from __future__ import annotations

from typing import Any

from .config import Dns
from .dns.interfaces import Resolver
from .dns.resolver import make_resolver
from .world import World

__all__ = ["SharedResolver"]


class SharedResolver:
    """Call it for the resolver: the world's, or one as `[dns]` says."""

    def __init__(self, dns: Dns, world: World) -> None:
        self._dns = dns
        self._world = world
        self._own: Any = None

    def __call__(self) -> Resolver:
        if self._world.resolver is not None:
            return self._world.resolver
        if self._own is None:
            dns = self._dns
            self._own = make_resolver(
                self._world.reactor,
                servers=dns.servers,
                lifetime=dns.timeout_seconds,
                trust_ad=dns.trust_ad,
                entries=dns.cache_entries,
            )
        own: Resolver = self._own
        return own

    def close(self) -> None:
        """Ask nothing any more."""
        own, self._own = self._own, None
        if own is not None:
            own.close()
