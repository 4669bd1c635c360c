"""The DNS of a test: `Zone`, what it says; `FakeResolver`, who asks it. `nameserver` serves a `Zone` over sockets.

    zone = Zone(
        {
            "example.org": {"MX": [(10, "mx.example.org")], "TXT": ["v=spf1 mx -all"]},
            "mx.example.org": {"A": ["127.0.0.2"], "AAAA": ["::1"]},
            "_25._tcp.mx.example.org": {"TLSA": [(3, 1, 1, "0f" * 32)]},
            "_imaps._tcp.example.org": {"SRV": [(0, 1, 993, "mx.example.org")]},
            "2.0.0.127.in-addr.arpa": {"PTR": ["mx.example.org"]},
            "www.example.org": {"CNAME": ["mx.example.org"]},
            "nomail.example": {"MX": [(0, "")]},  # RFC 7505
            "*.test": {"MX": [(10, "mx.example.org")]},  # RFC 4592
        },
        secure=["example.org"],
        failing=["broken.example", "TLSA _25._tcp.mx.example.org"],
    )
    resolver = FakeResolver(zone)
    ...
    zone["example.org"]["MX"] = [(10, "other.example.org")]
    zone.failing.add("MX example.org")
    assert resolver.questions == [("MX", "example.org")]

Everything may be changed while it is used. As in the DNS a name exists when there is something below it.
"""

from __future__ import annotations

import ipaddress
from collections import UserDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from ..dns.interfaces import Answer, DnsError, Mx, Srv, Tlsa

__all__ = ["KINDS", "FakeResolver", "Found", "Records", "Zone"]

KINDS = ("A", "AAAA", "CNAME", "MX", "PTR", "SRV", "TLSA", "TXT")
Records = dict[str, list[Any]]
"""Kind → records: addresses and names are str; MX (preference, host); SRV (priority, weight, port, host);
TLSA (usage, selector, matching, bytes or hex); TXT str, bytes, or a list of them, one for each string of the record."""

_ALIASES = 12


class Found(NamedTuple):
    """What a zone has for a question. `aliases`: the names on the way, each with where it leads."""

    name: str
    records: list[Any]
    exists: bool
    aliases: list[tuple[str, str]]
    secure: bool

    @property
    def dizzy(self) -> bool:
        """Whether there were too many aliases to follow them to the end."""
        return len(self.aliases) > _ALIASES


