"""DMARC aggregate reports: any verdict makes a valid one, which the reader reads back as it was."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_values import addresses, check_schema, dkims, dmarcs, domains, records, spfs

from twisted_mail.policy.verdicts import Dkim, Dmarc, Spf
from twisted_mail.reports.aggregate import (
    DkimResult,
    Reason,
    Report,
    SpfResult,
    from_text,
    of_message,
    published,
    to_text,
)
from twisted_mail.reports.aggregate_read import read
from twisted_mail.reports.aggregate_xml import write
from twisted_mail.reports.mail import report_id

FAILED = Dmarc("fail", "a.example", "a.example", "a.example", "reject", record="v=DMARC1; p=reject")
PASSED = FAILED._replace(result="pass", aligned=("spf", "dkim a.example"))


def a_report(*rows, record="v=DMARC1; p=reject", **more):
    return Report(
        *("Org", "noreply@mx.example", report_id("dmarc", "mx.example", "a.example", 0)),
        *(0, 86_399, published("a.example", record, "treewalk"), tuple(rows)),
        generator="us 1",
        version="1.0",
    )._replace(**more)


messages = st.builds(
    of_message,
    addresses,
    st.none() | spfs,
    st.lists(dkims, max_size=14),
    dmarcs(),
    st.sampled_from(("none", "quarantine", "reject")),
    st.sampled_from(("", "trusted_forwarder", "mailing_list", "local_policy", "sampled_out")),
)


@given(
    st.lists(st.tuples(messages, st.integers(1, 10**9)), min_size=1, max_size=5),
    records,
    domains,
    st.sampled_from(("psl", "treewalk")),
)
def test_any_verdict_is_valid_and_read_back_the_same(rows, record, domain, discovery):
    rows = [(from_text(to_text(one)), count) for one, count in rows]
    report = a_report(*rows, published=published(domain, record, discovery))
    document = write(report)
    check_schema(document)
    assert read(document) == report


@given(messages)
def test_a_record_is_a_text_and_back(record):
    assert from_text(to_text(record)) == record
    ipaddress.ip_address(record.source)


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_whatever_is_configured_the_document_can_be_read(organization, email, comment):
    record = of_message("192.0.2.1", None, (), FAILED, "none", "local_policy")
    record = record._replace(reasons=(Reason("other", comment),))
    document = write(a_report((record, 1), organization=organization, email=email))
    assert read(document).records[0][1] == 1


def test_what_one_message_says():
    record = of_message(
        "::ffff:192.0.2.7",
        Spf("pass", "mailfrom", "Bounce.A.example"),
        (
            Dkim("fail", "other.example", "s3"),
            Dkim("pass", "a.example", "s2"),
            Dkim("pass", "list.example", "s1"),
            Dkim("pass", "a.example", "s2"),
        ),
        PASSED,
        "none",
        "",
    )
    assert (record.source, record.dkim, record.spf) == ("192.0.2.7", "pass", "pass")
    # RFC 9990: passing an enforcing policy has a word of its own
    assert record.disposition == "pass"
    assert record.envelope_from == "bounce.a.example"
    # RFC 9990 section 3.1.3: aligned ones first; the same one is told once
    assert record.signatures == (
        DkimResult("a.example", "s2", "pass"),
        DkimResult("list.example", "s1", "pass"),
        DkimResult("other.example", "s3", "fail"),
    )
    assert record.senders == (SpfResult("bounce.a.example", "mfrom", "pass"),)


def test_a_policy_that_asks_for_nothing_has_nothing_to_pass():
    record = of_message("192.0.2.1", None, (), PASSED._replace(policy="none"), "none", "")
    assert record.disposition == "none"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("v=DMARC1; p=reject; t=y", Reason("policy_test_mode")),
        ("v=DMARC1; p=reject; pct=10", Reason("other", "sampled out by pct=")),
    ],
)
def test_who_was_spared_and_why(text, reason):
    dmarc = FAILED._replace(record=text, sampled=True)
    record = of_message("192.0.2.1", None, (), dmarc, "quarantine", "sampled_out")
    assert record.reasons == (reason,)


def test_a_report_as_rfc_7489_has_it():
    document = b"""<?xml version="1.0" encoding="UTF-8" ?>
<feedback>
  <report_metadata>
    <org_name>Example &amp; Sons</org_name><email>noreply@example.com</email>
    <extra_contact_info>https://example.com/</extra_contact_info><report_id>123</report_id>
    <date_range><begin>1700000000</begin><end>1700086399</end></date_range>
  </report_metadata>
  <policy_published><domain>Example.ORG</domain><adkim>r</adkim><aspf>r</aspf><p>none</p><sp>none</sp>
    <pct>100</pct></policy_published>
  <record>
    <row><source_ip>2001:db8:0:0::1</source_ip><count>2</count>
      <policy_evaluated><disposition>none</disposition><dkim>fail</dkim><spf>pass</spf>
        <reason><type>forwarded</type><comment/></reason></policy_evaluated></row>
    <identifiers><header_from>example.org</header_from></identifiers>
    <auth_results>
      <dkim><domain>example.org</domain><result>fail</result><human_result/></dkim>
      <spf><domain>example.org</domain><result>hardfail</result></spf>
      <spf><domain>mx.example.org</domain><scope>helo</scope><result>error</result></spf>
    </auth_results>
  </record>
</feedback>"""
    report = read(document)
    assert report.organization == "Example & Sons"
    assert (report.published.domain, report.published.pct) == ("example.org", "100")
    ((record, count),) = report.records
    assert (record.source, count, record.spf) == ("2001:db8::1", 2, "pass")
    assert record.reasons == (Reason("forwarded"),)
    assert record.signatures == (DkimResult("example.org", "", "fail"),)
    assert record.senders == (
        SpfResult("example.org", "", "fail"),
        SpfResult("mx.example.org", "helo", "permerror"),
    )


def test_prefixes_and_unknown_elements_do_not_matter():
    row = of_message("192.0.2.1", None, (), FAILED, "reject", "")
    document = write(a_report((row, 3))).decode()
    other = document.replace('xmlns="', 'xmlns:d="').replace("</", "\0").replace("<", "<d:")
    other = other.replace("\0", "</d:").replace("<d:?xml", "<?xml")
    other = other.replace("</d:record>", "<x:odd xmlns:x='urn:x'><d:row/></x:odd></d:record>")
    assert read(other.encode()) == read(document.encode())
