"""What a check found, and what all checks share: `Finding`, `Asking`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..dns.interfaces import DnsError, Resolver
from ..policy.deadline import TooLate, within
from ..policy.dnsbl import DnsList
from ..policy.wording import one_line
from .facts import Facts

__all__ = ["MISSING", "OPTIONAL", "RIGHT", "UNKNOWN", "WRONG", "Asking", "Finding", "shown"]

RIGHT: Final = "right"
WRONG: Final = "wrong"
MISSING: Final = "missing"
OPTIONAL: Final = "optional"
"""It is not there, and mail goes on without it."""
UNKNOWN: Final = "unknown"
"""It could not be asked for."""

_SECONDS: Final = 40.0
_SHOWN: Final = 100


class Finding(NamedTuple):
    """`record`: kind and name. `detail`: what is there, and what should be. `meaning`: what follows for mail."""

    state: str
    record: str
    detail: str
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Asking:
    """`clock` provides IReactorTime. `fetch`: the text of a domain's MTA-STS policy; raises
    `remote.mta_sts.FetchError`. `is_here`: whether an address (as in a mailto: URI) is one of this site's, None for
    one of a domain that is not. `lists`: of spammers; `trusted`: the resolver's word on DNSSEC counts. `seconds`: for
    one check.
    """

    facts: Facts
    resolver: Resolver
    clock: Any
    fetch: Callable[[str], Awaitable[str]]
    is_here: Callable[[str], bool | None] = lambda address: None
    lists: tuple[DnsList, ...] = ()
    trusted: bool = False
    seconds: float = _SECONDS

    async def guarded(
        self, record: str, check: Coroutine[Any, Any, list[Finding]]
    ) -> list[Finding]:
        """What the check finds; that nothing could be found when the DNS does not answer in time."""
        try:
            return await within(self.clock, self.seconds, check)
        except TooLate:
            why = f"no answer within {self.seconds:g} seconds"
        except DnsError as error:
            why = one_line(str(error), 300)
        return [
            Finding(
                UNKNOWN,
                record,
                why,
                "ask again; if it stays so, the resolver or the zone's servers are ill",
            )
        ]

    async def misplaced(self, name: str) -> str:
        """Where a record stands that was meant for `name`, if its name was completed with the domain once more."""
        double = f"{name}.{self.facts.domain}"
        if len(double) > 253:
            return ""
        answer = await self.resolver.txt(double)
        return double if answer.records else ""


def shown(text: str | bytes, most: int = _SHOWN) -> str:
    """What somebody wrote into the DNS, fit for a line on a terminal."""
    if isinstance(text, bytes):
        text = text.decode("ascii", "backslashreplace")
    return one_line(text, most)
