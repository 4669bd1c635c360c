"""What remote delivery is told by the configuration, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..delivery.routes import TlsLevel

__all__ = ["DeliverySettings", "Families", "TlsRule"]

Families = Literal["any", "ipv4", "ipv6"]
"""Which addresses of hosts are used."""


@dataclass(frozen=True, slots=True)
class TlsRule:
    """What the administrator wants of one destination domain, or of all ``*.below`` it.

    `match`: names of which the certificate must have one, for ``verified``; a name that begins with a dot stands for
    all names below it. Empty: the name of the MX host, or of the domain.
    """

    domain: str
    tls: TlsLevel
    match: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """For `carrier.RemoteCarrier`.

    `hostname`: what we say in EHLO. `own_names` and `own_addresses`: who we are in a list of MX (`hostname` is one);
    addresses as `ipaddress` writes them. `loopback`: hosts found by MX may have addresses of this machine (when the
    configured resolver is trusted to say so, as in tests); a route always may. `port`: of MX hosts. `source4` and
    `source6`: the addresses to send from, "" for the system's choice.
    `tls` and `tls_rules`: what is asked of MX hosts (`tls_policy`). `ca_file`: PEM file of who is believed for
    ``verified`` and MTA-STS, None for the system's. `sts_port`: where policies of MTA-STS are fetched.
    `max_messages` on one connection; `max_age`: seconds after which it gets no further message.
    `max_hosts`, `max_addresses`: how many are looked at in one `open`; `max_sessions`: connections that begin to talk
    and come to nothing before it gives up. `head_start`: seconds before the second address family is tried too.
    """

    hostname: str
    own_names: frozenset[str] = frozenset()
    own_addresses: frozenset[str] = frozenset()
    loopback: bool = False
    port: int = 25
    families: Families = "any"
    source4: str = ""
    source6: str = ""
    tls: TlsLevel = "opportunistic"
    tls_rules: tuple[TlsRule, ...] = ()
    dane: bool = True
    mta_sts: bool = True
    sts_port: int = 443
    ca_file: Path | None = None
    max_messages: int = 100
    max_age: float = 300.0
    max_hosts: int = 8
    max_addresses: int = 16
    max_sessions: int = 5
    head_start: float = 0.25  # RFC 8305 section 8
