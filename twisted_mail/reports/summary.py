"""Many reports as a few lines: mail by where it came from, TLS by what failed, with advice for what fails. Pure.

A report that came twice counts once: reporters name each (RFC 9990 section 3.5.1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from .aggregate import Record, Report
from .tls import TlsReport

__all__ = ["Source", "TlsLine", "once", "sources", "tls_lines"]

R = TypeVar("R", Report, TlsReport)
MAX_SOURCES: Final = 50_000
_TLS_ADVICE: Final = {
    "starttls-not-supported": "the server offers no STARTTLS there: look at its certificate and its listener",
    "certificate-host-mismatch": "the certificate is not for the name of the MX: have one with that name",
    "certificate-not-trusted": "the certificate is by nobody they trust, or its chain is not complete",
    "certificate-expired": "the certificate is over, or not valid yet",
    "validation-failure": "the certificate, or the MX host, is not what the policy names",
    "tlsa-invalid": "no TLSA record fits the certificate: publish the new one before it is used",
    "dnssec-invalid": "the zone's DNSSEC is broken",
    "dane-required": "they ask for DANE, and there are no TLSA records",
    "sts-policy-fetch-error": "the policy of MTA-STS cannot be fetched: look at https://mta-sts.<domain>/",
    "sts-policy-invalid": "the policy of MTA-STS is malformed",
    "sts-webpki-invalid": "the web server of mta-sts.<domain> has no certificate that is believed",
}


@dataclass(slots=True)
class Source:
    """Mail in the name of `domain` (From) from one address. Counts are of messages; `dkim`, `spf`: aligned passes."""

    address: str
    domain: str
    messages: int = 0
    passed: int = 0
    dkim: int = 0
    spf: int = 0
    dispositions: Counter[str] = field(default_factory=Counter)
    overrides: Counter[str] = field(default_factory=Counter)
    reporters: dict[str, None] = field(default_factory=dict)
    advice: str = ""
    _worst: tuple[int, int] = (0, 0)


class TlsLine(NamedTuple):
    """Sessions to `domain` under one policy. `result`: "" for those that were right, else a result-type."""

    domain: str
    policy: str
    result: str
    host: str
    sessions: int
    reporters: tuple[str, ...]
    advice: str


def once(reports: Iterable[R]) -> list[R]:
    """Without those that are there twice."""
    known: dict[tuple[object, ...], R] = {}
    for one in reports:
        about = one.published.domain if isinstance(one, Report) else ""
        known.setdefault((one.organization, one.id, about, one.begin, one.end), one)
    return list(known.values())


def sources(reports: Sequence[Report]) -> list[Source]:
    """What failed most first, then the largest."""
    found: dict[tuple[str, str], Source] = {}
    for report in reports:
        for record, count in report.records:
            key = (record.source, record.header_from or report.published.domain)
            source = found.get(key)
            if source is None:
                if len(found) >= MAX_SOURCES:
                    continue
                source = found[key] = Source(*key)
            _add(source, record, count, report.organization)
    return sorted(
        found.values(), key=lambda one: (one.passed - one.messages, -one.messages, one.address)
    )


def _add(source: Source, record: Record, count: int, reporter: str) -> None:
    dkim, spf = record.dkim == "pass", record.spf == "pass"
    source.messages += count
    source.passed += count if dkim or spf else 0
    source.dkim += count if dkim else 0
    source.spf += count if spf else 0
    source.dispositions[record.disposition] += count
    for reason in record.reasons[:3]:
        source.overrides[reason.type] += count
    if len(source.reporters) < 100:
        source.reporters[reporter] = None
    # What fails outright is more telling than what passes by half, however much of that there is.
    rank = (0 if dkim and spf else 1 if dkim or spf else 2, count)
    if rank > source._worst:
        source._worst = rank
        source.advice = _advice(record, source.domain)


def _advice(record: Record, domain: str) -> str:
    dkim, spf = record.dkim == "pass", record.spf == "pass"
    if dkim and spf:
        return ""
    if spf:
        return "passes by SPF alone, so forwarded mail fails: let this server sign (DKIM)"
    if dkim:
        return "passes by DKIM alone: a forwarder, or a server that your SPF record does not name"
    passing = [one for one in record.signatures if one.result == "pass"]
    if passing:
        name = passing[0].domain
        if _related(name, domain):
            return f"signed by {name}, which strict alignment (adkim=s) does not take for {domain}"
        return f"signed by {name}, not by {domain}: let the service sign with a key of {domain}"
    for one in record.signatures:
        if one.result == "temperror" and _related(one.domain, domain):
            return "they could not ask the DNS for the key: look at your name servers"
    for one in record.signatures:
        if _related(one.domain, domain):
            return (
                f"its signature ({one.selector}._domainkey.{one.domain}) does not hold: is the record right,"
                " does something change the mail under way, or is it forged?"
            )
    for sender in record.senders:
        if sender.result == "pass":
            return (
                f"its sender {sender.domain} passes SPF but is not {domain}, and nothing is signed:"
                " let the service sign (DKIM), or use a sender of yours"
            )
        if sender.result in ("temperror", "permerror") and _related(sender.domain, domain):
            return "your SPF record cannot be read or asked for: mailctl dns check"
    return "neither signed nor in your SPF record: forged, or a server of yours that was forgotten"


def _related(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}") or domain.endswith(f".{name}")


def tls_lines(reports: Sequence[TlsReport]) -> list[TlsLine]:
    """What failed most first, then what was right."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    told: dict[tuple[str, str, str, str], dict[str, None]] = {}
    for report in reports:
        for policy in report.policies:
            lines = [("", "", policy.successes)]
            lines += [(one.result, one.host, count) for one, count in policy.failures]
            untold = policy.failed - sum(count for _, count in policy.failures)
            if untold > 0:
                lines.append(("?", "", untold))
            for result, host, count in lines:
                key = (policy.domain, policy.kind, result, host)
                if count and (key in counts or len(counts) < MAX_SOURCES):
                    counts[key] += count
                    told.setdefault(key, {})[report.organization] = None
    ordered = sorted(counts.items(), key=lambda one: (not one[0][2], -one[1], one[0]))
    return [
        TlsLine(*key, count, tuple(told[key]), _TLS_ADVICE.get(key[2], ""))
        for key, count in ordered
    ]