class Zone(UserDict[str, Records]):
    """All that the DNS of a test knows: name → kind → records.

    `secure`: domains that are signed, with all below them ("" is all); `insecure`: those below them that are not; who
    is longer wins. `failing`: what gets SERVFAIL; `silent`: what gets no answer; `truncated`: what does not fit into
    a reply over UDP. These three hold names, or a kind and a name: ``"MX example.org"``; an alias that leads to
    such a name fares the same. `ttl` and `absence_ttl` in seconds.

    Names may be given in any case, but in the five sets they are in lower case without the last dot. Raises ValueError
    for a kind that is none of `KINDS`.
    """

    def __init__(
        self,
        records: Mapping[str, Mapping[str, Iterable[Any]]] | None = None,
        *,
        secure: Iterable[str] = (),
        insecure: Iterable[str] = (),
        failing: Iterable[str] = (),
        silent: Iterable[str] = (),
        truncated: Iterable[str] = (),
        ttl: int = 300,
        absence_ttl: int = 60,
    ) -> None:
        self._existing: set[str] | None = None
        super().__init__()
        for name, kinds in (records or {}).items():
            self[name] = {kind: list(found) for kind, found in kinds.items()}
        self.secure = set(secure)
        self.insecure = set(insecure)
        self.failing = set(failing)
        self.silent = set(silent)
        self.truncated = set(truncated)
        self.ttl = ttl
        self.absence_ttl = absence_ttl

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Zone:
        """The arguments of `Zone` as an object of JSON: ``{"records": {…}, "secure": […]}``."""
        return cls(**value)

    @classmethod
    def from_text(cls, text: str) -> Zone:
        """What a zone file says (RFC 1035 section 5), its names absolute. Raises ValueError for what is none."""
        import dns.exception
        import dns.rdatatype
        import dns.zone

        try:
            # The root's zone holds every name.
            read = dns.zone.from_text(
                "$TTL 300\n" + text, ".", relativize=False, check_origin=False
            )
        except dns.exception.DNSException as error:
            raise ValueError(f"no zone: {error}") from error
        zone = cls()
        for name, _, record in read.iterate_rdatas():
            kind = dns.rdatatype.to_text(record.rdtype)
            kinds = zone.setdefault(name.to_text(omit_final_dot=True), {})
            zone[name.to_text(omit_final_dot=True)] = {
                **kinds,
                kind: [*kinds.get(kind, []), _pasted(kind, record)],
            }
        return zone

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "records": {
                name: {kind: [_plain(kind, one) for one in found] for kind, found in kinds.items()}
                for name, kinds in self.items()
            },
            **{
                name: sorted(getattr(self, name))
                for name in ("secure", "insecure", "failing", "silent", "truncated")
            },
            "ttl": self.ttl,
            "absence_ttl": self.absence_ttl,
        }

    def __getitem__(self, name: str) -> Records:
        return super().__getitem__(_lower(name))

    def __setitem__(self, name: str, kinds: Records) -> None:
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"{name}: {kind} is none of {', '.join(KINDS)}")
        self._existing = None
        super().__setitem__(_lower(name), kinds)

    def __delitem__(self, name: str) -> None:
        self._existing = None
        super().__delitem__(_lower(name))

    def find(self, kind: str, name: str) -> Found:
        """Follow the aliases to the records. Goes round a circle of aliases until it is dizzy, as servers do."""
        name = _lower(name)
        aliases: list[tuple[str, str]] = []
        secure = self.is_secure(name)
        while True:
            kinds = self._at(name)
            there = (kinds or {}).get("CNAME")
            if not there or kind == "CNAME" or len(aliases) > _ALIASES:
                found = [] if len(aliases) > _ALIASES else (kinds or {}).get(kind, [])
                return Found(name, found, kinds is not None, aliases, secure)
            aliases.append((name, _lower(there[0])))
            name = aliases[-1][1]
            secure = secure and self.is_secure(name)

    def is_secure(self, name: str) -> bool:
        """Whether the name lies in a signed zone."""
        parts = _lower(name).split(".")
        for start in range(len(parts) + 1):
            domain = ".".join(parts[start:])
            if domain in self.insecure:
                return False
            if domain in self.secure:
                return True
        return False

    @staticmethod
    def is_in(those: set[str], kind: str, found: Found) -> bool:
        """Whether what was found for a question of this kind, or a name on the way, is in one of the sets."""
        names = [alias for alias, _ in found.aliases] + [found.name]
        return any(name in those or f"{kind} {name}" in those for name in names)

    def _at(self, name: str) -> Records | None:
        """What stands at a name; None when there is no such name."""
        if name in self.data:
            return self.data[name]
        if self._existing is None:
            self._existing = {""} | {
                parent for full in self.data for parent in _parents(full.removeprefix("*."))
            }
        # RFC 4592 section 3.3.1: only the closest name that exists may have the wildcard
        if name in self._existing:
            return {}
        closest = next(parent for parent in _parents(name) if parent in self._existing)
        return self.data.get(f"*.{closest}" if closest else "*")


