"""The records that a site needs for a domain: `wanted`, from `Facts`. Pure.

What the site cannot do is not in it: no TLSA for a certificate that nobody keeps, no MTA-STS that is not hosted.
"""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple
from urllib.parse import quote

from ..storage.dkim_keys import PREPARED, RETIRED
from .facts import Facts

__all__ = ["TTL", "Record", "Topic", "dmarc_text", "srv_name", "tlsrpt_text", "wanted"]

TTL: Final = 3600
"""Seconds: an hour, so that a mistake is over within one."""

_PREFERENCE: Final = 10


class Record(NamedTuple):
    """`name` without the last dot; `value` as in a zone file, of TXT the whole text. `ours`: it stands in a zone of
    the site's owner; a PTR record stands in that of who gave the address, consent to reports in that of who gets them.
    """

    name: str
    kind: str
    value: str
    ours: bool = True


class Topic(NamedTuple):
    """Records that belong together. `needed`: mail suffers without them. `words`: what they are for, what to do.

    `hints`: lines such as a zone has, which are not to be pasted as they are.
    """

    title: str
    words: str
    records: tuple[Record, ...] = ()
    needed: bool = True
    hints: tuple[str, ...] = ()


def wanted(facts: Facts) -> list[Topic]:
    """All of them, the most important first."""
    return [
        _mx(facts),
        _addresses(facts),
        _pointers(facts),
        _spf(facts),
        _dkim(facts),
        _dmarc(facts),
        _mta_sts(facts),
        _tlsrpt(facts),
        _tlsa(facts),
        _srv(facts),
        _autoconfig(facts),
        _caa(facts),
    ]


def srv_name(service: str, domain: str) -> str:
    """RFC 6186 section 3."""
    return f"{service}._tcp.{domain}"


def dmarc_text(facts: Facts) -> str:
    """RFC 9989 section 4.7. One that asks for reports, and for nothing else yet."""
    return f"v=DMARC1; p=none; rua=mailto:{_uri(facts.reports)}"


def tlsrpt_text(facts: Facts) -> str:
    """RFC 8460 section 3."""
    return f"v=TLSRPTv1; rua=mailto:{_uri(facts.reports)}"


def _mx(facts: Facts) -> Topic:
    record = Record(facts.domain, "MX", f"{_PREFERENCE} {facts.host}.")
    return Topic("Mail for the domain comes here", "", (record,))


def _addresses(facts: Facts) -> Topic:
    names = dict.fromkeys((facts.host, facts.helo))
    records = tuple(
        Record(name, _kind(address), address) for name in names for address in facts.known(name)
    )
    if records:
        return Topic("Where the server is", "", records)
    return Topic(
        "Where the server is",
        "The address of this machine on the internet is not known here: put it in, or say --address.",
        hints=tuple(
            f"{name}. {TTL} IN {kind}"
            for name in names
            for kind in ("A      192.0.2.…", "AAAA   2001:db8:…")
        ),
    )


def _pointers(facts: Facts) -> Topic:
    words = (
        "The name of the address (PTR). It is set where the address comes from: in the control panel of the hosting "
        "provider, or by asking the network's owner. Without it large providers refuse mail."
    )
    addresses = facts.sources or facts.addresses
    if facts.relay:
        return Topic(
            "The way back", f"Mail leaves through {facts.relay}: that is its owner's.", needed=False
        )
    records = tuple(
        Record(ipaddress.ip_address(one).reverse_pointer, "PTR", f"{facts.helo}.", ours=False)
        for one in addresses
        if ipaddress.ip_address(one).version in facts.families
    )
    hints = () if records else (f"….in-addr.arpa. {TTL} IN PTR {facts.helo}.",)
    return Topic("The way back", words, records, hints=hints)


def _spf(facts: Facts) -> Topic:
    terms = ["v=spf1", "mx"]
    if facts.helo != facts.host:
        terms.append(f"a:{facts.helo}")
    # RFC 7489 section 10.1: with -all some refuse before they have looked at DKIM, which forwarded mail still has
    records = [Record(facts.domain, "TXT", " ".join([*terms, "~all"]))]
    if facts.helo != facts.domain:
        # RFC 7208 section 2.3: a bounce has no other sender than the name in EHLO
        records.append(Record(facts.helo, "TXT", "v=spf1 a -all"))
    words = (
        "If others send for the domain, too, a newsletter service say, put what they tell "
        '("include:…") before "~all"; there may be only one such record.'
    )
    if facts.relay:
        words += f" Mail leaves through {facts.relay}: its owner says what has to stand here."
    return Topic("Who may send for the domain (SPF)", words, tuple(records))


def _dkim(facts: Facts) -> Topic:
    title = "Keys of signatures (DKIM)"
    if not facts.keys:
        return Topic(title, f"There are none yet: mailctl dkim add {facts.domain}")
    words = []
    prepared = [row.selector for row in facts.keys if row.state == PREPARED]
    retired = [row.selector for row in facts.keys if row.state == RETIRED]
    if prepared:
        words.append(
            f"{_listed(prepared)}: prepared. When its record has been there for an hour: "
            f"mailctl dkim rotate {facts.domain}."
        )
    if retired:
        words.append(
            f"{_listed(retired)}: retired; mail that is under way is still signed with it."
        )
    records = tuple(Record(row.name, "TXT", row.record) for row in facts.keys)
    return Topic(title, " ".join(words), records)


