"""MTA-STS, RFC 8461: the policy a domain publishes over HTTPS, found by a TXT record, and remembered while it is valid.

`parse_policy` and `parse_record` are pure. `StsPolicies.of` is what a delivery asks: the record says whether there is
something new; a policy that cannot be fetched now is used from memory as long as it is valid, so that who disturbs the
network cannot switch it off. Promises: one fetch a domain at a time, none again for some minutes after one failed, a
bounded number of policies in memory and in the file.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..dns.interfaces import DnsError, Resolver
from .names import name_matches

__all__ = [
    "FetchError",
    "Finding",
    "Mode",
    "Stored",
    "StsPolicies",
    "StsPolicy",
    "StsStore",
    "parse_policy",
    "parse_record",
]

MAX_POLICIES: Final = 10_000
MAX_BYTES: Final = 65_536  # RFC 8461 section 3.3: "suggested maximum policy size"
MAX_AGE: Final = 31_557_600  # RFC 8461 section 3.2, seconds
MAX_MX: Final = 500
RETRY: Final = 300.0  # RFC 8461 section 3.3: "waiting at least 5 minutes"
REFRESH: Final = 86_400.0  # RFC 8461 section 10.2: "once per day"
_MAX_FAILED: Final = 10_000

# RFC 8461 section 3.1: sts-text-record
_RECORD: Final = re.compile(
    rb"v=STSv1[ \t]*;[ \t]*id=([A-Za-z0-9]{1,32})[ \t]*"
    rb"(?:;[ \t]*[A-Za-z0-9][A-Za-z0-9_.-]{0,31}=[\x21-\x3a\x3c\x3e-\x7e]+[ \t]*)*(?:;[ \t]*)?"
)
_MX: Final = re.compile(r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,62})\.)*[a-z0-9_][a-z0-9_-]{0,62}")


class Mode(enum.Enum):
    """RFC 8461 section 5."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """`mx`: patterns in lower case. `max_age` in seconds."""

    mode: Mode
    mx: tuple[str, ...]
    max_age: int

    def names(self, host: str) -> bool:
        """Whether the MX host is one of the policy's (RFC 8461 section 4.1)."""
        return any(name_matches(pattern, host) for pattern in self.mx)


class FetchError(Exception):
    """A policy cannot be had. `invalid`: it is there, and no policy."""

    def __init__(self, text: str, *, invalid: bool = False) -> None:
        super().__init__(text)
        self.invalid = invalid


class Stored(NamedTuple):
    """A policy as it is remembered. `body`: as it was fetched; `fetched` and `expires`: seconds since 1970."""

    domain: str
    id: str
    body: str
    fetched: float
    expires: float


class StsStore(Protocol):
    """Where policies outlive a restart."""

    def load(self, now: float, limit: int) -> Awaitable[list[Stored]]:
        """Those that are valid still."""

    def put(self, stored: Stored) -> Awaitable[None]:
        """In place of the domain's last one."""


class Finding(NamedTuple):
    """`policy`: to go by, None for none. `result`: what failed, as RFC 8460 section 4.3 calls it, or ""."""

    policy: StsPolicy | None
    result: str = ""


class _Entry(NamedTuple):
    stored: Stored
    policy: StsPolicy


Fetch = Callable[[str], Awaitable[str]]
"""Gets the policy of a domain (`sts_fetch`). Raises FetchError."""


