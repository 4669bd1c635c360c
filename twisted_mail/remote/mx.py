"""Which hosts take mail for a destination, in which order: RFC 5321 section 5.1.

`find` asks for the MX records; `Hosts.following` gives the hosts, those of one preference at a time, with their
addresses: what is behind hosts that answer is never looked up. Promises: a bounded number of hosts and addresses; no
host of our own, nor any behind it; a name without addresses is passed over. What cannot be delivered to raises
DestinationError: permanent when the DNS says so, temporary when it does not answer.

It connects to nobody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

from ..address import normalize_domain
from ..dns.interfaces import Answer, DnsError, Mx, Resolver
from ..queue.interfaces import DestinationError
from .settings import DeliverySettings

__all__ = ["Host", "Hosts", "addresses_of", "find", "literal_address"]

T = TypeVar("T")

_MAX_RECORDS: Final = 100
_MAX_PER_HOST: Final = 6


class Host(NamedTuple):
    """`name`: of the MX host, or an address literal. `addresses`: never none.

    `expanded`: where its addresses stand, CNAMEs followed. `secure`: DNSSEC vouches for its addresses.
    """

    name: str
    addresses: tuple[str, ...]
    expanded: str
    secure: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What the look-ups of one host came to. `ours`: it is this machine. `error`: to be asked again."""

    host: Host | None
    ours: bool = False
    error: DnsError | None = None
    exists: bool = True


class Hosts:
    """The hosts of one destination. `secure`: DNSSEC vouches for the MX records, or for there being none.

    `expanded`: where the MX records stand, CNAMEs followed.
    """

    def __init__(
        self,
        domain: str,
        groups: Sequence[Sequence[str]],
        *,
        secure: bool,
        expanded: str,
        implicit: bool,
        resolver: Resolver,
        settings: DeliverySettings,
    ) -> None:
        self.domain = domain
        self.secure = secure
        self.expanded = expanded
        self._implicit = implicit
        self._groups = list(reversed(groups))
        self._resolver = resolver
        self._settings = settings
        self._hosts = settings.max_hosts
        self._addresses = settings.max_addresses
        self._given = False
        self._error: DnsError | None = None

    @property
    def complete(self) -> bool:
        """Whether `following` has given every host there is, when it gives no more."""
        return not self._groups and self._error is None

    async def following(self) -> Sequence[Host]:
        """The hosts of the next preference; none when there are no more. Raises DestinationError.

        That only when there never was a host: who had some and failed with all of them has a reason of his own.
        """
        while self._groups and self._hosts > 0 and self._addresses > 0:
            names = self._groups.pop()
            if len(names) > self._hosts:
                self._groups.append(names[self._hosts :])
                names = names[: self._hosts]
            self._hosts -= len(names)
            found = await _all([self._look_up(name) for name in names])
            for one in found:
                self._error = self._error or one.error
            if any(one.ours for one in found):
                # RFC 5321 section 5.1: us, and everything of the same or a higher preference number
                self._groups.clear()
                if not self._given and self._error is None:
                    raise _loop(self.domain)
                break
            hosts = []
            for one in found:
                if one.host is not None and self._addresses > 0:
                    hosts.append(one.host._replace(addresses=one.host.addresses[: self._addresses]))
                    self._addresses -= len(hosts[-1].addresses)
            if hosts:
                self._given = True
                return hosts
            if self._implicit and not self._error:
                if not found[0].exists:
                    raise _no_such(self.domain)
                raise DestinationError(
                    f"{self.domain} has neither a mail server nor an address",
                    permanent=True,
                    enhanced="5.4.4",
                )
        if not self._given:
            if self._error is not None:
                raise _unanswered(self._error)
            raise DestinationError(
                f"the mail servers of {self.domain} have no address",
                permanent=True,
                enhanced="5.4.4",
            )
        return ()

    async def _look_up(self, name: str) -> _Found:
        answers, error = await _addresses(self._resolver, name, self._settings)
        everything = [address for answer in answers for address in answer.records]
        if not self._settings.own_addresses.isdisjoint(str(_ip(one)) for one in everything):
            return _Found(None, ours=True)
        usable = tuple(
            address for address in everything if _usable(address, self._settings.loopback)
        )[:_MAX_PER_HOST]
        if not usable:
            if everything and error is None and all(_is_loopback(one) for one in everything):
                return _Found(None, ours=True)
            return _Found(None, error=error, exists=any(answer.exists for answer in answers))
        return _Found(_host(name, usable, answers))


async def find(
    resolver: Resolver,
    domain: str,
    settings: DeliverySettings,
    entropy: Callable[[int], bytes],
) -> Hosts:
    """The hosts of a domain (A-labels), or of an address literal. Raises DestinationError."""
    if domain[:1] == "[":
        return _Literal(domain, resolver, settings)
    try:
        answer = await resolver.mx(domain)
    except DnsError as error:
        raise _unanswered(error) from error
    if not answer.exists:
        raise _no_such(domain)
    own = settings.own_names | {settings.hostname}
    records = answer.records
    if not records:
        # RFC 5321 section 5.1: no MX record is one of preference 0 that names the domain itself.
        if domain in own:
            raise _loop(domain)
        groups: list[list[str]] = [[domain]]
    else:
        # RFC 7505 section 3: a single one, whose host is the root
        if all(not one.host for one in records):
            raise DestinationError(
                f"{domain} takes no mail (its MX record says so)",
                permanent=True,
                code=556,
                enhanced="5.1.10",
            )
        groups = _in_order(domain, records, own, entropy)
        if not groups:
            raise DestinationError(
                f"the MX records of {domain} name no host", permanent=True, enhanced="5.4.4"
            )
    return Hosts(
        domain,
        groups,
        secure=answer.secure,
        expanded=answer.name,
        implicit=not records,
        resolver=resolver,
        settings=settings,
    )


