"""A DMARC aggregate report as XML, valid by the schema of RFC 9990 appendix A.

The elements stand in the order of the schema, those that may be left out are when there is nothing to say. What XML
cannot carry (control characters, lone surrogates) becomes ``?``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from .aggregate import DkimResult, Published, Record, Report, SpfResult

__all__ = ["NAMESPACE", "write"]

NAMESPACE: Final = "urn:ietf:params:xml:ns:dmarc-2.0"
_POLICIES: Final = frozenset(("none", "quarantine", "reject"))

# XML 1.0 section 2.2, and what a reader would change: line ends and tabs
_unfit = re.compile("[^ -~\u00a0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0001fffd]")
_special = re.compile(r"[&<>\"]").search


def write(report: Report) -> bytes:
    """The document, UTF-8."""
    return "\n".join(_lines(report)).encode("utf-8")


def _lines(report: Report) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f'<feedback xmlns="{NAMESPACE}">'
    yield f"  {_leaf('version', report.version or '1.0')}"
    yield "  <report_metadata>"
    yield f"    {_leaf('org_name', report.organization)}"
    yield f"    {_leaf('email', report.email)}"
    if report.contact:
        yield f"    {_leaf('extra_contact_info', report.contact)}"
    yield f"    {_leaf('report_id', report.id)}"
    yield f"    <date_range><begin>{report.begin:d}</begin><end>{report.end:d}</end></date_range>"
    for error in report.errors[:1]:
        yield f"    {_leaf('error', error)}"
    if report.generator:
        yield f"    {_leaf('generator', report.generator)}"
    yield "  </report_metadata>"
    yield from _policy(report.published)
    for record, count in report.records:
        yield from _record(record, count)
    yield "</feedback>\n"


def _policy(policy: Published) -> Iterator[str]:
    yield "  <policy_published>"
    yield f"    {_leaf('domain', policy.domain)}"
    said = (
        ("discovery_method", policy.discovery),
        ("p", policy.p if policy.p in _POLICIES else "none"),
        ("sp", policy.sp),
        ("np", policy.np),
        ("fo", policy.fo),
        ("adkim", policy.adkim),
        ("aspf", policy.aspf),
        ("testing", policy.testing),
    )
    for name, value in said:
        if value:
            yield f"    {_leaf(name, value)}"
    yield "  </policy_published>"


def _record(record: Record, count: int) -> Iterator[str]:
    yield "  <record>"
    yield "    <row>"
    yield f"      {_leaf('source_ip', record.source)}"
    yield f"      <count>{count:d}</count>"
    yield "      <policy_evaluated>"
    yield f"        {_leaf('disposition', record.disposition)}"
    yield f"        {_leaf('dkim', record.dkim)}"
    yield f"        {_leaf('spf', record.spf)}"
    for reason in record.reasons:
        comment = _leaf("comment", reason.comment) if reason.comment else ""
        yield f"        <reason>{_leaf('type', reason.type)}{comment}</reason>"
    yield "      </policy_evaluated>"
    yield "    </row>"
    yield "    <identifiers>"
    yield f"      {_leaf('header_from', record.header_from)}"
    # RFC 9990 section 3.1.1.9: it may be empty
    yield f"      {_leaf('envelope_from', record.envelope_from)}"
    if record.envelope_to:
        yield f"      {_leaf('envelope_to', record.envelope_to)}"
    yield "    </identifiers>"
    yield "    <auth_results>"
    for signature in record.signatures:
        yield f"      {_dkim(signature)}"
    for sender in record.senders:
        yield f"      {_spf(sender)}"
    yield "    </auth_results>"
    yield "  </record>"


def _dkim(one: DkimResult) -> str:
    said = _leaf("domain", one.domain) + _leaf("selector", one.selector)
    said += _leaf("result", one.result) + _human(one.human)
    return f"<dkim>{said}</dkim>"


def _spf(one: SpfResult) -> str:
    scope = _leaf("scope", one.scope) if one.scope else ""
    return f"<spf>{_leaf('domain', one.domain)}{scope}{_leaf('result', one.result)}{_human(one.human)}</spf>"


def _human(text: str) -> str:
    return _leaf("human_result", text) if text else ""


def _leaf(name: str, text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        text = _unfit.sub("?", text)
    if _special(text) is not None:
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<{name}>{text}</{name}>"