class StsPolicies:
    """The policies of destination domains. `clock` gives seconds since 1970; `store` None: in memory only."""

    _log = Logger()

    def __init__(
        self,
        resolver: Resolver,
        fetch: Fetch,
        clock: Callable[[], float],
        store: StsStore | None = None,
    ) -> None:
        self._resolver = resolver
        self._fetch = fetch
        self._clock = clock
        self._store = store
        self._entries: dict[str, _Entry] | None = None if store is not None else {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._fetching: dict[str, list[Deferred[None]]] = {}

    async def of(self, domain: str) -> Finding:
        """The policy that holds for mail to `domain` now. Never raises for what is outside."""
        entries = await self._loaded()
        try:
            answer = await self._resolver.txt(f"_mta-sts.{domain}")
            found = parse_record(answer.records)
        except DnsError:
            found = None
        now = self._clock()
        entry = self._valid(entries, domain, now)
        # RFC 8461 section 3.1: without a record a policy that was fetched stays
        if found is None:
            return Finding(entry.policy if entry else None)
        if entry is not None and entry.stored.id == found:
            age = now - entry.stored.fetched
            if age < max(RETRY, min(REFRESH, entry.policy.max_age / 2)):
                return Finding(entry.policy)
        failed = self._failed.get(domain)
        if failed is not None and 0 <= now - failed[0] < RETRY:
            result = failed[1]
        else:
            result = await self._fetch_once(entries, domain, found)
            entry = self._valid(entries, domain, self._clock())
        # RFC 8461 section 3.3: no fresh one, so the valid one, so none
        return Finding(entry.policy if entry else None, result)

    async def _loaded(self) -> dict[str, _Entry]:
        if self._entries is None:
            assert self._store is not None
            entries: dict[str, _Entry] = {}
            try:
                for stored in await self._store.load(self._clock(), MAX_POLICIES):
                    entries[stored.domain] = _Entry(stored, parse_policy(stored.body))
            except Exception as error:
                # What is lost can be fetched again.
                self._log.error("the policies of MTA-STS are not to be read: {error}", error=error)
            if self._entries is None:  # two may have asked
                self._entries = entries
        return self._entries

    def _valid(self, entries: dict[str, _Entry], domain: str, now: float) -> _Entry | None:
        entry = entries.get(domain)
        if entry is not None and now >= entry.stored.expires:
            del entries[domain]
            return None
        return entry

    async def _fetch_once(self, entries: dict[str, _Entry], domain: str, id: str) -> str:
        """Fetch, or wait for who does; what failed, or ""."""
        waiting = self._fetching.get(domain)
        if waiting is None:
            waiting = self._fetching[domain] = []
            # On its own: who began it may be cancelled, and others wait for it.
            Deferred.fromCoroutine(self._renew(entries, domain, id)).addBoth(self._over, domain)
        if domain in self._fetching:
            over: Deferred[None] = Deferred()
            waiting.append(over)
            try:
                await over
            finally:
                if over in waiting:
                    waiting.remove(over)
        return self._failed.get(domain, (0.0, ""))[1]

    def _over(self, _: object, domain: str) -> None:
        for one in list(self._fetching.pop(domain)):
            if not one.called:
                one.callback(None)

    async def _renew(self, entries: dict[str, _Entry], domain: str, id: str) -> None:
        try:
            body = await self._fetch(domain)
            try:
                policy = parse_policy(body)
            except ValueError as error:
                raise FetchError(str(error), invalid=True) from None
        except FetchError as error:
            self._fail(domain, "sts-policy-invalid" if error.invalid else "sts-policy-fetch-error")
            self._log.info(
                "no MTA-STS policy of {domain}: {error}", domain=domain, error=str(error)
            )
            return
        except Exception as error:
            self._fail(domain, "sts-policy-fetch-error")
            self._log.error("MTA-STS of {domain} failed: {error!r}", domain=domain, error=error)
            return
        self._failed.pop(domain, None)
        now = self._clock()
        # Never shorter than what keeps a domain from having us fetch for every message.
        stored = Stored(domain, id, body, now, now + max(policy.max_age, RETRY))
        entries.pop(domain, None)
        if len(entries) >= MAX_POLICIES:
            del entries[next(iter(entries))]  # the one that was renewed longest ago
        entries[domain] = _Entry(stored, policy)
        if self._store is not None:
            try:
                await self._store.put(stored)
            except Exception as error:
                self._log.error("an MTA-STS policy is not kept: {error}", error=error)

    def _fail(self, domain: str, result: str) -> None:
        if len(self._failed) >= _MAX_FAILED:
            self._failed.clear()
        self._failed[domain] = (self._clock(), result)


def parse_record(records: tuple[bytes, ...]) -> str | None:
    """The id in the TXT records of ``_mta-sts.``; None when they do not say that there is a policy."""
    # RFC 8461 section 3.1: others do not count, and of ours there must be one
    ours = [one for one in records if one.startswith((b"v=STSv1;", b"v=STSv1 "))]
    if len(ours) != 1 or len(ours[0]) > 2048:
        return None
    found = _RECORD.fullmatch(ours[0])
    return found[1].decode("ascii") if found else None


def parse_policy(body: str) -> StsPolicy:
    """RFC 8461 section 3.2. Raises ValueError, whose text says what is wrong."""
    fields: dict[str, str] = {}
    patterns = []
    for line in body.replace("\r\n", "\n").split("\n"):
        if not line.strip():
            continue
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not colon:
            raise ValueError("a line of the policy has no colon")
        if key == "mx":
            patterns.append(value.lower().rstrip("."))
        else:
            # "If any non-repeated field is duplicated, all entries except for the first SHALL be ignored."
            fields.setdefault(key, value)
    if fields.get("version") != "STSv1":
        raise ValueError("the policy's version is not STSv1")
    try:
        mode = Mode(fields.get("mode", ""))
    except ValueError:
        raise ValueError("the policy has no mode that is known") from None
    age = fields.get("max_age", "")
    if not (age.isascii() and age.isdigit() and len(age) <= 10):
        raise ValueError("the policy's max_age is no number of seconds")
    if len(patterns) > MAX_MX or not all(
        len(one) <= 255 and _MX.fullmatch(one) for one in patterns
    ):
        raise ValueError("an mx of the policy is no host name")
    if not patterns and mode is not Mode.NONE:
        raise ValueError("the policy names no mx")
    return StsPolicy(mode, tuple(patterns), min(int(age), MAX_AGE))
