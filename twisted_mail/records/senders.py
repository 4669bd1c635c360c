"""Checks of what shows that mail is ours: SPF, DKIM, DMARC."""

from __future__ import annotations

from ..policy import dmarc_record, spf_record
from ..policy.dkim_key import Problem, parse_key
from ..policy.dmarc_reporting import destination, permitted
from ..policy.organization import TreeWalk
from ..policy.spf import SpfSettings, check_host
from ..storage.dkim_keys import ACTIVE, PREPARED, KeyRow
from .finding import MISSING, OPTIONAL, RIGHT, UNKNOWN, WRONG, Asking, Finding, shown
from .wanted import dmarc_text

__all__ = ["check_dkim", "check_dmarc", "check_keys", "check_reports", "check_spf"]


async def check_spf(asking: Asking, name: str, addresses: list[str], wanted: str) -> list[Finding]:
    """RFC 7208: what comes of it for mail from each of our addresses. `name`: the domain, or our name in EHLO."""
    facts = asking.facts
    record = f"SPF {name}"
    found = spf_record.select((await asking.resolver.txt(name)).records)
    if not found:
        if name != facts.domain:
            meaning = "bounces have no sender but this name; some count it against them"
            return [Finding(OPTIONAL, record, f"wanted: {wanted}", meaning)]
        return [
            Finding(
                MISSING,
                record,
                f"wanted: {wanted}",
                "large providers refuse mail, or take it for spam",
            )
        ]
    text = shown(found[0])
    if facts.relay and name == facts.domain:
        # Which addresses others see, only that server's owner knows; is it a record at all?
        addresses = addresses[:1] or ["192.0.2.1"]
    if not addresses:
        return [Finding(UNKNOWN, record, text, "no address that mail leaves from is known")]
    settings = SpfSettings(explain=False, seconds=asking.seconds)
    failed: dict[str, list[str]] = {}
    for address in addresses:
        verdict = await check_host(
            asking.resolver,
            asking.clock,
            "mailfrom" if name == facts.domain else "helo",
            ip=address,
            helo=facts.helo,
            local="postmaster",
            domain=name,
            settings=settings,
        )
        if verdict.result == "temperror":
            return [Finding(UNKNOWN, record, verdict.reason)]
        if verdict.result == "permerror":
            detail = f"is {text}: {verdict.reason}; wanted: {wanted}"
            return [Finding(WRONG, record, detail, "it counts as none, or worse")]
        if verdict.result != "pass":
            failed.setdefault(verdict.result, []).append(address)
    if facts.relay and name == facts.domain:
        meaning = f"whether it has what mail through {facts.relay} needs, its owner knows"
        return [Finding(RIGHT, record, text, meaning)]
    if failed:
        results = ", ".join(f"{result} for {', '.join(of)}" for result, of in failed.items())
        detail = f"is {text}: {results}; wanted: {wanted}"
        return [Finding(WRONG, record, detail, "mail from here fails SPF")]
    return [Finding(RIGHT, record, f"{text}: pass for {', '.join(addresses)}")]


async def check_keys(asking: Asking) -> list[Finding]:
    """Whether there is anything to sign with."""
    facts = asking.facts
    record = f"DKIM {facts.domain}"
    if not facts.signs:
        detail = "signing.dkim is false"
        return [Finding(OPTIONAL, record, detail, "mail is not signed here")]
    if not any(row.state == ACTIVE for row in facts.keys):
        command = "rotate" if facts.keys else "add"
        detail = f"no key signs; mailctl dkim {command} {facts.domain}"
        meaning = "mail is not signed: large providers refuse it, or take it for spam"
        return [Finding(MISSING, record, detail, meaning)]
    return []


