"""Asks the DNS for all that `wanted` has, at once, and says what is right, wrong or missing: `check`."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ..policy.asking import all_of
from .finding import MISSING, RIGHT, UNKNOWN, WRONG, Asking, Finding
from .hosts import check_addresses, check_listed, check_mx, check_pointer, sources_of
from .senders import check_dkim, check_dmarc, check_keys, check_spf
from .transport import check_autoconfig, check_mta_sts, check_srv, check_tlsa, check_tlsrpt
from .wanted import wanted

__all__ = ["check", "passed"]


async def check(asking: Asking) -> list[Finding]:
    """In the order of `wanted`. Never raises for what is outside; each check is over after `Asking.seconds`."""
    facts = asking.facts
    guarded = asking.guarded
    spf = {
        record.name: record.value
        for topic in wanted(facts)
        for record in topic.records
        if record.value.startswith("v=spf1")
    }
    asked: list[Coroutine[Any, Any, list[Finding]]] = [
        guarded(f"MX {facts.domain}", check_mx(asking)),
        *(
            guarded(f"A, AAAA {name}", check_addresses(asking, name))
            for name in dict.fromkeys((facts.host, facts.helo))
        ),
        guarded(f"addresses of {facts.helo}", _from_addresses(asking, spf)),
        guarded(f"DKIM {facts.domain}", check_keys(asking)),
        *(guarded(f"DKIM {row.name}", check_dkim(asking, row)) for row in facts.keys),
        guarded(f"DMARC _dmarc.{facts.domain}", check_dmarc(asking)),
        guarded(f"MTA-STS _mta-sts.{facts.domain}", check_mta_sts(asking)),
        guarded(f"TLSRPT _smtp._tls.{facts.domain}", check_tlsrpt(asking)),
        guarded(f"TLSA _25._tcp.{facts.host}", check_tlsa(asking)),
        *(
            guarded(f"SRV {service}._tcp.{facts.domain}", check_srv(asking, service, port))
            for service, port in facts.services
        ),
        guarded(f"A, AAAA autoconfig.{facts.domain}", check_autoconfig(asking)),
    ]
    return [finding for findings in await all_of(asked) for finding in findings]


def passed(findings: list[Finding]) -> bool:
    """Whether nothing is wrong, missing or unknown; what is optional may be left out."""
    return not any(one.state in (WRONG, MISSING, UNKNOWN) for one in findings)


async def _from_addresses(asking: Asking, spf: dict[str, str]) -> list[Finding]:
    """What hangs on the addresses that mail leaves from. Raises DnsError when those cannot be had."""
    facts = asking.facts
    addresses = await sources_of(asking)
    asked: list[Coroutine[Any, Any, list[Finding]]] = []
    if facts.relay:
        detail = f"not looked at: mail leaves through {facts.relay}"
        findings = [Finding(RIGHT, f"PTR {facts.helo}", detail)]
        names = [facts.domain]
    else:
        findings = []
        names = list(spf)
        if not addresses:
            detail = "no address that mail leaves from is known: delivery.source_ipv4, or --address"
            findings.append(Finding(UNKNOWN, f"PTR {facts.helo}", detail))
        asked += [asking.guarded(f"PTR {one}", check_pointer(asking, one)) for one in addresses]
    asked += [
        asking.guarded(f"SPF {name}", check_spf(asking, name, addresses, spf[name]))
        for name in names
    ]
    if asking.lists and not facts.relay:
        asked += [asking.guarded(f"lists {one}", check_listed(asking, one)) for one in addresses]
    return findings + [one for found in await all_of(asked) for one in found]
