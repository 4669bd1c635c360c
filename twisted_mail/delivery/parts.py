"""What a guard is made of: the policies of a site, each there or not, and what they are told to do.

Nothing here decides anything. `receiving` makes it from the configuration, tests as they like.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, Protocol

from ..dns.interfaces import Resolver
from ..filters.chain import Chain
from ..policy.decide import Decision, DecisionSettings
from ..policy.dkim_key import Keys
from ..policy.dmarc import DmarcSettings
from ..policy.dnsbl import DnsLists
from ..policy.greylist import Greylist
from ..policy.rates import Rates
from ..policy.scores import Weights
from ..policy.senders import Senders
from ..policy.spf import SpfSettings
from ..policy.verdicts import Verdicts
from ..storage.draft import Draft
from ..world import World
from .sealing import Sealer
from .telling import Teller

__all__ = ["Checks", "DmarcTeller", "Network", "Parts"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class DmarcTeller(Protocol):
    """Who counts what became of others' mail: `reports.counting.DmarcCounts`."""

    def judged(self, ip: str, verdicts: Verdicts, decision: Decision, header: bytes) -> None:
        """A message from `ip`, with the header block that it came with. Must not raise."""


class Checks(NamedTuple):
    """What is found out about mail from other servers. `seconds`: for the questions about one message.

    `dmarc`: whether it is looked at; `decision` says whether it is obeyed. `names`: look at HELO and PTR. `own`: our
    names and addresses.
    """

    exempt: tuple[Network, ...] = ()
    spf: bool = True
    dkim: bool = True
    arc: bool = True
    dmarc: bool = True
    received_spf: bool = False
    names: bool = True
    seconds: float = 20.0
    greet_delay: float = 0.0
    own: frozenset[str] = frozenset()
    decision: DecisionSettings = DecisionSettings()
    spf_settings: SpfSettings = SpfSettings()
    dmarc_settings: DmarcSettings = DmarcSettings()

    @property
    def weights(self) -> Weights:
        """Points of signs."""
        return self.decision.weights

    def exempts(self, ip: str) -> bool:
        """Whether a client is not to be asked; one without an address (a UNIX socket's) is on this machine."""
        return _within(ip, self.exempt)


@lru_cache(maxsize=1024)
def _within(ip: str, networks: tuple[Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return True
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


@dataclass(frozen=True, slots=True)
class Parts:
    """`checks` None: nothing is found out about anybody. `draft` makes a place for a body that a filter writes."""

    world: World
    hostname: str
    authserv_id: str
    draft: Callable[[], Draft]
    teller: Teller
    resolver: Callable[[], Resolver]
    checks: Checks | None = None
    keys: Keys | None = None
    lists: DnsLists | None = None
    rates: Rates | None = None
    senders: Senders | None = None
    greylist: Greylist | None = None
    sealer: Sealer | None = None
    incoming: Chain = field(default_factory=lambda: Chain(None, ()))
    submitted: Chain = field(default_factory=lambda: Chain(None, ()))
    reports: DmarcTeller | None = None