async def check_dkim(asking: Asking, row: KeyRow) -> list[Finding]:
    """RFC 6376 section 3.6: the record of a key is that of ours."""
    record = f"DKIM {row.name}"
    state = f"{row.algorithm}, {row.state}"
    meaning = "signatures with it cannot be checked: mail counts as not signed"
    if row.state == PREPARED:
        meaning = "nothing is signed with it yet; it has to be there before mailctl dkim rotate"
    records = (await asking.resolver.txt(row.name)).records
    if not records:
        double = await asking.misplaced(row.name)
        if double:
            detail = f"stands at {double}; the name was completed with the domain once more"
            return [Finding(WRONG, record, detail, meaning)]
        detail = f"{state}; wanted: {shown(row.record)}"
        return [Finding(MISSING, record, detail, meaning)]
    if len(records) > 1:
        # RFC 6376 section 3.6.2.2: then results are undefined
        detail = f"there are {len(records)} records; wanted: one, {shown(row.record)}"
        return [Finding(WRONG, record, detail, "receivers take any of them")]
    found, ours = parse_key(records[0]), parse_key(row.record.encode())
    if isinstance(found, Problem):
        detail = f"is {shown(records[0])}: {found.reason}; wanted: {shown(row.record)}"
        return [Finding(WRONG, record, detail, meaning)]
    if isinstance(ours, Problem) or found.kind != ours.kind or found.key != ours.key:
        detail = f"is another key, {shown(records[0])}; wanted: {shown(row.record)}"
        return [Finding(WRONG, record, detail, meaning)]
    meaning = "t=y: receivers may treat signed mail as not signed" if found.testing else ""
    return [Finding(RIGHT, record, state, meaning)]


async def check_dmarc(asking: Asking) -> list[Finding]:
    """RFC 9989 section 4.7, and who gets the reports."""
    facts = asking.facts
    name = f"_dmarc.{facts.domain}"
    record, want = f"DMARC {name}", dmarc_text(facts)
    answer = await asking.resolver.txt(name)
    found = dmarc_record.select(answer.records)
    if len(found) > 1:
        detail = f"there are {len(found)} records; wanted: one, {want}"
        return [Finding(WRONG, record, detail, "of several none counts")]
    if not found:
        return [await _no_dmarc(asking, record, want, answer.records)]
    read = dmarc_record.parse(found[0])
    text = shown(found[0])
    if not read.valid:
        detail = f"is {text}: p= must be none, quarantine or reject; wanted: {want}"
        return [Finding(WRONG, record, detail, "others do with forged mail what they like")]
    meaning = ""
    if read.p == "none":
        meaning = "forged mail is only reported; when reports show that yours passes: p=quarantine, then p=reject"
    if not read.rua:
        meaning = f"nobody reports to you; add rua=mailto:{facts.reports}"
    return [Finding(RIGHT, record, text, meaning), *await check_reports(asking, record, read.rua)]


async def _no_dmarc(asking: Asking, record: str, want: str, others: tuple[bytes, ...]) -> Finding:
    facts = asking.facts
    if others:
        detail = f"is {shown(others[0])}, no DMARC record; wanted: {want}"
        return Finding(WRONG, record, detail, "it counts as none")
    above = await TreeWalk(asking.resolver).policy(facts.domain)
    if above is not None:
        detail = f"that of {above[0]} counts: {shown(above[1].text)}"
        return Finding(RIGHT, record, detail)
    double = await asking.misplaced(f"_dmarc.{facts.domain}")
    if double:
        detail = f"stands at {double}; the name was completed with the domain once more"
        return Finding(WRONG, record, detail, "it counts as none")
    meaning = "large providers want one from everybody who sends much; forged mail cannot be told"
    return Finding(MISSING, record, f"wanted: {want}", meaning)


async def check_reports(asking: Asking, record: str, uris: tuple[str, ...]) -> list[Finding]:
    """Whether reports that a DMARC record asks for arrive."""
    findings = []
    organizations = TreeWalk(asking.resolver)
    for uri in uris:
        if asking.is_here(uri.partition(":")[2].partition("?")[0]) is False:
            detail = f"{shown(uri)}: there is no such address here"
            findings.append(Finding(WRONG, record, detail, "reports come back to who sent them"))
        elif not await permitted(asking.resolver, organizations, asking.facts.domain, uri):
            name = f"{asking.facts.domain}._report._dmarc.{destination(uri)}"
            detail = f'{shown(uri)}: wanted: {name} TXT "v=DMARC1"'
            meaning = "reports are not sent there: its domain does not say that it wants them"
            findings.append(Finding(WRONG, record, detail, meaning))
    return findings
