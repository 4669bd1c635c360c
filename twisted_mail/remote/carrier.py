"""Who knows the way to hops: `RemoteCarrier`, the queue's `Carrier`.

`open` finds the hosts of a hop, in their order, and tries one after the other, each at its addresses, until one gives
a session that its TLS policy allows; that session is a `courier.RemoteCourier`. Whatever is wrong with one host, the
next one is tried. When none is left, DestinationError says the most telling of it.

A route's host is taken as it stands, without MX (Postfix's brackets, always); its policy is the route's `tls`. DANE
holds for routes over SMTP too, MTA-STS does not: it is about domains.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import DeferredSemaphore

from ..delivery.routes import ANY_TLS, Route, split_hop
from ..dns.interfaces import Resolver
from ..queue.interfaces import DestinationError
from ..smtp.client.interfaces import Conversation, SessionError, Timeouts
from ..smtp.client.protocol import connect as client_connect
from ..world import World
from . import dane
from .begin import Beginner, Way
from .connect import NoneAnswers, connect_one
from .contexts import ClientContexts
from .courier import CONVERSIONS, Peer, RemoteCourier
from .failures import Failures, of_policy, of_session
from .judge import Authorities
from .mta_sts import Finding
from .mx import Host, addresses_of, find
from .settings import DeliverySettings, TlsRule
from .tls_policy import Level, Rules, TlsPolicy, Unusable, decide
from .tls_results import Failure, TlsCounter, TlsResults

__all__ = ["Connect", "Policies", "RemoteCarrier", "RouteTable"]


class RouteTable(Protocol):
    """`delivery.routes.Routes`."""

    def route(self, hop: str) -> Route | None:
        """None: by MX. Raises KeyError for a route that is no more."""


class Policies(Protocol):
    """`mta_sts.StsPolicies`."""

    async def of(self, domain: str) -> Finding: ...


class Connect(Protocol):
    """`smtp.client.protocol.connect`."""

    def __call__(
        self,
        world: World,
        host: str,
        port: int = 25,
        *,
        helo: str,
        name: str = "",
        lmtp: bool = False,
        source: str = "",
        tls: Any = None,
        clear_login: bool = False,
        timeouts: Timeouts | None = None,
    ) -> Awaitable[Conversation]: ...


class RemoteCarrier:
    """`queue.interfaces.Carrier`.

    `policies` None: no MTA-STS. `results` None: TLS results are counted in memory. `connect` None: the SMTP client's.
    """

    def __init__(
        self,
        world: World,
        resolver: Resolver,
        routes: RouteTable,
        settings: DeliverySettings,
        *,
        policies: Policies | None = None,
        results: TlsResults | None = None,
        connect: Connect | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        if connect is None:
            # Imported with this module: who serves after privileges were dropped may not be able to read the code.
            connect = client_connect
        self.results: TlsResults = TlsCounter(world.now) if results is None else results
        self.authorities = Authorities(settings.ca_file)
        self._world = world
        self._resolver = resolver
        self._routes = routes
        self._settings = settings
        self._policies = policies if settings.mta_sts else None
        self._connect = connect
        self._timeouts = timeouts
        self._rules = Rules(settings.tls, settings.tls_rules)
        self._beginner = Beginner(world, ClientContexts(), self.authorities, self.results)
        self._conversions = DeferredSemaphore(CONVERSIONS)

    async def open(self, hop: str) -> RemoteCourier:
        """See `Carrier.open`."""
        try:
            route = self._routes.route(hop)
        except KeyError:
            raise DestinationError(
                f"the configuration has no route {hop} any more", enhanced="4.3.5"
            ) from None
        key, requiretls = split_hop(hop)
        if route is None:
            return await self._by_mx(
                key.removesuffix(ANY_TLS), requiretls, any_tls=key.endswith(ANY_TLS)
            )
        if route.scheme == "fail":
            raise DestinationError(route.reason, permanent=True, enhanced="5.7.1", code=550)
        if route.path:
            return await self._by_socket(route)
        return await self._by_route(route, requiretls)

    # By MX

    async def _by_mx(
        self, domain: str, requiretls: bool, *, any_tls: bool = False
    ) -> RemoteCourier:
        hosts = await find(self._resolver, domain, self._settings, self._world.entropy)
        rule = self._rules.of(domain)
        if any_tls:
            # RFC 8460 section 3: reports are delivered "despite any TLS-related failures"
            rule = TlsRule("", "none" if rule.tls == "none" else "opportunistic")
        sts = Finding(None)
        asks = not any_tls and rule.tls != "none"
        if self._policies is not None and domain[:1] != "[" and asks:
            sts = await self._policies.of(domain)
            if sts.result:
                self.results.failure(domain, "sts", Failure(sts.result))
        failures = Failures()
        while group := await hosts.following():
            for host in group:
                try:
                    policy = decide(
                        rule,
                        host.name,
                        domains=tuple(dict.fromkeys((domain, hosts.expanded))),
                        dane=await self._dane(
                            rule, host, self._settings.port, hosts.secure and not any_tls
                        ),
                        sts=sts.policy,
                        requiretls=requiretls,
                        vouched=hosts.secure,
                    )
                except Unusable as error:
                    if error.result:
                        self.results.failure(domain, error.kind, Failure(error.result, host.name))
                    failures.note(of_policy(error, host.name))
                    continue
                # "and SHOULD NOT include this SMTP session in the next report"
                counted = "" if any_tls else domain
                way = Way(host.name, policy, counted, requiretls=requiretls)
                courier = await self._try(way, host.addresses, self._settings.port, failures)
                if courier is not None:
                    return courier
                if failures.sessions >= self._settings.max_sessions:
                    raise failures.final(complete=False)
        raise failures.final(complete=hosts.complete)

    async def _dane(self, rule: TlsRule, host: Host, port: int, vouched: bool) -> dane.Dane:
        if not (self._settings.dane and vouched) or rule.tls == "none" or rule.match:
            return dane.ABSENT
        return await dane.look_up(self._resolver, host, port)

    # By routes

    async def _by_route(self, route: Route, requiretls: bool) -> RemoteCourier:
        host = await addresses_of(self._resolver, route.host, self._settings)
        lmtp = route.scheme == "lmtp"
        rule = TlsRule("", route.tls or "opportunistic")
        failures = Failures()
        try:
            found = dane.ABSENT
            if not lmtp:
                found = await self._dane(rule, host, route.port, True)
            policy = decide(
                rule, route.host, dane=found, requiretls=requiretls and not lmtp, vouched=True
            )
        except Unusable as error:
            failures.note(of_policy(error, route.host))
            raise failures.final(complete=True) from None
        way = Way(
            route.host,
            policy,
            lmtp=lmtp,
            implicit=route.scheme == "smtps",
            requiretls=requiretls,
            username=route.username,
            password=route.password,
        )
        courier = await self._try(way, host.addresses, route.port, failures)
        if courier is None:
            complete = failures.sessions < self._settings.max_sessions
            raise failures.final(complete=complete)
        return courier

    async def _by_socket(self, route: Route) -> RemoteCourier:
        way = Way(
            route.path,
            TlsPolicy(Level.NONE),
            lmtp=True,
            username=route.username,
            password=route.password,
        )
        failures = Failures()
        courier = await self._try(way, (route.path,), 0, failures)
        if courier is None:
            raise failures.final(complete=True)
        return courier

    # One host

    async def _try(
        self, way: Way, addresses: Sequence[str], port: int, failures: Failures
    ) -> RemoteCourier | None:
        """A session with one host, at whichever of its addresses."""
        left = list(addresses)
        dial = functools.partial(self._dial, way, port)
        while left and failures.sessions < self._settings.max_sessions:
            try:
                connected = await connect_one(
                    left, dial, self._world.reactor, self._settings.head_start
                )
            except NoneAnswers as error:
                for address, reason in error.failures.items():
                    failures.note(of_session(reason, way.host, address))
                return None
            address = connected.address
            for failed, reason in connected.failures.items():
                failures.note(of_session(reason, way.host, failed))
            left = [one for one in left if one != address and one not in connected.failures]
            failures.sessions += 1
            try:
                session = await self._beginner.begin(
                    way, address, connected.conversation, functools.partial(dial, address)
                )
            except SessionError as error:
                failures.note(of_session(error, way.host, address))
            except Unusable as error:
                failures.note(of_policy(error, way.host, address))
            else:
                return RemoteCourier(
                    self._world,
                    session.conversation,
                    Peer(way.host, address, session.tls, way.lmtp),
                    self._settings,
                    self._conversions,
                )
        return None

    def _dial(self, way: Way, port: int, address: str) -> Awaitable[Conversation]:
        source = self._settings.source6 if ":" in address else self._settings.source4
        return self._connect(
            self._world,
            address,
            port,
            helo=self._settings.hostname,
            name=way.host,
            lmtp=way.lmtp,
            source="" if address[:1] == "/" else source,
            tls=self._beginner.creator(way.policy) if way.implicit else None,
            clear_login=way.policy.level is Level.NONE,
            timeouts=self._timeouts,
        )
