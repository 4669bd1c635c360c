"""Checks of how mail and users come in: MTA-STS, TLSRPT, TLSA, SRV."""

from __future__ import annotations

from ..remote.dane import matches, usable
from ..remote.mta_sts import FetchError, Mode, StsPolicy, parse_policy, parse_record
from ..reports.tls import rua_of
from .finding import MISSING, OPTIONAL, RIGHT, UNKNOWN, WRONG, Asking, Finding, shown
from .hosts import addresses_of
from .wanted import srv_name, tlsrpt_text

__all__ = ["check_autoconfig", "check_mta_sts", "check_srv", "check_tlsa", "check_tlsrpt"]


async def check_mta_sts(asking: Asking) -> list[Finding]:
    """RFC 8461: the record and the policy agree with each other, with us and with the MX records."""
    facts = asking.facts
    name = f"_mta-sts.{facts.domain}"
    record = f"MTA-STS {name}"
    records = (await asking.resolver.txt(name)).records
    ours = facts.sts.id_for(facts.domain)
    want = "" if ours is None else f"v=STSv1; id={ours}"
    like = [one for one in records if one.startswith(b"v=STSv1")]
    found = parse_record(records)
    if not like:
        if ours is None:
            detail = f'none; the configuration can host one: [mta_sts] domains = ["{facts.domain}"]'
            meaning = "who disturbs the network can read mail to you"
            return [Finding(OPTIONAL, record, detail, meaning)]
        meaning = "nobody looks for the policy that this server has"
        state = Finding(MISSING, record, f"wanted: {want}", meaning)
        double = await asking.misplaced(name)
        if double:
            detail = f"stands at {double}; the name was completed with the domain once more"
            state = Finding(WRONG, record, detail, meaning)
        return [state, *await _policy(asking)]
    if found is None:
        what = f"there are {len(like)} records" if len(like) > 1 else f"is {shown(like[0])}"
        detail = f"{what}; wanted: {want or 'one, v=STSv1; id=…'}"
        return [Finding(WRONG, record, detail, "it counts as none"), *await _policy(asking)]
    if ours is not None and found != ours:
        detail = f"is {shown(like[0])}; wanted: {want}"
        meaning = "who knows the policy before the last change keeps to it"
        return [Finding(WRONG, record, detail, meaning), *await _policy(asking)]
    return [Finding(RIGHT, record, shown(like[0])), *await _policy(asking)]


async def _policy(asking: Asking) -> list[Finding]:
    """The policy as others get it. Never raises."""
    record = f"MTA-STS https://mta-sts.{asking.facts.domain}"
    return await asking.guarded(record, _fetched(asking, record))


async def _fetched(asking: Asking, record: str) -> list[Finding]:
    facts = asking.facts
    try:
        policy = parse_policy(await asking.fetch(facts.domain))
    except (FetchError, ValueError) as error:
        meaning = "others go by the policy that they know, or by none; or it cannot be reached from here alone"
        return [Finding(WRONG, record, shown(str(error), 300), meaning)]
    ours = facts.sts.policy_for(facts.domain)
    if ours is not None and policy != parse_policy(ours):
        detail = f"is {_told(policy)}; wanted: {_told(parse_policy(ours))}"
        return [
            Finding(
                WRONG, record, detail, "another server answers, or this one has not been restarted"
            )
        ]
    refused = (
        "mail there is not delivered"
        if policy.mode is Mode.ENFORCE
        else "it would not be delivered"
    )
    strangers = [
        one.host
        for one in (await asking.resolver.mx(facts.domain)).records
        if not policy.names(one.host)
    ]
    if policy.mode is not Mode.NONE and strangers:
        detail = (
            f"is {_told(policy)}; it does not name {shown(', '.join(strangers))} of the MX records"
        )
        return [Finding(WRONG, record, detail, refused)]
    if policy.mode is Mode.ENFORCE and facts.development:
        detail = f"is {_told(policy)}; the server has a development certificate"
        return [Finding(WRONG, record, detail, refused)]
    meaning = ""
    if policy.mode is Mode.TESTING:
        meaning = 'failures are only reported; when there are none: mta_sts.mode = "enforce"'
    return [Finding(RIGHT, record, _told(policy), meaning)]


def _told(policy: StsPolicy) -> str:
    return shown(f"{policy.mode.value}, {', '.join(policy.mx)}, {policy.max_age} seconds", 200)


async def check_tlsrpt(asking: Asking) -> list[Finding]:
    """RFC 8460 section 3."""
    facts = asking.facts
    name = f"_smtp._tls.{facts.domain}"
    record, want = f"TLSRPT {name}", tlsrpt_text(facts)
    answer = await asking.resolver.txt(name)
    found = [one for one in answer.records if one.startswith(b"v=TLSRPTv1")]
    if not found:
        double = await asking.misplaced(name)
        detail = f"stands at {double}" if double else f"wanted: {want}"
        meaning = "nobody tells you when encryption on the way to you fails"
        return [Finding(WRONG if double else OPTIONAL, record, detail, meaning)]
    uris = rua_of(found)
    if len(found) > 1 or not uris:
        detail = f"is {', '.join(map(shown, found[:3]))}; wanted: one, {want}"
        return [Finding(WRONG, record, detail, "nobody reports to you")]
    for uri in uris:
        if uri[:7].lower() == "mailto:" and asking.is_here(uri[7:].partition("?")[0]) is False:
            detail = f"{shown(uri)}: there is no such address here"
            return [Finding(WRONG, record, detail, "reports come back to who sent them")]
    return [Finding(RIGHT, record, shown(found[0]))]


