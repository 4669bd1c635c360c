"""The route table: to which destination mail for a domain goes, and by what name the queue knows it.

A *hop* is that name, the key of a destination: the domain (or address literal) for delivery by MX, else the `via` of
the route, ``smtp://relay.example:587`` say. A message that must not travel in clear (RFC 8689) has a hop of its own,
``example.org#requiretls``, so that it never shares a connection with mail that may; and so has one that is to travel
by whatever TLS there is (a report about TLS), ``example.org#any-tls``.

The most specific pattern wins: the domain itself, then the longest ``*.above``, then ``*``; of equal ones the first.
Nothing here is looked up or opened.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Literal, Protocol, TypeVar

from ..address import Address
from ..config.secrets import password_of
from ..config.via import Scheme, parse_pattern, parse_via
from ..status import MailError

__all__ = [
    "ANY_TLS",
    "REQUIRETLS",
    "Patterns",
    "Route",
    "RouteSettings",
    "Routes",
    "TlsLevel",
    "any_tls",
    "make_route",
    "make_routes",
    "split_hop",
]

T = TypeVar("T")

REQUIRETLS: Final = "#requiretls"
"""What stands behind the hop of messages with REQUIRETLS."""
ANY_TLS: Final = "#any-tls"
"""What stands behind the hop, by MX, of messages for which no policy about TLS holds."""

TlsLevel = Literal["none", "opportunistic", "required", "verified"]


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table.

    `domain` is the pattern, `via` the destination in its one spelling. `host` (a name, or an address without brackets)
    and `port` or `path` (unix socket) say where it is; `host` has no MX, its addresses are taken. `tls` is None for
    the schemes mx and fail. `accept`: mail for the domain is taken from anybody, as a backup MX does. `reason`: what
    is told (scheme fail).
    """

    domain: str
    via: str
    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    tls: TlsLevel | None = None
    accept: bool = False
    reason: str = ""


def make_route(
    domain: str,
    via: str,
    *,
    username: str = "",
    password: str = "",
    tls: TlsLevel | None = None,
    accept: bool = False,
) -> Route:
    """A route from the texts of a configuration. Raises ValueError for what cannot be used.

    Without `tls`, it is ``verified`` for smtps and wherever a password is sent, ``none`` on a unix socket, else
    ``opportunistic``.
    """
    parsed = parse_via(via)
    if parsed.scheme in ("mx", "fail"):
        tls = None
    elif tls is None:
        tls = "opportunistic"
        if parsed.path:
            tls = "none"
        elif username or parsed.scheme == "smtps":
            # RFC 8314 section 4.1, RFC 4954 section 9: a password goes only to whom it is meant for.
            tls = "verified"
    return Route(
        parse_pattern(domain),
        parsed.text,
        parsed.scheme,
        parsed.host,
        parsed.port,
        parsed.path,
        username,
        password,
        tls,
        accept,
        parsed.reason,
    )


class RouteSettings(Protocol):
    """A `[[routes]]` table (`config.Route`)."""

    @property
    def domain(self) -> str: ...
    @property
    def via(self) -> str: ...
    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...
    @property
    def password_file(self) -> Path | None: ...
    @property
    def tls(self) -> TlsLevel | None: ...
    @property
    def accept(self) -> bool: ...


class Patterns(Generic[T]):
    """Values of domain patterns; the most specific wins, of equal ones the first. Never changes."""

    def __init__(self, pairs: Iterable[tuple[str, T]] = ()) -> None:
        """Pairs of a pattern as `config.via.parse_pattern` writes it, and a value."""
        self._exact: dict[str, T] = {}
        self._below: dict[str, T] = {}
        self._rest: T | None = None
        for pattern, value in pairs:
            if pattern == "*":
                self._rest = value if self._rest is None else self._rest
            elif pattern.startswith("*."):
                self._below.setdefault(pattern[2:], value)
            else:
                self._exact.setdefault(pattern, value)

    def find(self, domain: str) -> T | None:
        """The value for `domain` (as `normalize_domain` writes it)."""
        value = self._exact.get(domain)
        if value is not None:
            return value
        if self._below:
            at = domain.find(".")
            while at >= 0:
                value = self._below.get(domain[at + 1 :])
                if value is not None:
                    return value
                at = domain.find(".", at + 1)
        return self._rest


class Routes:
    """The table. Never changes; look-ups take time only for the labels of the domain."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        """Raises ValueError when two routes to one destination differ in login or TLS."""
        table = tuple(routes)
        self._patterns = Patterns((route.domain, route) for route in table)
        self._empty = not table
        self._vias: dict[str, Route] = {}
        for route in table:
            if route.scheme == "mx":
                continue
            known = self._vias.setdefault(route.via, route)
            if _way(known) != _way(route):
                raise ValueError(f"two routes by {route.via} differ in their login or tls")

    def find(self, domain: str) -> Route | None:
        """The route that decides on `domain` (as `normalize_domain` writes it); None: there is none, so by MX."""
        return None if self._empty else self._patterns.find(domain)

    def hop_of(self, address: Address, *, requiretls: bool = False) -> str:
        """Where mail for `address` goes. Raises ValueError for an address without a domain."""
        return self.hop_of_domain(address.domain, requiretls=requiretls)

    def hop_of_domain(self, domain: str, *, requiretls: bool = False) -> str:
        """The same for a domain alone: of a queued recipient, ``address.rpartition("@")[2]``."""
        if not domain:
            raise ValueError("the address has no domain")
        route = self.find(domain)
        if route is None or route.scheme == "mx":
            return domain + REQUIRETLS if requiretls else domain
        if requiretls and route.scheme in ("smtp", "smtps"):
            return route.via + REQUIRETLS
        return route.via

    def route(self, hop: str) -> Route | None:
        """The way to a hop; None: by the MX of that domain, or to that address literal (`split_hop`).

        Raises KeyError for one by a route that the configuration has no more: its recipients belong to other hops now.
        """
        route = self._vias.get(hop)
        if route is not None:
            return route
        key = split_hop(hop)[0].removesuffix(ANY_TLS)
        # No domain holds a colon, but for IPv6 literals; every via does.
        if ":" not in key or key[0] == "[":
            return None
        return self._vias[key]

    def accepts(self, domain: str) -> bool:
        """Whether anybody may send to `domain` through here."""
        route = self.find(domain)
        return route is not None and route.accept

    def refusal(self, address: Address) -> MailError | None:
        """What is said to mail for `address` when its route says fail."""
        route = self.find(address.domain)
        if route is None or route.scheme != "fail":
            return None
        return MailError(550, "5.7.1", route.reason)  # RFC 3463 section 3.8


def make_routes(settings: Iterable[RouteSettings]) -> Routes:
    """The table of a configuration; password files are read now. Raises ValueError or OSError."""
    return Routes(
        make_route(
            one.domain,
            one.via,
            username=one.username,
            password=password_of(one),
            tls=one.tls,
            accept=one.accept,
        )
        for one in settings
    )


def split_hop(hop: str) -> tuple[str, bool]:
    """A hop of SMTP without what REQUIRETLS put behind it, and whether that was there."""
    if hop.endswith(REQUIRETLS) and not hop.startswith(("fail:", "lmtp:/")):
        return hop[: -len(REQUIRETLS)], True
    return hop, False


def any_tls(hop: str) -> str:
    """The hop for a message that goes to `hop` by whatever TLS there is. Routes are what the administrator says."""
    return hop if ":" in hop or hop.endswith(REQUIRETLS) else hop + ANY_TLS


def _way(route: Route) -> tuple[object, ...]:
    return (route.username, route.password, route.tls)
