"""Lists in the DNS of clients and domains, black and white, each with its weight (RFC 5782).

    lists = [parse_list("zen.spamhaus.org=127.0.0.[2..11]*4"), parse_list("list.dnswl.org=127.0.[0..255].[1..3]*-3")]
    asking = DnsLists(resolver, clock, lists)
    listing = await asking.client("203.0.113.7")
    if listing.score >= 4:
        listing = await asking.reasons(listing)

All lists are asked at once, each has a time limit; one that does not answer is an error of that list, and counts
nothing. What is never counted, because it is no answer of a list: addresses outside 127.0.0.0/8 (a resolver that lies,
a domain that was sold and parked), 127.255.255.0/24 (Spamhaus: "you may not ask"), 127.0.0.1 and 127.0.0.255 (URIBL and
DNSWL: the same) unless a pattern names just them, and anything from a list that has everybody, 127.0.0.1 too
(RFC 5782 section 5). What is wrong with a list is told once.

Bounded: a look-up a zone and kind, one more for a list that hits, `MAX_REASONS` texts; nothing is remembered but by the
resolver.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from twisted.logger import Logger

from ..dns.interfaces import DnsError, Resolver
from .asking import all_of, answered
from .scores import Score, listed
from .wording import one_line

__all__ = ["NOTHING", "DnsList", "DnsLists", "Hit", "Listing", "parse_list", "query_name"]

_log = Logger()

MAX_REASONS: Final = 3
MAX_ANSWERS: Final = 64
"""Addresses of one answer that are looked at."""
KINDS: Final = ("client", "helo", "sender")

_LIST = re.compile(r"([^=*\s]+)(?:=([^*\s]+))?(?:\*(-?\d+(?:\.\d+)?))?")
_ZONE = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_LABELS = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)
_FIELDS = re.compile(r"(\d{1,3}|\*|&\d{1,3}|\[[\d.,;]+\])")
_ALL: Final = (1 << 256) - 1

Fields = tuple[int, int, int, int]
"""For each octet a set of values: bit n stands for n."""


@dataclass(frozen=True, slots=True)
class DnsList:
    """One list. `zone`: A-labels; `weight`: points of being on it, below zero for lists of the good.

    `codes`: patterns of answers with the points of each, as ``127.0.0.2``, ``127.0.0.[4..8]``, ``127.0.0.[2;9..11]``,
    ``127.0.*.3``, ``127.0.0.&4`` (the answer has that bit) or ``127.0.0.0/28``; the first that fits counts, and what
    fits none is no hit. Without any, every answer counts `weight`. Of several answers the one with the most points
    counts: one list is one witness. Lists of the same zone add up, and are asked once.

    `of`: what it lists: ``"client"`` (addresses), ``"helo"`` or ``"sender"`` (domains of HELO and of MAIL FROM).
    Raises ValueError for what cannot be understood.
    """

    zone: str
    weight: float = 1.0
    codes: tuple[tuple[str, float], ...] = ()
    of: str = "client"

    def __post_init__(self) -> None:
        if len(self.zone) > 180 or _ZONE.fullmatch(self.zone) is None:
            raise ValueError(f"{one_line(self.zone)!r} is no zone of a DNS list")
        if self.of not in KINDS:
            raise ValueError(f"a DNS list is of {', '.join(KINDS)}; not of {one_line(self.of)!r}")
        for pattern, _ in self.codes:
            _fields(pattern)


def parse_list(text: str, of: str = "client") -> DnsList:
    """``zone[=pattern][*points]``, 1 point without, as Postfix's postscreen_dnsbl_sites has it. Raises ValueError."""
    found = _LIST.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{one_line(text)!r} is not zone[=pattern][*points], such as zen.spamhaus.org=127.0.0.[2..11]*6"
        )
    zone, pattern, weight = found.groups()
    points = 1.0 if weight is None else float(weight)
    return DnsList(
        zone.lower().removesuffix("."), points, ((pattern, points),) if pattern else (), of
    )


class Hit(NamedTuple):
    """`zone` has `name` (what was asked for) with `code`; `reason`: its own words, once they were asked for."""

    zone: str
    code: str
    points: float
    name: str
    reason: str = ""


