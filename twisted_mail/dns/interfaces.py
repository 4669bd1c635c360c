"""What is asked of the DNS, and what comes back: values, and the `Resolver` that everything else sees.

The resolver of production is `dns.resolver`, that of tests `testing.dns`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

__all__ = ["Answer", "DnsError", "Mx", "Resolver", "Srv", "Tlsa"]

T = TypeVar("T", covariant=True)


class DnsError(Exception):
    """No answer just now: a timeout, SERVFAIL, a lame server, an answer that fails DNSSEC. Try again later.

    The text is for people: ``"MX of example.org: no server answered within 8 seconds"``.
    """


class Mx(NamedTuple):
    """RFC 5321 section 5.1. `host`: lower-case A-labels without the last dot; "" is RFC 7505's null MX."""

    preference: int
    host: str


class Srv(NamedTuple):
    """RFC 2782. `host`: as in `Mx`; "" says that the service is not offered."""

    priority: int
    weight: int
    port: int
    host: str


class Tlsa(NamedTuple):
    """RFC 6698 section 2.1; the numbers as they stand in the record, `data` as bytes."""

    usage: int
    selector: int
    matching: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """The records of one kind at one name, aliases followed; none when there are none.

    `exists` is False when there is no such name at all (NXDOMAIN). `name` is where the records stand: the name asked
    for, or what its CNAMEs led to. `secure`: DNSSEC vouches for all of it, the aliases and the absence too; True only
    when the configuration says that the server's AD bit is to be trusted. `ttl` in seconds, bounded.
    """

    name: str
    records: tuple[T, ...] = ()
    exists: bool = True
    secure: bool = False
    ttl: float = 0.0


class Resolver(Protocol):
    """Asks the DNS. Names are A-labels without the last dot, in any case. Every method raises DnsError."""

    async def mx(self, name: str) -> Answer[Mx]:
        """Unordered."""

    async def addresses(self, name: str, family: int) -> Answer[str]:
        """A for `family` 4, AAAA for 6; addresses as `ipaddress` writes them."""

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        """Of a name such as ``_25._tcp.mx.example.org``."""

    async def txt(self, name: str) -> Answer[bytes]:
        """Each record's strings joined."""

    async def srv(self, name: str) -> Answer[Srv]:
        """Of a name such as ``_imaps._tcp.example.org``. Unordered."""

    async def alias(self, name: str) -> Answer[str]:
        """The CNAME itself: where it leads, one step; `name` of the answer is the one asked for.

        RFC 7672 section 2.1.3 needs it: a secure alias of an MX host may lead to where nothing is secure.
        """

    async def pointer(self, address: str) -> Answer[str]:
        """The names (PTR) of an IP address."""
