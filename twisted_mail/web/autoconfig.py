"""What mail programs ask for to set themselves up: Thunderbird's ``config-v1.1.xml`` (its wiki, "Autoconfiguration").

The file says which of this server's listeners there are, and nothing of users: who asks tells his address, and it is
not looked at.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, NamedTuple

from ..address import normalize_domain

__all__ = ["PATHS", "Autoconfig", "Offer", "offers_of"]

PATHS: Final = (b"/mail/config-v1.1.xml", b"/.well-known/autoconfig/mail/config-v1.1.xml")
_PREFIX: Final = "autoconfig."

# RFC 8314 section 3: TLS from the first octet comes first, and IMAP before POP3
_KINDS: Final = (
    ("imaps", "incoming", "imap", "SSL"),
    ("imap", "incoming", "imap", "STARTTLS"),
    ("pop3s", "incoming", "pop3", "SSL"),
    ("pop3", "incoming", "pop3", "STARTTLS"),
    ("submissions", "outgoing", "smtp", "SSL"),
    ("submission", "outgoing", "smtp", "STARTTLS"),
)


class Offer(NamedTuple):
    """`listener`: its name in [listen]; `port`: where it is."""

    listener: str
    port: int


def offers_of(addresses: Iterable[tuple[str, str]]) -> tuple[Offer, ...]:
    """What others can reach: of `addresses`, as `Listeners.addresses` has them, those that are not on loopback."""
    found: dict[str, int] = {}
    for name, address in addresses:
        host, _, port = address.rpartition(":")
        try:
            loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
        except ValueError:
            continue  # a UNIX socket
        if not loopback and port.isdecimal():
            found.setdefault(name, int(port))
    return tuple(Offer(name, port) for name, port in found.items())


class Autoconfig:
    """`hostname`: of this server, which its certificate is for."""

    def __init__(self, hostname: str, offers: Iterable[Offer]) -> None:
        self._hostname = hostname
        self._ports = {offer.listener: offer.port for offer in offers}

    def document(self, host: str) -> str | None:
        """The file for the domain that `host` (``autoconfig.`` and the domain, or the domain) is of; None for none."""
        servers = [
            _server(direction, kind, self._hostname, self._ports[name], socket)
            for name, direction, kind, socket in _KINDS
            if name in self._ports
        ]
        try:
            # What a client writes is a domain, or does not get into the document
            domain = normalize_domain(host.removeprefix(_PREFIX))
        except ValueError:
            return None
        if not servers or domain.startswith("["):
            return None
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<clientConfig version="1.1">\n'
            f'  <emailProvider id="{domain}">\n    <domain>{domain}</domain>\n'
            f"    <displayName>{domain}</displayName>\n{''.join(servers)}"
            "  </emailProvider>\n</clientConfig>\n"
        )


def _server(direction: str, kind: str, host: str, port: int, socket: str) -> str:
    return (
        f'    <{direction}Server type="{kind}">\n      <hostname>{host}</hostname>\n'
        f"      <port>{port}</port>\n      <socketType>{socket}</socketType>\n"
        "      <username>%EMAILADDRESS%</username>\n"
        "      <authentication>password-cleartext</authentication>\n"
        f"    </{direction}Server>\n"
    )
