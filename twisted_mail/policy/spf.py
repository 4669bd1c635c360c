"""SPF (RFC 7208): may this client use the name it gave in HELO, the domain it gave in MAIL?

Our own evaluator: pyspf, the library for it, blocks while it asks the DNS, and is little kept up. This one awaits a
`dns.interfaces.Resolver`, and nothing else. It passes the test suite of RFC 7208 (tests/policy/data).

It promises a verdict for whatever records say and the DNS does, within `SpfSettings.seconds`, after a bounded number
of questions: 10 terms that ask, each at most 1 + 10 questions, one PTR with 10 more, and one for the explanation.
What cannot be found out just now is temperror; what is wrong with a record, permerror.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final, NamedTuple

from ..address import Address, normalize_domain
from ..dns.interfaces import Answer, DnsError, Resolver
from . import spf_record
from .deadline import TooLate, within
from .spf_macros import expand_domain, expand_text, letters
from .spf_record import Record, Spec, Term
from .verdicts import Spf
from .wording import one_line

__all__ = ["SpfSettings", "check_helo", "check_host", "check_mail"]

_ADDRESSES: Final = 2000  # of one name; a reply has room for twice as many
_EXPLANATION_RECORD: Final = 2000  # octets


class SpfSettings(NamedTuple):
    """RFC 7208 section 4.6.4. `lookups`: terms that ask the DNS; `voids`: of those, how many may find nothing;
    `names`: of one MX or PTR answer; `seconds` for all of it; `explain`: whether a domain is asked why it says fail.

    `receiver`: our host's name, for explanations.
    """

    lookups: int = 10
    voids: int = 2
    names: int = 10
    seconds: float = 20.0
    explain: bool = True
    receiver: str = "unknown"


_DEFAULT: Final = SpfSettings()


async def check_mail(
    resolver: Resolver,
    clock: Any,
    *,
    ip: str,
    helo: str,
    sender: Address | None,
    settings: SpfSettings = _DEFAULT,
) -> Spf:
    """The MAIL FROM identity (RFC 7208 section 2.4). `sender` None is the null reverse-path: postmaster at the HELO
    name. Never raises; but it is cancelled as any Deferred is.
    """
    if sender is None:
        local, domain = "postmaster", _of_peer(helo)
    else:
        local, domain = sender.local, sender.domain
    return await check_host(
        resolver, clock, "mailfrom", ip=ip, helo=helo, local=local, domain=domain, settings=settings
    )


async def check_helo(
    resolver: Resolver, clock: Any, *, ip: str, helo: str, settings: SpfSettings = _DEFAULT
) -> Spf:
    """The HELO identity (RFC 7208 section 2.3). Never raises."""
    return await check_host(
        resolver,
        clock,
        "helo",
        ip=ip,
        helo=helo,
        local="postmaster",
        domain=_of_peer(helo),
        settings=settings,
    )


async def check_host(
    resolver: Resolver,
    clock: Any,
    identity: str,
    *,
    ip: str,
    helo: str,
    local: str,
    domain: str,
    settings: SpfSettings = _DEFAULT,
) -> Spf:
    """RFC 7208 section 4: check_host(). `domain` in any case, A-labels; `clock` provides IReactorTime.

    A `domain` that is no domain name of several labels gives none (section 4.3), and so does an `ip` that is none.
    """
    domain = domain.lower().removesuffix(".")
    if identity == "helo":
        sender = one_line(domain, 255)
    else:
        # RFC 7208 section 4.3
        local = local or "postmaster"
        sender = f"{local}@{domain}"
        sender = sender if sender.isprintable() and len(sender) < 512 else one_line(sender, 320)
    verdict = Spf("none", identity, one_line(domain, 255), sender)
    try:
        client = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return verdict._replace(reason="the client has no IP address")
    if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped is not None:
        # RFC 7208 section 5: such a connection is one of IPv4
        client = client.ipv4_mapped
    if not _is_domain(domain):
        return verdict._replace(reason="there is no domain to ask")
    check = _Check(resolver, clock, settings, client, helo, local, domain)
    try:
        await within(clock, settings.seconds, check.run())
    except TooLate:
        if not check.result:
            check.result = "temperror"
            check.reason = f"it was not done within {settings.seconds:g} seconds"
    return verdict._replace(
        result=check.result,
        mechanism=check.mechanism,
        reason=one_line(check.reason),
        explanation=check.explanation,
        lookups=check.lookups,
        bare=check.bare,
    )


class _Permanent(Exception):
    """Section 2.6.7. The text is the reason."""


class _Check:
    """One evaluation. What it found is in its attributes, also when it is cancelled at the explanation."""

    __slots__ = (
        "_address",
        "_client",
        "_clock",
        "_helo",
        "_local",
        "_names",
        "_number",
        "_origin",
        "_resolver",
        "_settings",
        "_version",
        "_voids",
        "bare",
        "explanation",
        "lookups",
        "mechanism",
        "reason",
        "result",
    )

    def __init__(
        self,
        resolver: Resolver,
        clock: Any,
        settings: SpfSettings,
        client: ipaddress.IPv4Address | ipaddress.IPv6Address,
        helo: str,
        local: str,
        origin: str,
    ) -> None:
        self._resolver = resolver
        self._clock = clock
        self._settings = settings
        self._client = client
        self._address = str(client)
        self._number = int(client)
        self._version = client.version
        self._helo = helo
        self._local = local
        self._origin = origin
        self._voids = 0
        self._names: tuple[str, ...] | None = None
        self.bare = False
        self.lookups = 0
        self.result = ""
        self.mechanism = ""
        self.reason = ""
        self.explanation = ""

    async def run(self) -> None:
        """Find out all attributes."""
        why: Spec | None = None
        domain = self._origin
        try:
            result, term, domain, why = await self._host(domain)
            self.mechanism = term.text if term is not None else ""
        except _Permanent as problem:
            result, self.reason = "permerror", str(problem)
        except DnsError as problem:
            result, self.reason = "temperror", str(problem)
        self.result = result
        self.bare = self.bare and result == "fail"
        # RFC 7208 section 6.2: only when all is over, and nothing that goes wrong there matters
        if result == "fail" and why is not None and self._settings.explain:
            self.explanation = await self._explained(why, domain)

    async def _host(self, domain: str) -> tuple[str, Term | None, str, Spec | None]:
        """Result, what matched, the domain whose record said it, and its exp=."""
        record = await self._record(domain)
        if record is None:
            return "none", None, domain, None
        while True:
            for term in record.terms:
                if await self._matches(term, domain):
                    self.bare = len(record.terms) == 1 and term.kind == "all"
                    return term.result, term, domain, record.explanation
            if record.redirect is None:
                return "neutral", None, domain, None
            # RFC 7208 section 6.1
            self._count("redirect")
            target = await self._target(record.redirect, domain)
            record = await self._record(target) if target is not None else None
            if record is None or target is None:
                raise _Permanent(f"redirect of {domain} leads to no SPF record")
            domain = target

    async def _record(self, domain: str) -> Record | None:
        """RFC 7208 sections 4.4 and 4.5. None: there is none."""
        if not _is_domain(domain):
            return None
        found = spf_record.select((await self._resolver.txt(domain)).records)
        if not found:
            return None
        if len(found) > 1:
            raise _Permanent(f"{domain} has {len(found)} SPF records")
        try:
            return spf_record.parse(found[0])
        except ValueError as problem:
            raise _Permanent(f"the SPF record of {domain}: {problem}") from None

    async def _matches(self, term: Term, domain: str) -> bool:
        kind = term.kind
        if kind == "ip4":
            return self._version == 4 and self._number >> term.bits == term.network
        if kind == "ip6":
            return self._version == 6 and self._number >> term.bits == term.network
        if kind == "all":
            return True
        # RFC 7208 section 4.6.4
        self._count(term.text)
        target = domain if term.spec is None else await self._target(term.spec, domain)
        if target is None:
            return False
        if kind == "include":
            return await self._includes(target)
        if kind == "ptr":
            return await self._points_to(target)
        # A name that no question can carry is nobody's
        if not _can_be_asked(target):
            return False
        if kind == "a":
            return await self._is_at(target, term, void=True)
        if kind == "mx":
            return await self._is_mx(target, term)
        # RFC 7208 section 5.7: A, also when the client came by IPv6
        answer = await self._resolver.addresses(target, 4)
        if not answer.records:
            self._void(target)
        return bool(answer.records)

    async def _includes(self, target: str) -> bool:
        # RFC 7208 section 5.2: the table
        result, _, _, _ = await self._host(target)
        if result == "none":
            raise _Permanent(f"{target}, which is included, has no SPF record")
        return result == "pass"

    async def _is_at(self, name: str, term: Term, *, void: bool = False) -> bool:
        """RFC 7208 section 5.3."""
        answer = await self._resolver.addresses(name, self._version)
        if void and not answer.records:
            # One that came by IPv6 is not asked of a name that has IPv4 alone: its owner may not know IPv6
            if self._version == 4 or not answer.exists:
                self._void(name)
            return False
        shift = term.bits if self._version == 4 else term.bits6
        if not shift:
            return self._address in answer.records
        mine = self._number >> shift
        return any(_number(one) >> shift == mine for one in answer.records[:_ADDRESSES])

    async def _is_mx(self, target: str, term: Term) -> bool:
        """RFC 7208 section 5.4."""
        answer = await self._resolver.mx(target)
        if not answer.records:
            self._void(target)
            return False
        if len(answer.records) > self._settings.names:
            # RFC 7208 section 4.6.4
            raise _Permanent(f"{target} has more than {self._settings.names} MX")
        for host in dict.fromkeys(mx.host for mx in sorted(answer.records)):
            if _can_be_asked(host) and await self._is_at(host, term):
                return True
        return False

    async def _points_to(self, target: str) -> bool:
        """RFC 7208 section 5.5."""
        end = "." + target.lower()
        for name in await self._pointers():
            if ("." + name).endswith(end) and await self._is_mine(name):
                return True
        return False

    async def _pointers(self) -> tuple[str, ...]:
        if self._names is None:
            try:
                answer: Answer[str] = await self._resolver.pointer(self._address)
            except DnsError:
                # RFC 7208 section 5.5: then it does not match
                self._names = ()
            else:
                # RFC 7208 section 4.6.4: those behind the tenth are not looked at; the sender has no power over them
                first = answer.records[: self._settings.names]
                self._names = tuple(name.lower().removesuffix(".") for name in first)
        return self._names

    async def _is_mine(self, name: str) -> bool:
        if not _can_be_asked(name):
            return False
        try:
            return self._address in (await self._resolver.addresses(name, self._version)).records
        except DnsError:
            return False

    async def _validated(self, domain: str) -> str:
        """RFC 7208 section 7.3: of the client's names the domain itself, else one below it, else any."""
        names = await self._pointers()
        end = "." + domain
        for fits in (domain.__eq__, lambda name: name.endswith(end), lambda name: True):
            for name in names:
                if fits(name) and await self._is_mine(name):
                    return name
        return "unknown"

    async def _target(self, spec: Spec, domain: str) -> str | None:
        """The target-name; None: it cannot be said."""
        if isinstance(spec, str):
            return expand_domain(spec, {})
        return expand_domain(spec, await self._values(spec, domain))

    async def _values(self, spec: Spec, domain: str) -> dict[str, str | None]:
        wanted = letters(spec)
        # RFC 8616 section 4: a term that needs a local part that is not ASCII never matches
        local = self._local if self._local.isascii() else None
        values: dict[str, str | None] = {
            "l": local,
            "s": None if local is None else f"{local}@{self._origin}",
            "o": self._origin,
            "d": domain,
            "i": self._address if self._version == 4 else ".".join(f"{self._number:032X}"),
            "v": "in-addr" if self._version == 4 else "ip6",
            "h": self._helo[:255],
            "c": self._address,
            "r": self._settings.receiver,
        }
        if "p" in wanted:
            values["p"] = await self._validated(domain)
        if "t" in wanted:
            values["t"] = str(int(self._clock.seconds()))
        return values

    async def _explained(self, spec: Spec, domain: str) -> str:
        try:
            name = await self._target(spec, domain)
            if name is None or not _can_be_asked(name):
                return ""
            records = (await self._resolver.txt(name)).records
            if len(records) != 1 or len(records[0]) > _EXPLANATION_RECORD:
                return ""
            text = spf_record.explain_string(records[0].decode("ascii"))
            explanation = expand_text(text, await self._values(text, domain))
        except (DnsError, ValueError):
            return ""
        return one_line(explanation or "", 500)

    def _count(self, what: str) -> None:
        self.lookups += 1
        if self.lookups > self._settings.lookups:
            raise _Permanent(f"more than {self._settings.lookups} look-ups are needed")

    def _void(self, name: str) -> None:
        # RFC 7208 section 4.6.4: counted are terms, not questions
        self._voids += 1
        if self._voids > self._settings.voids:
            raise _Permanent(
                f"more than {self._settings.voids} look-ups find nothing, {name} the last"
            )


def _of_peer(helo: str) -> str:
    """A HELO name as a domain: A-labels where it has others."""
    if helo.isascii():
        return helo
    try:
        return normalize_domain(helo)
    except ValueError:
        return ""


def _is_domain(name: str) -> bool:
    """RFC 7208 section 4.3: several labels, none of them empty or too long; no address literal."""
    return "." in name and name[-1] != "]" and _can_be_asked(name)


def _can_be_asked(name: str) -> bool:
    """Whether a question can carry the name. A backslash would begin an escape in the resolver's eyes."""
    if not 0 < len(name) <= 253 or not (name.isascii() and name.isprintable()) or "\\" in name:
        return False
    labels = name.split(".")
    return "" not in labels and (len(name) < 64 or max(map(len, labels)) < 64)


def _number(address: str) -> int:
    try:
        return int(ipaddress.ip_address(address))
    except ValueError:
        return -1