async def addresses_of(
    resolver: Resolver, name: str, settings: DeliverySettings, *, loopback: bool = True
) -> Host:
    """The host of a route: a name without MX, or an address. Raises DestinationError, temporary always.

    What a configuration names and the DNS does not know is a mistake that somebody will mend. `loopback`: whether
    the name may stand for this machine.
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return Host(name, (name,), name, False)
    answers, error = await _addresses(resolver, name, settings)
    usable = tuple(
        address for answer in answers for address in answer.records if _usable(address, loopback)
    )
    if usable:
        return _host(name, usable[:_MAX_PER_HOST], answers)
    if error is not None:
        raise _unanswered(error)
    raise DestinationError(f"{name} has no address", enhanced="4.4.4")


def literal_address(domain: str) -> str:
    """The IP address of an address literal as `normalize_domain` writes it."""
    return domain[6:-1] if domain.startswith("[IPv6:") else domain[1:-1]


class _Literal(Hosts):
    """RFC 5321 section 4.1.3: the address is the host."""

    def __init__(self, domain: str, resolver: Resolver, settings: DeliverySettings) -> None:
        super().__init__(
            domain,
            [[domain]],
            secure=False,
            expanded=domain,
            implicit=True,
            resolver=resolver,
            settings=settings,
        )

    async def _look_up(self, name: str) -> _Found:
        address = literal_address(name)
        family = 6 if ":" in address else 4
        # Whoever writes an address writes it: no resolver that is trusted says so.
        if str(_ip(address)) in self._settings.own_addresses or _is_loopback(address):
            return _Found(None, ours=True)
        if self._settings.families not in ("any", f"ipv{family}") or not _usable(address, True):
            return _Found(None)
        return _Found(Host(name, (address,), name, False))


def _in_order(
    domain: str, records: Sequence[Mx], own: frozenset[str], entropy: Callable[[int], bytes]
) -> list[list[str]]:
    """Host names, those of equal preference together, in random order. Raises DestinationError when it is us."""
    least: dict[str, int] = {}
    for preference, host in sorted(records)[:_MAX_RECORDS]:
        if host and preference < least.get(host, 65536):
            least[host] = preference
    # RFC 5321 section 5.1: what is not before us in the list would send it back to us.
    cut = min((least[host] for host in least if host in own), default=65536)
    if least and all(preference >= cut for preference in least.values()):
        raise _loop(domain)
    by_preference: dict[int, list[str]] = {}
    for host, preference in least.items():
        if preference < cut and _is_host_name(host):
            by_preference.setdefault(preference, []).append(host)
    return [_shuffled(by_preference[preference], entropy) for preference in sorted(by_preference)]


def _shuffled(names: list[str], entropy: Callable[[int], bytes]) -> list[str]:
    # RFC 5321 section 5.1: "MUST randomize them to spread the load"
    if len(names) == 1:
        return names
    return [name for _, name in sorted((entropy(8), name) for name in names)]


def _is_host_name(name: str) -> bool:
    """Not an address where a name belongs (RFC 5321 section 5.1), nor a name that means this machine."""
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 section 6.3
        return False
    try:
        normalize_domain(name)
    except ValueError:
        return False
    return not name.rpartition(".")[2].isdigit()


async def _addresses(
    resolver: Resolver, name: str, settings: DeliverySettings
) -> tuple[list[Answer[str]], DnsError | None]:
    """The answers of the address families that are wanted, IPv6 first (RFC 6724), and what failed."""
    families = {"any": (6, 4), "ipv4": (4,), "ipv6": (6,)}[settings.families]

    async def ask(family: int) -> Answer[str] | DnsError:
        try:
            return await resolver.addresses(name, family)
        except DnsError as error:
            return error

    answers: list[Answer[str]] = []
    failed = None
    for one in await _all([ask(family) for family in families]):
        if isinstance(one, DnsError):
            failed = one
        else:
            answers.append(one)
    return answers, failed


def _host(name: str, addresses: tuple[str, ...], answers: Sequence[Answer[str]]) -> Host:
    # An answer that failed does not count: who can make one fail could switch DANE off else (RFC 7672 section 2.1.2).
    given = [answer for answer in answers if answer.records]
    return Host(name, addresses, given[0].name, all(answer.secure for answer in given))


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Whom a packet to it reaches: ``::ffff:127.0.0.1`` is this machine."""
    ip = ipaddress.ip_address(address)
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip


def _usable(address: str, loopback: bool) -> bool:
    ip = _ip(address)
    return not (ip.is_unspecified or ip.is_multicast) and (loopback or not ip.is_loopback)


def _is_loopback(address: str) -> bool:
    ip = _ip(address)
    return ip.is_loopback or ip.is_unspecified


async def _all(coroutines: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All at once; cancelled together."""
    try:
        return await gatherResults(
            [Deferred.fromCoroutine(one) for one in coroutines], consumeErrors=True
        )
    except FirstError as error:
        cause = error.subFailure.value
        assert cause is not None
        raise cause from None


def _no_such(domain: str) -> DestinationError:
    return DestinationError(f"there is no domain {domain}", permanent=True, enhanced="5.1.2")


def _unanswered(error: DnsError) -> DestinationError:
    return DestinationError(f"the DNS gave no answer ({error})", enhanced="4.4.3")


def _loop(domain: str) -> DestinationError:
    return DestinationError(
        f"the mail server of {domain} is this one, which has no such domain: mail would loop",
        permanent=True,
        enhanced="5.4.6",
    )
