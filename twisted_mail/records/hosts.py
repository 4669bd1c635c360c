"""Checks of names and addresses: MX, the host's addresses, the way back (PTR), lists of spammers."""

from __future__ import annotations

import ipaddress
from typing import Final

from ..policy.dnsbl import DnsLists
from .finding import MISSING, RIGHT, UNKNOWN, WRONG, Asking, Finding, shown

__all__ = [
    "addresses_of",
    "check_addresses",
    "check_listed",
    "check_mx",
    "check_pointer",
    "sources_of",
]

_MAX_NAMES: Final = 10
_MAX_HOSTS: Final = 10


async def addresses_of(asking: Asking, name: str) -> list[str]:
    """IPv4 first. Raises DnsError."""
    found: list[str] = []
    for family in (4, 6):
        found += (await asking.resolver.addresses(name, family)).records
    return found


async def sources_of(asking: Asking) -> list[str]:
    """The addresses that mail leaves from: as known, else those of our name in EHLO. Raises DnsError."""
    facts = asking.facts
    found = facts.sources or facts.addresses or await addresses_of(asking, facts.helo)
    return [one for one in found if ipaddress.ip_address(one).version in facts.families]


async def check_mx(asking: Asking) -> list[Finding]:
    """RFC 5321 section 5.1: mail for the domain comes to us."""
    facts = asking.facts
    record, want = f"MX {facts.domain}", f"10 {facts.host}"
    answer = await asking.resolver.mx(facts.domain)
    records = sorted(answer.records)
    if not answer.exists:
        why = f"there is no domain {facts.domain}; wanted: {want}"
        return [Finding(MISSING, record, why, "nobody can write to it")]
    if not records:
        return [
            Finding(MISSING, record, f"wanted: {want}", "mail for the domain does not come here")
        ]
    found = ", ".join(f"{one.preference} {shown(one.host) or '.'}" for one in records[:_MAX_HOSTS])
    if all(not one.host for one in records):
        # RFC 7505
        return [
            Finding(
                WRONG, record, f"is {found}; wanted: {want}", "it says: this domain takes no mail"
            )
        ]
    names = [one.host for one in records]
    if facts.host in names:
        mine = min(one.preference for one in records if one.host == facts.host)
        before = [one.host for one in records if one.preference < mine]
        meaning = f"{shown(', '.join(before))} is asked before this server" if before else ""
        return [Finding(RIGHT, record, found, meaning)]
    for name in names[:_MAX_HOSTS]:
        if name and set(facts.addresses).intersection(await addresses_of(asking, name)):
            meaning = f"it leads here, but the certificate is for {facts.host}: say that name"
            return [Finding(WRONG, record, f"is {found}; wanted: {want}", meaning)]
    return [
        Finding(WRONG, record, f"is {found}; wanted: {want}", "mail for the domain goes elsewhere")
    ]


async def check_addresses(asking: Asking, name: str) -> list[Finding]:
    """A and AAAA of one of our names."""
    known = asking.facts.known(name)
    record = f"A, AAAA {name}"
    alias = (await asking.resolver.alias(name)).records
    if alias and name == asking.facts.host:
        # RFC 5321 section 5.1, RFC 2181 section 10.3
        detail = f"is an alias (CNAME) of {shown(alias[0])}; wanted: A and AAAA records"
        return [
            Finding(
                WRONG,
                record,
                detail,
                "an MX record must not name an alias: some servers send nothing",
            )
        ]
    found = await addresses_of(asking, name)
    if not found:
        detail = f"wanted: {', '.join(known)}" if known else "wanted: the address of this machine"
        return [Finding(MISSING, record, detail, "nobody finds this server")]
    text = ", ".join(found)
    here = [one for one in found if one in known]
    if known and not here:
        detail = f"is {text}; wanted: {', '.join(known)}"
        return [Finding(WRONG, record, detail, "it leads to another machine")]
    families = asking.facts.families
    # IPv6 alone may be left out on purpose, when nothing is sent from it
    lost = [one for one in known if one not in found and (":" not in one or 6 in families)]
    if lost:
        detail = f"is {text}; wanted as well: {', '.join(lost)}"
        return [
            Finding(WRONG, record, detail, "mail from there has a name that does not lead back")
        ]
    loopback = [one for one in found if ipaddress.ip_address(one).is_loopback and one not in known]
    if loopback:
        return [Finding(WRONG, record, f"is {text}", "others are led to themselves")]
    meaning = (
        "" if known else "whether that is this machine is not known here; to compare: --address"
    )
    return [Finding(RIGHT, record, text, meaning)]


async def check_pointer(asking: Asking, address: str) -> list[Finding]:
    """The name of an address, and whether that leads back (RFC 1912 section 2.1)."""
    helo = asking.facts.helo
    record = f"PTR {address}"
    names = [
        one.lower().removesuffix(".")
        for one in (await asking.resolver.pointer(address)).records[:_MAX_NAMES]
    ]
    if not names:
        meaning = "large providers refuse mail from it; who gave the address sets its name"
        return [Finding(MISSING, record, f"wanted: {helo}", meaning)]
    family = ipaddress.ip_address(address).version
    confirmed = []
    for name in names:
        if address in (await asking.resolver.addresses(name, family)).records:
            confirmed.append(name)
    found = shown(", ".join(names))
    if helo in confirmed:
        return [Finding(RIGHT, record, f"{helo}, which leads back")]
    if helo in names:
        detail = f"is {found}, which does not lead back to {address}"
        return [
            Finding(WRONG, record, detail, "large providers refuse mail; mend the A or AAAA record")
        ]
    if confirmed:
        detail = f"is {found}; in EHLO we say {helo}"
        meaning = "a sign of spam to some; set one of the two: the PTR record, or delivery.hostname"
        return [Finding(WRONG, record, detail, meaning)]
    detail = f"is {found}, which does not lead back; wanted: {helo}"
    return [Finding(WRONG, record, detail, "large providers refuse mail from it")]


async def check_listed(asking: Asking, address: str) -> list[Finding]:
    """Whether the lists of [reputation] have an address of ours (RFC 5782)."""
    record = f"lists {address}"
    lists = DnsLists(asking.resolver, asking.clock, asking.lists, tell=lambda text: None)
    listing = await lists.reasons(await lists.client(address))
    bad = [hit for hit in listing.hits if hit.points > 0]
    findings = [
        Finding(
            WRONG,
            record,
            f"{hit.zone} has it ({hit.code})" + (f": {hit.reason}" if hit.reason else ""),
            "who asks that list refuses mail, or takes it for spam; its web pages say how to get off",
        )
        for hit in bad
    ]
    findings += [Finding(UNKNOWN, record, error) for error in listing.errors]
    if not findings:
        zones = sorted({one.zone for one in asking.lists})
        findings.append(Finding(RIGHT, record, f"not on {', '.join(zones)}"))
    return findings