async def check_tlsa(asking: Asking) -> list[Finding]:
    """RFC 7672: the records stand for the key that is served."""
    facts = asking.facts
    name = f"_25._tcp.{facts.host}"
    record = f"TLSA {name}"
    answer = await asking.resolver.tlsa(name)
    want = ", ".join(f"3 1 1 {digest.hex()}" for digest in facts.digests)
    if not answer.records:
        if not want:
            return []
        meaning = "servers that check DANE cannot; without DNSSEC in your zone leave it so"
        return [Finding(OPTIONAL, record, f"wanted: {want}", meaning)]
    found = ", ".join(f"{one[0]} {one[1]} {one[2]} {one.data.hex()}" for one in answer.records[:5])
    insecure = asking.trusted and not answer.secure
    bad = (
        "nobody looks at it without DNSSEC, which this zone has not; but it is wrong"
        if insecure
        else "servers that check DANE do not deliver to you"
    )
    good = usable(answer.records)
    if not good:
        detail = f"is {shown(found, 200)}, which says nothing; wanted: {want or 'none'}"
        return [Finding(WRONG, record, detail, "servers that check DANE insist on TLS alone")]
    if facts.certificate is None:
        return [
            Finding(UNKNOWN, record, f"is {shown(found, 200)}; the certificate cannot be read", bad)
        ]
    # One for an authority (DANE-TA) is for another certificate of the chain, which is not looked at here
    if not any(one.usage == 3 and matches(one, facts.certificate) for one in good):
        if any(one.usage == 2 for one in good):
            return [
                Finding(UNKNOWN, record, f"is {shown(found, 200)}: of an authority, not looked at")
            ]
        detail = f"is {shown(found, 200)}; wanted: {want or 'none'}"
        return [Finding(WRONG, record, detail, bad)]
    held = {one.data for one in good if one[:3] == (3, 1, 1)}
    lost = [digest for digest in facts.digests if held and digest not in held]
    if lost:
        detail = f"is {shown(found, 200)}; wanted as well: 3 1 1 {lost[0].hex()}"
        return [Finding(MISSING, record, detail, "the key of the next certificate would not fit")]
    if facts.passing:
        meaning = f"right today, but {facts.passing}"
        return [Finding(WRONG, record, shown(found, 200), meaning)]
    if insecure:
        meaning = "nobody looks at it: the zone has no DNSSEC"
    elif not asking.trusted:
        meaning = "whether DNSSEC vouches for it is not known here: dns.trust_ad is false"
    else:
        meaning = ""
    return [Finding(RIGHT, record, shown(found, 200), meaning)]


async def check_autoconfig(asking: Asking) -> list[Finding]:
    """Whether the name that mail programs ask leads to our web port."""
    facts = asking.facts
    if not facts.autoconfig:
        return []
    name = f"autoconfig.{facts.domain}"
    record = f"A, AAAA {name}"
    found = await addresses_of(asking, name)
    known = facts.known(facts.host) or tuple(await addresses_of(asking, facts.host))
    if not found:
        detail = f"wanted: CNAME {facts.host}"
        return [Finding(OPTIONAL, record, detail, "programs ask their users for server and port")]
    if set(found) <= set(known):
        return [Finding(RIGHT, record, ", ".join(found))]
    detail = f"is {', '.join(found[:5])}; wanted: {', '.join(known) or facts.host}"
    return [Finding(WRONG, record, detail, "programs ask somebody else for their settings")]


async def check_srv(asking: Asking, service: str, port: int) -> list[Finding]:
    """RFC 6186 section 3, RFC 8314 section 5.1: where mail programs look. `port` 0: the service is not offered."""
    host = asking.facts.host
    name = srv_name(service, asking.facts.domain)
    record = f"SRV {name}"
    records = sorted((await asking.resolver.srv(name)).records)
    want = f"0 1 {port} {host}" if port else "0 0 0 ."
    if not records:
        meaning = (
            "programs ask their users for server and port"
            if port
            else "programs may try it in vain"
        )
        return [Finding(OPTIONAL, record, f"wanted: {want}", meaning)]
    found = ", ".join(
        f"{one.priority} {one.weight} {one.port} {shown(one.host) or '.'}" for one in records[:5]
    )
    ours = [one for one in records if one.host == host]
    if ours and service in dict(asking.facts.inner):
        meaning = "right if something passes it on: it listens on loopback only"
        return [Finding(RIGHT, record, found, meaning)]
    if {one.port for one in ours} == ({port} if port else set()):
        return [Finding(RIGHT, record, found)]
    if port and any(one.host for one in records) and not ours:
        return [Finding(WRONG, record, f"is {found}; wanted: {want}", "programs go elsewhere")]
    meaning = (
        "programs go where nobody answers" if ours else "programs are told that it is not there"
    )
    return [Finding(WRONG, record, f"is {found}; wanted: {want}", meaning)]
