"""Names for endpoints of a simulated reactor: ``HostnameEndpoint`` asks it, and it asks the world's resolver."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from zope.interface import implementer

from ..dns.interfaces import DnsError, Resolver
from .network import address_of

__all__ = ["Names"]


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name
        self.asking: Deferred[None] | None = None

    def cancel(self) -> None:
        if self.asking is not None:
            self.asking.cancel()


@implementer(IHostnameResolver)
class Names:
    """Address literals, ``localhost``, and what `resolver` knows: IPv4 addresses first. Else there is no such name."""

    def __init__(self, resolver: Resolver | None) -> None:
        self._resolver = resolver

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        resolution: Any = _Resolution(hostName)  # as mypy-zope sees no implementer in a Sequence
        resolutionReceiver.resolutionBegan(resolution)

        async def resolve() -> None:
            try:
                found = [address_of(one, portNumber) for one in await self._look_up(hostName)]
            except DnsError:
                found = []
            for address in found:
                if not addressTypes or isinstance(address, tuple(addressTypes)):
                    resolutionReceiver.addressResolved(address)
            resolutionReceiver.resolutionComplete()

        resolution.asking = Deferred.fromCoroutine(resolve())
        return resolution  # type: ignore[no-any-return]

    async def _look_up(self, name: str) -> Sequence[str]:
        try:
            return [str(ipaddress.ip_address(name))]
        except ValueError:
            pass
        if name == "localhost":
            return ["127.0.0.1"]
        if self._resolver is None:
            return []
        answers = [await self._resolver.addresses(name, family) for family in (4, 6)]
        return [address for answer in answers for address in answer.records]