class Listing(NamedTuple):
    """What the lists said. `errors`: one line for each that said nothing of use."""

    score: float = 0.0
    hits: tuple[Hit, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether a list of the good has it, and none of the bad."""
        return bool(self.hits) and all(hit.points < 0 for hit in self.hits)

    @property
    def scores(self) -> tuple[Score, ...]:
        """The same as signs."""
        return tuple(listed(hit.zone, hit.code, hit.points, hit.reason) for hit in self.hits)

    def joined(self, other: Listing) -> Listing:
        """Both."""
        return _listing(self.hits + other.hits, self.errors + other.errors)


NOTHING: Final = Listing()


class DnsLists:
    """Asks `lists`. `clock` provides IReactorTime; `seconds`: for one list; `tell`: what the log is to say, once."""

    def __init__(
        self,
        resolver: Resolver,
        clock: Any,
        lists: Sequence[DnsList],
        *,
        seconds: float = 5.0,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        self._resolver = resolver
        self._clock = clock
        self._seconds = seconds
        self._tell = _warn if tell is None else tell
        self._told: set[tuple[str, str]] = set()
        # What is asked about whom: zone → how its answers count
        self._zones: dict[str, dict[str, list[_Compiled]]] = {kind: {} for kind in KINDS}
        for one in lists:
            self._zones[one.of].setdefault(one.zone, []).append(_compiled(one))

    async def client(self, ip: str) -> Listing:
        """What is said of a client's address; nothing of a private one, or of what is no address (a UNIX socket's)."""
        zones = self._zones["client"]
        if not zones or (name := query_name(ip)) is None:
            return NOTHING
        return await self._ask(zones, name, _NOBODY6 if len(name) > 15 else _NOBODY4)

    async def helo(self, domain: str) -> Listing:
        """What is said of the name in HELO; nothing of what is no domain."""
        return await self._domain("helo", domain)

    async def sender(self, domain: str) -> Listing:
        """What is said of MAIL FROM's domain."""
        return await self._domain("sender", domain)

    async def reasons(self, listing: Listing) -> Listing:
        """The same with the words (TXT) of the lists that speak against it: for who is refused. Never fails."""
        bad = [hit for hit in listing.hits if hit.points > 0 and not hit.reason][:MAX_REASONS]
        if not bad:
            return listing
        texts = dict(zip(bad, await all_of([self._reason(hit) for hit in bad]), strict=True))
        hits = tuple(hit._replace(reason=texts.get(hit) or hit.reason) for hit in listing.hits)
        return listing._replace(hits=hits)

    async def _domain(self, kind: str, domain: str) -> Listing:
        zones = self._zones[kind]
        domain = domain.lower()
        if not zones or "." not in domain or _LABELS.fullmatch(domain) is None:
            return NOTHING
        if domain.rpartition(".")[2].isdecimal():  # an address is none of a list of domains
            return NOTHING
        # RFC 5782 section 5: INVALID is never listed
        return await self._ask(zones, domain, "invalid")

    async def _ask(self, zones: dict[str, list[_Compiled]], name: str, nobody: str) -> Listing:
        asked = [self._zone(zone, rules, name, nobody) for zone, rules in zones.items()]
        hits: list[Hit] = []
        errors: list[str] = []
        for outcome in await all_of(asked):
            if isinstance(outcome, str):
                errors.append(outcome)
            else:
                hits += outcome
        return _listing(tuple(hits), tuple(errors))

    async def _zone(
        self, zone: str, rules: list[_Compiled], name: str, nobody: str
    ) -> Collection[Hit] | str:
        full = f"{name}.{zone}"
        if len(full) > 253:
            return ()
        try:
            return await answered(
                self._clock, self._seconds, self._hits(zone, rules, full, f"{nobody}.{zone}")
            )
        except DnsError as error:
            return f"{zone}: {one_line(str(error))}"

    async def _hits(
        self, zone: str, rules: list[_Compiled], full: str, nobody: str
    ) -> Collection[Hit] | str:
        answer = await self._resolver.addresses(full, 4)
        if not answer.records:
            return ()
        codes: list[str] = []
        wrong = ""
        for code in answer.records[:MAX_ANSWERS]:
            octets = tuple(map(int, code.split(".")))
            problem = _problem(octets)
            if problem and (octets[0] != 127 or not any(rule.names(octets) for rule in rules)):
                wrong = f"{zone} answers {one_line(code, 40)}: {problem}"
                self._once(zone, problem, wrong)
            else:
                codes.append(code)
        hits = [hit for rule in rules if (hit := rule.best(zone, codes, full)) is not None]
        if not hits:
            return wrong or ()
        if (await self._resolver.addresses(nobody, 4)).records:
            problem = "it lists everybody"
            self._once(zone, problem, f"{zone}: {problem}; it is not counted")
            return f"{zone}: {problem}"
        return hits

    async def _reason(self, hit: Hit) -> str:
        try:
            answer = await answered(self._clock, self._seconds, self._resolver.txt(hit.name))
        except DnsError:
            return ""
        first = answer.records[0] if answer.records else b""
        return one_line(first.decode("ascii", "replace").strip())

    def _once(self, zone: str, problem: str, text: str) -> None:
        # As many as zones and problems: both are ours, not a peer's
        if (zone, problem) not in self._told:
            self._told.add((zone, problem))
            self._tell(text)


