"""A DMARC aggregate report as values (RFC 9990 section 3.1.1; RFC 7489 appendix C), and what one message adds to it.

Texts are as they stand in the report; everything a peer chose is one line of printable ASCII of bounded length. A
`Record` is what is counted: equal messages are one record.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from ..policy import dmarc_record
from ..policy.verdicts import Dkim, Dmarc, Spf
from ..policy.wording import one_line

__all__ = [
    "DkimResult",
    "Published",
    "Reason",
    "Record",
    "Report",
    "SpfResult",
    "from_text",
    "of_message",
    "published",
    "to_text",
]

MAX_SIGNATURES: Final = 10
"""Of a message, in a record (RFC 9990 section 3.1.3 allows 100)."""
MAX_TEXT: Final = 255

_DKIM: Final = frozenset(("none", "pass", "fail", "policy", "neutral", "temperror", "permerror"))
_SPF: Final = frozenset(("none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"))
# RFC 7489 has sampled_out for both; RFC 9990 has dropped pct=, and given t= a word of its own
_REASONS: Final = {"sampled_out": ("other", "sampled out by pct=")}


class Published(NamedTuple):
    """The policy that was found: `domain` is where the record stands. "" for what was not said.

    `discovery`: ``psl`` or ``treewalk``; `pct` is RFC 7489's alone.
    """

    domain: str
    p: str = "none"
    sp: str = ""
    np: str = ""
    adkim: str = ""
    aspf: str = ""
    fo: str = ""
    testing: str = ""
    discovery: str = ""
    pct: str = ""


class Reason(NamedTuple):
    """Why something else was done than what the policy asks for."""

    type: str
    comment: str = ""


class DkimResult(NamedTuple):
    """Of one signature."""

    domain: str
    selector: str
    result: str
    human: str = ""


class SpfResult(NamedTuple):
    """`scope`: ``mfrom``; of older reports also ``helo``."""

    domain: str
    scope: str
    result: str
    human: str = ""


class Record(NamedTuple):
    """What equal messages have in common. `dkim` and `spf`: pass or fail, with alignment, as DMARC counts it."""

    source: str
    disposition: str
    dkim: str
    spf: str
    header_from: str
    envelope_from: str = ""
    envelope_to: str = ""
    reasons: tuple[Reason, ...] = ()
    signatures: tuple[DkimResult, ...] = ()
    senders: tuple[SpfResult, ...] = ()


class Report(NamedTuple):
    """`begin`, `end`: seconds since 1970. `left_out`: records that a reader did not take, being too many."""

    organization: str
    email: str
    id: str
    begin: int
    end: int
    published: Published
    records: tuple[tuple[Record, int], ...]
    contact: str = ""
    errors: tuple[str, ...] = ()
    generator: str = ""
    version: str = ""
    left_out: int = 0


def published(domain: str, text: str, discovery: str) -> Published:
    """Of a record as `Dmarc.record` has it."""
    record = dmarc_record.parse(text.encode("ascii", "replace"))
    return Published(
        domain,
        record.p or "none",
        record.sp,
        record.np,
        record.adkim,
        record.aspf,
        ":".join(record.fo),
        "y" if record.t else "n",
        discovery,
    )


def of_message(
    ip: str,
    mail: Spf | None,
    signatures: Sequence[Dkim],
    dmarc: Dmarc,
    disposition: str,
    override: str,
) -> Record:
    """What one message is counted as. `dmarc.result` is pass or fail."""
    passed = dmarc.result == "pass"
    if passed and dmarc.policy != "none":
        # RFC 9990 appendix A: "No action, passing DMARC w/enforcing policy"
        disposition = "pass"
    reasons: tuple[Reason, ...] = ()
    if override and not passed:
        kind, comment = _REASONS.get(override, (override, ""))
        if override == "sampled_out" and dmarc_record.parse(dmarc.record.encode()).t:
            kind, comment = "policy_test_mode", ""
        reasons = (Reason(kind, comment),)
    senders: tuple[SpfResult, ...] = ()
    envelope_from = ""
    if mail is not None:
        envelope_from = _text(mail.domain)
        if mail.domain:
            result = mail.result if mail.result in _SPF else "permerror"
            senders = (SpfResult(envelope_from, "mfrom", result),)
    return Record(
        _address(ip),
        disposition,
        "pass" if any(one.startswith("dkim ") for one in dmarc.aligned) else "fail",
        "pass" if "spf" in dmarc.aligned else "fail",
        _text(dmarc.domain),
        envelope_from,
        "",
        reasons,
        _signatures(signatures, dmarc),
        senders,
    )


def _signatures(signatures: Sequence[Dkim], dmarc: Dmarc) -> tuple[DkimResult, ...]:
    """RFC 9990 section 3.1.3: those that pass and are aligned before others."""
    aligned = {one[5:] for one in dmarc.aligned if one.startswith("dkim ")}

    def rank(one: Dkim) -> tuple[bool, bool, bool]:
        passed = one.result == "pass"
        return not passed, one.domain != dmarc.domain, one.domain not in aligned

    found = {
        DkimResult(
            _text(one.domain),
            " ".join(one_line(one.selector, MAX_TEXT).split()),
            one.result if one.result in _DKIM else "permerror",
        ): None
        for one in sorted(signatures, key=rank)
        if one.domain
    }
    return tuple(found)[:MAX_SIGNATURES]


def to_text(record: Record) -> str:
    """For the store: equal records are equal texts."""
    return json.dumps(record, separators=(",", ":"))


def from_text(text: str) -> Record:
    """What `to_text` made."""
    *texts, reasons, signatures, senders = json.loads(text)
    return Record(*texts)._replace(
        reasons=tuple(Reason(*one) for one in reasons),
        signatures=tuple(DkimResult(*one) for one in signatures),
        senders=tuple(SpfResult(*one) for one in senders),
    )


def _address(ip: str) -> str:
    """As the schema wants it: IPv4 mapped into IPv6 is IPv4, and no zone."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return "0.0.0.0"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _text(value: str) -> str:
    return " ".join(one_line(value, MAX_TEXT).lower().split())
