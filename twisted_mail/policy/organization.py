"""Organizational domains: who is responsible for a name. Found by asking the DNS, or by the public suffix list.

`TreeWalk` is RFC 9989 section 4.10: `_dmarc` records on the way up to the root say where an organization ends; no
list is needed, and a domain without any record stands for itself. `SuffixList` is RFC 7489 section 3.2: one label more
than the longest public suffix, after the list that publicsuffixlist brings along; it needs no question.

They differ where a parent has no record (the walk makes ``a.example.org`` its own organization, the list says
``example.org``), where a subdomain says psd=n (the walk ends there), and where a suffix is private
(``github.io``: the walk knows it only by psd=y).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, Protocol

from ..dns.interfaces import Resolver
from . import dmarc_record
from .dmarc_record import DmarcRecord

__all__ = ["MAX_QUESTIONS", "Organizations", "SuffixList", "TreeWalk", "load_suffixes"]

MAX_QUESTIONS: Final = 8
"""Of one tree walk (RFC 9989 section 4.10)."""


class Organizations(Protocol):
    """Of one message: what was asked once is known."""

    async def record(self, domain: str) -> DmarcRecord | None:
        """The one that stands at this domain itself. Raises DnsError."""

    async def of(self, domain: str) -> str:
        """The organizational domain of `domain`: itself or one above it. Raises DnsError."""

    async def policy(self, domain: str) -> tuple[str, DmarcRecord] | None:
        """The record that applies to mail from `domain`, and where it stands. Raises DnsError."""


class _Records:
    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._known: dict[str, DmarcRecord | None] = {}

    async def record(self, domain: str) -> DmarcRecord | None:
        if domain in self._known:
            return self._known[domain]
        name = f"_dmarc.{domain}"
        found: list[bytes] = []
        if len(name) <= 253:
            found = dmarc_record.select((await self._resolver.txt(name)).records)
        # RFC 9989 section 4.10 step 2: of several none counts
        record = dmarc_record.parse(found[0]) if len(found) == 1 else None
        self._known[domain] = record
        return record


class TreeWalk(_Records):
    """RFC 9989 section 4.10."""

    async def of(self, domain: str) -> str:
        organization = domain
        for name in _way_up(domain):
            record = await self.record(name)
            if record is None:
                continue
            # RFC 9989 section 4.10.2
            if record.psd == "n":
                return name
            if record.psd == "y":
                return _child(domain, name)
            organization = name
        return organization

    async def policy(self, domain: str) -> tuple[str, DmarcRecord] | None:
        # RFC 9989 section 4.10.1: the domain, its organization, its public suffix
        record = await self.record(domain)
        if record is not None:
            return domain, record
        organization = await self.of(domain)
        record = await self.record(organization)
        if record is not None:
            return organization, record
        for name in _way_up(domain):
            record = await self.record(name)
            if record is not None and record.psd == "y":
                return name, record
        return None


class SuffixList(_Records):
    """RFC 7489 sections 3.2 and 6.6.3."""

    async def of(self, domain: str) -> str:
        return _registered(domain)

    async def policy(self, domain: str) -> tuple[str, DmarcRecord] | None:
        for name in dict.fromkeys((domain, _registered(domain))):
            record = await self.record(name)
            if record is not None:
                return name, record
        return None


def load_suffixes() -> None:
    """Read the public suffix list now. It takes a tenth of a second: for a pool thread, before the first message."""
    _registered("example.org")


def _way_up(domain: str) -> list[str]:
    """RFC 9989 section 4.10 steps 3 to 7."""
    labels = domain.split(".")
    names = [domain]
    first = 1 if len(labels) < MAX_QUESTIONS else len(labels) - MAX_QUESTIONS + 1
    names += (".".join(labels[at:]) for at in range(first, len(labels)))
    return names


def _child(domain: str, parent: str) -> str:
    """The name on the way from `parent` down to `domain`, one label longer than `parent`; else `domain` itself."""
    return ".".join(domain.split(".")[-parent.count(".") - 2 :])


@lru_cache(maxsize=4096)
def _registered(domain: str) -> str:
    found: str | None = _suffixes().privatesuffix(domain)
    return found or domain


@lru_cache(maxsize=1)
def _suffixes() -> Any:
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()