@lru_cache(maxsize=1024)
def query_name(ip: str) -> str | None:
    """What stands before the zone for an address: octets or nibbles backwards. None: it is not asked about."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_link_local or any(
        address.version == network.version and address in network for network in _PRIVATE
    ):
        return None
    if isinstance(address, ipaddress.IPv4Address):
        # RFC 5782 section 2.1
        return ".".join(reversed(str(address).split(".")))
    # RFC 5782 section 2.4
    return ".".join(reversed(address.exploded.replace(":", "")))


_PRIVATE: Final = [  # RFC 1918, RFC 6598, RFC 4193: nobody else's list knows them
    ipaddress.ip_network(one)
    for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
_NOBODY4: Final = "1.0.0.127"
# RFC 5782 section 5: ::FFFF:7F00:1
_NOBODY6: Final = ".".join(reversed("0" * 20 + "ffff7f000001"))


class _Compiled(NamedTuple):
    weight: float
    codes: tuple[tuple[Fields, float], ...]

    def points(self, octets: tuple[int, ...]) -> float:
        if not self.codes:
            return self.weight
        for fields, points in self.codes:
            if _fits(fields, octets):
                return points
        return 0.0

    def names(self, octets: tuple[int, ...]) -> bool:
        """Whether a pattern is for this very answer, not for all there are."""
        return any(
            _fits(fields, octets) and all(field.bit_count() == 1 for field in fields)
            for fields, _ in self.codes
        )

    def best(self, zone: str, codes: Sequence[str], name: str) -> Hit | None:
        best: Hit | None = None
        for code in codes:
            points = self.points(tuple(map(int, code.split("."))))
            if points and (best is None or abs(points) > abs(best.points)):
                best = Hit(zone, code, points, name)
        return best


def _problem(octets: tuple[int, ...]) -> str:
    """Why an answer is none; "" when it is one."""
    if octets[0] != 127:
        return "no answer of a list; the resolver lies, or the list is gone"
    if octets[:3] == (127, 255, 255):
        return "the list refuses to answer us (a public resolver, or too many questions)"
    if octets in ((127, 0, 0, 1), (127, 0, 0, 255)):
        return "the list refuses to answer us"
    return ""


def _compiled(one: DnsList) -> _Compiled:
    return _Compiled(one.weight, tuple((_fields(pattern), points) for pattern, points in one.codes))


def _fits(fields: Fields, octets: tuple[int, ...]) -> bool:
    return all(field >> octet & 1 for field, octet in zip(fields, octets, strict=True))


@lru_cache(maxsize=256)
def _fields(pattern: str) -> Fields:
    mistake = ValueError(f"{one_line(pattern)!r} is no pattern of a DNS list's answers")
    if "/" in pattern:
        try:
            network = ipaddress.IPv4Network(pattern)
        except ValueError:
            raise mistake from None
        pairs = zip(network[0].packed, network[-1].packed, strict=True)
        fields = [(1 << last + 1) - (1 << first) for first, last in pairs]
    else:
        # A dot stands between fields, and twice in a range
        parts = _FIELDS.findall(pattern)
        if ".".join(parts) != pattern:
            raise mistake
        fields = [_field(part, mistake) for part in parts]
    if len(fields) != 4 or not all(fields):
        raise mistake
    if fields[0] != 1 << 127:
        raise ValueError(f"{one_line(pattern)!r}: all that a DNS list answers begins with 127")
    return fields[0], fields[1], fields[2], fields[3]


def _field(part: str, mistake: ValueError) -> int:
    if part == "*":
        return _ALL
    if part[0] == "&":
        bits = int(part[1:])
        if not 0 < bits < 256:
            raise mistake
        return sum(1 << octet for octet in range(256) if octet & bits)
    found = 0
    for one in re.split("[,;]", part.strip("[]")):
        first, dots, last = one.partition("..")
        last = last if dots else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < 256):
            raise mistake
        found |= (1 << int(last) + 1) - (1 << int(first))
    return found


def _listing(hits: tuple[Hit, ...], errors: tuple[str, ...]) -> Listing:
    if not hits:
        return Listing(0.0, (), errors) if errors else NOTHING
    return Listing(round(sum(hit.points for hit in hits), 2), hits, errors)


def _warn(text: str) -> None:
    _log.warn("{text}", text=text)
