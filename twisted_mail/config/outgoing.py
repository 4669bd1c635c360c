"""The tables about mail that leaves: `[queue]`, `[delivery]`, `[dns]`, `[[routes]]`; see `model`.

What `via` may say is in `via`; which route wins, in `delivery.routes`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from pydantic import Field, model_validator

from .lines import KeyPath
from .section import Section
from .values import (
    Account,
    File,
    NameServer,
    OwnName,
    Pattern,
    Source4,
    Source6,
    Text,
    ViaText,
    mistakes_in,
)
from .via import parse_name_server, parse_via

__all__ = ["Delivery", "Dns", "Queue", "Route", "TlsPolicy", "route_mistakes"]

_MONTH: Final = 2_592_000

TlsLevel = Literal["none", "opportunistic", "required", "verified"]


class Queue(Section):
    """Mail that waits for its next server: when it is tried, how much at once, when it is given up."""

    run: bool = Field(
        default=True,
        description="Whether anything is sent. `false`: mail is taken and waits, on a copy of a "
        "site say, or while its network is mended.",
    )
    lifetime_seconds: float = Field(
        default=432_000,  # RFC 5321 section 4.5.4.1
        ge=60,
        le=_MONTH,
        description="How long a message is tried before it goes back to its sender. 5 days "
        "outlast a weekend without anybody at the other end; RFC 5321 asks for 4 or 5. Counts for "
        "mail that comes after the change.",
    )
    warn_after_seconds: float = Field(
        default=14_400,
        ge=0,
        le=_MONTH,
        description="When a sender is told, once, that the message is still on its way. 0: never.",
    )
    retry_first_seconds: float = Field(
        default=300,
        ge=1,
        le=86_400,
        description="Wait after a first failure; it doubles with each further one, up to "
        "`retry_max_seconds`. Greylisting wants some minutes.",
    )
    retry_max_seconds: float = Field(
        default=14_400,
        ge=1,
        le=_MONTH,
        description="Longest such wait. More, and mail arrives long after its server is back.",
    )
    window: int = Field(
        default=10_000,
        ge=100,
        le=1_000_000,
        description="Recipients in memory at a time, about 2 KiB each; the others wait on the "
        "disk.",
    )
    connections: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Connections to other servers that get on; twice as many more wait for servers "
        "that do not answer. Each may hold two file descriptors.",
    )
    connections_per_destination: int = Field(
        default=20,
        ge=1,
        le=10_000,
        description="Connections to one destination (a domain, or a route). Large providers "
        "refuse more than 10 or 20 from one address.",
    )
    rate_per_destination: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Messages to one destination in a minute; the others wait. 0: no limit. For a "
        "new address that nobody trusts yet.",
    )
    history_seconds: float = Field(
        default=604_800,
        ge=0,
        le=31_536_000,
        description="How long `mailctl queue show` still tells of a message that is over.",
    )
    history_messages: int = Field(
        default=100_000,
        ge=0,
        le=10_000_000,
        description="How many of them are kept at most, about 1 KiB each.",
    )
    double_bounces: Account = Field(
        default="",
        description="Account that gets bounces which cannot be delivered themselves, to see what "
        'goes wrong. `""`: they are dropped, as most are answers to forged senders.',
    )

    @model_validator(mode="after")
    def _order(self) -> Queue:
        if self.retry_max_seconds < self.retry_first_seconds:
            first = f"{self.retry_first_seconds:g}"
            why = f"must be at least queue.retry_first_seconds ({first})"
            mistakes_in([(("retry_max_seconds",), why)])
        return self


class TlsPolicy(Section):
    """TLS to one domain."""

    domain: Pattern = Field(
        description='The recipients\' domain, or `"*.example.org"` for all that is below one. The '
        "most specific one counts."
    )
    tls: TlsLevel = Field(
        description="As `delivery.tls`; or `none`, for a server whose TLS is broken: then nothing "
        "that its domain publishes counts."
    )


class Delivery(Section):
    """Connections to other servers, and what is asked of their TLS."""

    hostname: OwnName = Field(
        default="",
        description="Name in EHLO. The address we connect from must have it in its PTR record, or "
        'many servers refuse. `""`: the `hostname` of the server.',
    )
    port: int = Field(
        default=25,
        ge=1,
        le=65_535,
        description="Port of other domains' servers. Another one is for tests.",
    )
    family: Literal["any", "ipv4", "ipv6"] = Field(
        default="any",
        description="Addresses that are connected to. `any`: both, where this machine has them; "
        "the second one gets its chance shortly after the first.",
    )
    source_ipv4: Source4 = Field(
        default="",
        description="Address of this machine to connect from, the one with the PTR record. "
        '`""`: the system chooses.',
    )
    source_ipv6: Source6 = Field(default="", description="The same for IPv6.")
    tls: Literal["opportunistic", "required", "verified"] = Field(
        default="opportunistic",
        description="For delivery by MX. `opportunistic`: TLS when the server offers it, with any "
        "certificate, else in clear: so mail goes everywhere. `required`: TLS, with any "
        "certificate. `verified`: with one for the server's name by a known authority. DANE and "
        "MTA-STS of the domain demand more than `opportunistic` by themselves.",
    )
    ca_file: File | None = Field(
        default=None,
        description="PEM file of the authorities that vouch for servers, in place of the system's.",
    )
    dane: bool = Field(
        default=True,
        description="Obey TLSA records (RFC 7672). Has an effect only with `dns.trust_ad`, for "
        "without DNSSEC they prove nothing.",
    )
    mta_sts: bool = Field(
        default=True,
        description="Obey what domains publish as MTA-STS (RFC 8461): their servers' names, and "
        "that TLS must be verified.",
    )
    https_port: int = Field(
        default=443,
        ge=1,
        le=65_535,
        description="Port of MTA-STS policies. Another one is for tests.",
    )
    srs: bool = Field(
        default=True,
        description="Mail that an alias sends on to another domain gets a sender of our own (SRS), "
        "for that domain's SPF check asks whether we may send; its bounces come back through us.",
    )
    srs_domain: OwnName = Field(
        default="",
        description='Domain of such senders, one that is served here. `""`: the domain of the '
        "alias.",
    )
    tls_policy: tuple[TlsPolicy, ...] = Field(
        default=(),
        strict=False,
        max_length=10_000,
        description="TLS for single domains: tables `[[delivery.tls_policy]]`.",
    )

    @model_validator(mode="after")
    def _once(self) -> Delivery:
        mistakes_in(_twice("delivery.tls_policy", "tls_policy", self.tls_policy))
        return self


class Dns(Section):
    """Who is asked for MX, address and other records."""

    servers: tuple[NameServer, ...] = Field(
        default=(),
        strict=False,
        max_length=10,
        description='Addresses of name servers, with a port when it is not 53: `"127.0.0.1"`, '
        '`"127.0.0.1:5301"`, `"[::1]:5301"`. `[]`: those of the system.',
    )
    trust_ad: bool = Field(
        default=False,
        description="Believe the servers when they say that DNSSEC vouches for an answer. Only "
        "for a resolver that validates, on this machine or on a safe way to it. DANE needs it.",
    )
    timeout_seconds: float = Field(
        default=8,
        ge=0.1,
        le=120,
        description="Wait for one answer, all servers together; then it is tried again later.",
    )
    cache_entries: int = Field(
        default=10_000,
        ge=0,
        le=1_000_000,
        description="Answers that are remembered while their TTL lasts, about 1 KiB each.",
    )

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """`servers` as pairs of address and port."""
        return tuple(parse_name_server(text) for text in self.servers)


class Route(Section):
    """Mail for some domains goes another way than their MX records say: to a smarthost, to a server
    behind this one, nowhere. Any number of these tables; the most specific `domain` wins.
    """

    domain: Pattern = Field(
        description='A domain; `"*.partner.example"` for all below it, not itself; or `"*"` for '
        "everything else, a smarthost."
    )
    via: ViaText = Field(
        description='`"smtp://host:port"` (25 when left out) or `"smtps://host:port"` (465; TLS '
        "from the first byte): the addresses of `host`, never its MX; an IPv6 address stands in "
        'brackets. `"lmtp://host:port"` or `"lmtp:/path/of/socket"`: a mailbox server. `"mx"`: by '
        'MX although a wider `domain` says otherwise. `"fail: text"`: refused with that text.'
    )
    username: Text = Field(
        default="",
        description='Login at that server. `""`: none. The strongest way it offers is taken.',
    )
    password_file: File | None = Field(
        default=None,
        description="File with the password in its first line, readable by the server's user "
        "alone.",
    )
    password: Text = Field(
        default="",
        repr=False,
        json_schema_extra={"secret": True},
        description='`"${NAME}"`: the password is in the environment, by that name. Or the password '
        "itself; a file is better: what stands here is shown to whom you show your configuration.",
    )
    tls: TlsLevel | None = Field(
        default=None,
        description="As `delivery.tls`, or `none`. Left out, it is `verified` for smtps and with "
        "a login, `none` on a unix socket, else `opportunistic`.",
    )
    accept: bool = Field(
        default=False,
        description="Take mail for `domain` from anybody, not only from users who logged in: for "
        "a server behind this one, or as backup MX.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Route:
        mistakes_in([*self._login(), *self._safety()])
        return self

    def _login(self) -> Iterator[tuple[KeyPath, str]]:
        scheme = parse_via(self.via).scheme
        secret = bool(self.password) or self.password_file is not None
        if self.password and self.password_file is not None:
            yield ("password",), "must not be there beside password_file"
        if scheme in ("mx", "fail"):
            for key in ("username", "password", "password_file"):
                if getattr(self, key):
                    yield (key,), f'must not be there with via = "{scheme}": nobody is logged in to'
        elif self.username and not secret:
            yield ("password_file",), "must be there: username needs its password"
        elif secret and not self.username:
            yield ("username",), "must be there: the password needs its username"

    def _safety(self) -> Iterator[tuple[KeyPath, str]]:
        via = parse_via(self.via)
        weak = self.tls in ("none", "opportunistic")
        if self.accept and self.domain == "*":
            yield (
                ("accept",),
                "must be false for every domain: that is an open relay, which spammers find in hours",
            )
        if via.scheme == "fail" and self.accept:
            yield ("accept",), 'must be false with via = "fail: …"'
        if self.tls is None:
            return
        if via.scheme == "mx":
            yield ("tls",), 'must be in [[delivery.tls_policy]] for via = "mx"'
        elif via.scheme == "fail":
            yield ("tls",), 'must not be there with via = "fail: …"'
        elif via.path and self.tls != "none":
            yield ("tls",), 'must be "none": there is no TLS on a unix socket'
        elif via.scheme == "smtps" and weak:
            yield ("tls",), 'must be "required" or "verified" for smtps'
        elif self.username and weak and not (via.path or _loopback(via.host)):
            yield (
                ("tls",),
                'must be "required" or "verified" where a password is sent to another machine',
            )


def route_mistakes(routes: tuple[Route, ...]) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong between routes: paths from the top of the file."""
    yield from _twice("routes", "routes", routes)
    first: dict[str, tuple[int, Route]] = {}
    for index, route in enumerate(routes):
        number, known = first.setdefault(route.via, (index, route))
        for key in ("username", "password", "password_file", "tls"):
            if getattr(known, key) != getattr(route, key):
                why = f"must be as in routes[{number}]: one destination has one login and one tls"
                yield ("routes", index, key), why


def _twice(
    shown: str, key: str, tables: Iterable[Route | TlsPolicy]
) -> Iterator[tuple[KeyPath, str]]:
    seen: dict[str, int] = {}
    for index, table in enumerate(tables):
        number = seen.setdefault(table.domain, index)
        if number != index:
            why = f"must be a domain of its own: {shown}[{number}] has it"
            yield (key, index, "domain"), why


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