class FakeResolver:
    """An `interfaces.Resolver` that knows a `Zone` (or what makes one).

    `questions`: kind and name of all that was asked, in order. What is failing raises DnsError; what is silent is
    never answered, only cancelled. With `clock` (IReactorTime) an answer comes `delay` seconds later, or as `late`
    says for its name; without one, at once and without a Deferred. Nothing is remembered from one question to the next.
    """

    def __init__(
        self,
        zone: Zone | Mapping[str, Mapping[str, Iterable[Any]]] | None = None,
        *,
        clock: Any = None,
        delay: float = 0.0,
        late: Mapping[str, float] | None = None,
    ) -> None:
        self.zone = zone if isinstance(zone, Zone) else Zone(zone)
        self.questions: list[tuple[str, str]] = []
        self.delay = delay
        self.late = dict(late or {})
        self._clock = clock
        if clock is None and (delay or late):
            raise ValueError("an answer that comes later needs a clock")

    async def mx(self, name: str) -> Answer[Mx]:
        return await self._ask("MX", name)

    async def addresses(self, name: str, family: int) -> Answer[str]:
        return await self._ask("A" if family == 4 else "AAAA", name)

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        return await self._ask("TLSA", name)

    async def txt(self, name: str) -> Answer[bytes]:
        return await self._ask("TXT", name)

    async def srv(self, name: str) -> Answer[Srv]:
        return await self._ask("SRV", name)

    async def alias(self, name: str) -> Answer[str]:
        return await self._ask("CNAME", name)

    async def pointer(self, address: str) -> Answer[str]:
        return await self._ask("PTR", ipaddress.ip_address(address).reverse_pointer)

    async def _ask(self, kind: str, name: str) -> Answer[Any]:
        name = _lower(name)
        self.questions.append((kind, name))
        found = self.zone.find(kind, name)
        if self.zone.is_in(self.zone.silent, kind, found):
            await Deferred()
        delay = self.late.get(name, self.delay)
        if delay:
            await _later(self._clock, delay)
            found = self.zone.find(kind, name)
        if self.zone.is_in(self.zone.failing, kind, found):
            raise DnsError(f"{kind} of {name}: the server says SERVFAIL")
        if found.dizzy:
            raise DnsError(f"{kind} of {name}: its aliases (CNAME) go in a circle, or on and on")
        ttl = self.zone.ttl if found.records else self.zone.absence_ttl
        records = tuple(_VALUES[kind](record) for record in found.records)
        return Answer(found.name, records, found.exists, found.secure, float(ttl))


async def _later(clock: Any, delay: float) -> None:
    done: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(delay, done.callback, None)
    await done


def text_strings(record: Any) -> list[bytes]:
    """The strings of a TXT record as a zone has it, each at most 255 octets (RFC 1035 section 3.3.14)."""
    whole = record if isinstance(record, list | tuple) else [record]
    # surrogateescape: octets that are no text stand in JSON as Python's files have them
    strings = [
        one.encode(errors="surrogateescape") if isinstance(one, str) else one for one in whole
    ]
    return [one[i : i + 255] for one in strings for i in range(0, len(one) or 1, 255)]


def tlsa_record(record: Any) -> Tlsa:
    """A TLSA record as a zone has it."""
    usage, selector, matching, data = record
    return Tlsa(usage, selector, matching, data if isinstance(data, bytes) else bytes.fromhex(data))


def _plain(kind: str, record: Any) -> Any:
    if kind == "TLSA":
        return [*record[:3], tlsa_record(record).data.hex()]
    if kind == "TXT":
        return [one.decode(errors="surrogateescape") for one in text_strings(record)]
    return list(record) if kind in ("MX", "SRV") else record


def _pasted(kind: str, record: Any) -> Any:
    """A record of dnspython as a zone has it."""
    if kind == "TXT":
        return list(record.strings)
    if kind == "TLSA":
        return (record.usage, record.selector, record.mtype, record.cert)
    words = record.to_text().split()
    words[-1] = words[-1].removesuffix(".")
    return words[0] if len(words) == 1 else (*map(int, words[:-1]), words[-1])


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "A": _address,
    "AAAA": _address,
    "CNAME": lambda record: _lower(record),
    "MX": lambda record: Mx(record[0], _lower(record[1])),
    "PTR": lambda record: _lower(record),
    "SRV": lambda record: Srv(record[0], record[1], record[2], _lower(record[3])),
    "TLSA": tlsa_record,
    "TXT": lambda record: b"".join(text_strings(record)),
}


def _lower(name: str) -> str:
    return name.lower().removesuffix(".")


def _parents(name: str) -> Iterable[str]:
    """The name itself and all above it, "" at the end."""
    parts = name.split(".") if name else []
    return (".".join(parts[start:]) for start in range(len(parts) + 1))
