"""DMARC (RFC 9989; RFC 7489 where a setting says so): is a message authenticated by whose mail it says it is?

`check_dmarc` puts the verdicts of SPF and DKIM beside the domains in From (`dmarc_author`) and the record that applies
to them (`organization`). It never raises, asks at most 8 questions for each domain it looks at, and is over after
`DmarcSettings.seconds`; what cannot be found out just now is temperror.

From that does not say clearly whose mail it is (no field, several, a malformed one) is outside DMARC (RFC 9989 section
11.5), and the way around it. The result is permerror then, and `policy` the strictest that a domain named there asks
for and that was not met: who obeys `requested` treats such a message like one that fails. When several authors stand
there properly, each is judged (RFC 7489 section 6.6.1), and the verdict is that of the worst.

A record's pct= counts, though RFC 9989 has dropped it: its owner asked for less, and many such records are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from ..dns.interfaces import DnsError, Resolver
from .deadline import TooLate, within
from .dmarc_author import Author
from .dmarc_record import DmarcRecord
from .organization import Organizations, SuffixList, TreeWalk
from .verdicts import Dkim, Dmarc, Spf
from .wording import one_line

__all__ = ["DmarcSettings", "check_dmarc", "requested"]


class DmarcSettings(NamedTuple):
    """`discovery`: ``"tree"`` asks the DNS where an organization ends (RFC 9989 section 4.10), ``"list"`` the public
    suffix list (RFC 7489 section 3.2); see `organization` for how they differ. `seconds` for all of it. `identifiers`:
    signatures' domains whose organization is looked for, one message's.
    """

    discovery: str = "tree"
    seconds: float = 20.0
    identifiers: int = 10


_DEFAULT: Final = DmarcSettings()
_LESS: Final = {"reject": "quarantine", "quarantine": "none"}
# What fails and is spared is better than what may be refused when the DNS answers again
_WORST_FIRST: Final = ("reject", "quarantine", "temperror", "fail", "none", "pass")


def requested(verdict: Dmarc) -> str:
    """What is asked for this very message: none, quarantine or reject. Where it was spared, one step less."""
    if verdict.result not in ("fail", "permerror"):
        return "none"
    return _LESS.get(verdict.policy, "none") if verdict.sampled else verdict.policy


async def check_dmarc(
    resolver: Resolver,
    clock: Any,
    author: Author,
    *,
    mail: Spf | None,
    dkim: Sequence[Dkim],
    entropy: Callable[[int], bytes],
    settings: DmarcSettings = _DEFAULT,
) -> Dmarc:
    """The verdict on one message. `mail`: SPF of MAIL FROM, the HELO's does not count (RFC 9989 section 4.4.2);
    `dkim`: all signatures; `entropy(n)` gives n random bytes, for pct=; `clock` provides IReactorTime.
    """
    if not author.domains:
        return Dmarc("permerror", reason=author.problem)
    check = _Check(resolver, mail, dkim, entropy, settings)
    try:
        verdicts = await within(clock, settings.seconds, check.all_of(author.domains))
    except TooLate:
        late = Dmarc(
            "temperror",
            author.domains[0],
            reason=f"it was not done within {settings.seconds:g} seconds",
        )
        verdicts = [late]
    if not author.problem and len(verdicts) == 1:
        return verdicts[0]
    return _together(verdicts, author.problem)


def _together(verdicts: list[Dmarc], problem: str) -> Dmarc:
    # Of equals the one that stands first
    worst = min(verdicts, key=_rank)
    if not problem:
        return worst
    if worst.result == "temperror":
        return worst._replace(reason=f"{problem}; {worst.reason}")
    if worst.result != "fail":
        worst = worst._replace(policy="none", sampled=False)
    return worst._replace(result="permerror", aggregate=(), reason=problem)


def _rank(verdict: Dmarc) -> int:
    asked = requested(verdict)
    return _WORST_FIRST.index(verdict.result if asked == "none" else asked)


class _Check:
    __slots__ = ("_dkim", "_entropy", "_left", "_mail", "_organizations", "_resolver")

    def __init__(
        self,
        resolver: Resolver,
        mail: Spf | None,
        dkim: Sequence[Dkim],
        entropy: Callable[[int], bytes],
        settings: DmarcSettings,
    ) -> None:
        self._resolver = resolver
        self._mail = mail
        self._dkim = dkim
        self._entropy = entropy
        self._left = settings.identifiers
        self._organizations: Organizations = (
            SuffixList(resolver) if settings.discovery == "list" else TreeWalk(resolver)
        )

    async def all_of(self, domains: Sequence[str]) -> list[Dmarc]:
        out = []
        for domain in domains:
            try:
                out.append(await self._judge(domain))
            except DnsError as problem:
                out.append(Dmarc("temperror", domain, reason=one_line(str(problem))))
        return out

    async def _judge(self, domain: str) -> Dmarc:
        if domain[0] == "[":
            return Dmarc("none", domain, reason="an address literal has no record")
        found = await self._organizations.policy(domain)
        if found is None:
            return Dmarc("none", domain)
        where, record = found
        policy = record.asked(where != domain)
        if policy is None:
            return Dmarc("none", domain, where, reason="its record asks for nothing")
        organization = await self._organizations.of(domain)
        aligned, problem = await self._aligned(domain, organization, record)
        sampled = False
        result = "pass" if aligned else "temperror" if problem else "fail"
        if result == "fail":
            policy = await self._asked(domain, where, record) or "none"
            sampled = policy != "none" and self._spared(record)
        return Dmarc(
            result,
            domain,
            where,
            organization,
            policy,
            sampled,
            aligned,
            record.text,
            record.rua,
            "" if aligned else problem,
        )

    async def _asked(self, domain: str, where: str, record: DmarcRecord) -> str | None:
        below = where != domain
        exists = True
        if below and record.np and record.np != (record.sp or record.p):
            # RFC 9989 section 3.2.13: NXDOMAIN; SPF has mostly asked that before
            exists = (await self._resolver.txt(domain)).exists
        return record.asked(below, exists)

    def _spared(self, record: DmarcRecord) -> bool:
        # RFC 9989 section 4.7: t=y; RFC 7489 section 6.3: pct=
        if record.t:
            return True
        return record.pct < 100 and int.from_bytes(self._entropy(4), "big") % 100 >= record.pct

    async def _aligned(
        self, domain: str, organization: str, record: DmarcRecord
    ) -> tuple[tuple[str, ...], str]:
        """What passed and belongs to `domain` (RFC 9989 section 4.4); and what kept us from finding out more."""
        found: list[str] = []
        problem = ""
        strict = record.aspf == "s"
        mail = self._mail
        if mail is not None and mail.result in ("pass", "temperror"):
            try:
                if await self._belongs(mail.domain, domain, organization, strict):
                    if mail.result == "pass":
                        found.append("spf")
                    else:
                        problem = f"SPF: {mail.reason}"
            except DnsError as error:
                problem = str(error)
        strict = record.adkim == "s"
        seen: dict[str, bool] = {}
        for one in sorted(self._dkim, key=_passing_first):
            if one.result not in ("pass", "temperror") or one.domain in seen:
                continue
            try:
                belongs = await self._belongs(one.domain, domain, organization, strict)
            except DnsError as error:
                belongs, problem = False, problem or str(error)
            seen[one.domain] = belongs
            if belongs and one.result == "pass":
                found.append(f"dkim {one.domain}")
            elif belongs:
                problem = problem or f"DKIM: {one.reason}"
        return tuple(found), one_line(problem)

    async def _belongs(self, name: str, domain: str, organization: str, strict: bool) -> bool:
        if name == domain:
            return bool(name)
        # An organization is above all of its names: most strangers need no question
        if strict or not (name == organization or name.endswith(f".{organization}")):
            return False
        if self._left <= 0:
            return False
        self._left -= 1
        return await self._organizations.of(name) == organization


def _passing_first(signature: Dkim) -> bool:
    return signature.result != "pass"