def _dmarc(facts: Facts) -> Topic:
    words = (
        "What others do with mail that only says it is yours. Begin with p=none, which asks for reports alone. "
        "When for some weeks they show that all that is yours passes, p=quarantine, then p=reject."
    )
    records = [Record(f"_dmarc.{facts.domain}", "TXT", dmarc_text(facts))]
    at = facts.reports.rpartition("@")[2]
    if at != facts.domain:
        # RFC 7489 section 7.1: else nobody sends reports there
        name = f"{facts.domain}._report._dmarc.{at}"
        ours = at.endswith(f".{facts.domain}")
        records.append(Record(name, "TXT", "v=DMARC1", ours))
    return Topic("Forged mail (DMARC)", words, tuple(records))


def _mta_sts(facts: Facts) -> Topic:
    title = "Encryption of mail to you (MTA-STS)"
    if not facts.hosts_policy:
        words = f'Not hosted here: [mta_sts] domains = ["{facts.domain}"] in the configuration makes it so.'
        return Topic(title, words, needed=False)
    name = f"mta-sts.{facts.domain}"
    records = (
        Record(f"_mta-sts.{facts.domain}", "TXT", f"v=STSv1; id={facts.sts.id_for(facts.domain)}"),
        Record(name, "CNAME", f"{facts.host}."),
    )
    words = (
        f"Mode {facts.sts.mode}. The id is that of the policy: when [mta_sts] changes, this record has to, afterwards. "
        f"The certificate has to be for {name}, too."
    )
    return Topic(title, words, records)


def _tlsrpt(facts: Facts) -> Topic:
    record = Record(f"_smtp._tls.{facts.domain}", "TXT", tlsrpt_text(facts))
    words = "From others, about mail that could not come to you encrypted."
    return Topic("Reports about encryption (TLSRPT)", words, (record,), needed=False)


def _tlsa(facts: Facts) -> Topic:
    title = "The server's key (TLSA, for DANE)"
    if facts.development:
        return Topic(title, "None for a development certificate.", needed=False)
    if facts.passing:
        return Topic(title, f"None: {facts.passing}.", needed=False)
    words = (
        f"Only if the zone of {facts.host} is signed (DNSSEC); leave it out otherwise. Before the server gets another "
        "key, that one's record has to be there, too: a record that is wrong keeps mail away."
    )
    if not facts.digests:
        return Topic(
            title, "There is no certificate yet, or none that can be read here.", needed=False
        )
    # RFC 7672 section 3.1.1: DANE-EE(3) SPKI(1) SHA2-256(1)
    records = tuple(
        Record(f"_25._tcp.{facts.host}", "TLSA", f"3 1 1 {digest.hex()}")
        for digest in facts.digests
    )
    return Topic(title, words, records, needed=False)


def _srv(facts: Facts) -> Topic:
    records = []
    for service, port in facts.services:
        value = _srv_value(facts, service, port)
        records.append(Record(srv_name(service, facts.domain), "SRV", value))
    words = "For mail programs that set themselves up (RFC 6186, RFC 8314)."
    hints = tuple(
        f"{srv_name(service, facts.domain)}. {TTL} IN SRV {_srv_value(facts, service, port)}"
        for service, port in facts.inner
    )
    if hints:
        words += (
            " What listens on loopback only is not offered. If a proxy passes it on, put its record into the place of "
            "that one, with the port that others see; they stand at the end."
        )
    return Topic("For users' mail programs (SRV)", words, tuple(records), False, hints)


def _autoconfig(facts: Facts) -> Topic:
    title = "For users' mail programs (autoconfig)"
    if not facts.autoconfig:
        words = "Not served here: listen.http or listen.https in the configuration makes it so."
        return Topic(title, words, needed=False)
    record = Record(f"autoconfig.{facts.domain}", "CNAME", f"{facts.host}.")
    words = (
        "For Thunderbird and others that ask a web page for server and ports. Over HTTPS the certificate has to be for "
        "that name, too ([acme] names); without, they ask over HTTP."
    )
    return Topic(title, words, (record,), needed=False)


def _srv_value(facts: Facts, service: str, port: int) -> str:
    """RFC 6186 section 3.4: IMAP before POP3; "." is a service that is not there."""
    priority = 10 if service.startswith("_pop3") else 0
    return f"{priority} 1 {port} {facts.host}." if port else "0 0 0 ."


def _caa(facts: Facts) -> Topic:
    if not facts.authority:
        return Topic(
            "Who may issue certificates (CAA)", "Optional: one that names your CA.", needed=False
        )
    hint = f'{facts.host}. {TTL} IN CAA 0 issue "{facts.authority}"'
    words = "Optional: no other CA issues a certificate for the server then. One above it counts for it, too."
    return Topic("Who may issue certificates (CAA)", words, needed=False, hints=(hint,))


def _kind(address: str) -> str:
    return "AAAA" if ":" in address else "A"


def _listed(names: list[str]) -> str:
    return " and ".join(names)


def _uri(address: str) -> str:
    """An address in a mailto: URI (RFC 6068 section 2); ``,``, ``!`` and ``;`` would end it in a record."""
    return quote(address, safe="@+'*$")
