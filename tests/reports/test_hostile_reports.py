"""Reports of others that want to do harm: bounded, and told clearly."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import tracemalloc
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_aggregate_report import FAILED, a_report

from twisted_mail.reports import aggregate_read, tls, unpack
from twisted_mail.reports.aggregate import of_message
from twisted_mail.reports.aggregate_xml import write
from twisted_mail.reports.reading import in_file, in_message, understand
from twisted_mail.reports.unpack import ReportError

ROW = of_message("192.0.2.1", None, (), FAILED, "reject", "")
GOOD = write(a_report((ROW, 1)))
HEAD, RECORD = (
    GOOD.split(b"  <record>")[0],
    GOOD[GOOD.index(b"  <record>") : -len(b"</feedback>\n\n")],
)


def refused(document: bytes) -> str:
    with pytest.raises(ReportError) as caught:
        understand(document)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400
    return text


def zipped(*members, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise_anything_else(data):
    for packed in (data, b"\x1f\x8b" + data, b"PK\x03\x04" + data, b"<" + data, b"{" + data):
        try:
            understand(packed)
        except ReportError:
            pass
        in_file("x", packed)


@given(st.data())
def test_a_report_that_is_cut_or_changed_does_neither(data):
    whole = data.draw(st.sampled_from((GOOD, gzip.compress(GOOD), zipped(("a.xml", GOOD)))))
    changed = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if changed:
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        understand(bytes(changed))
    except ReportError:
        pass


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda data: zipped(("r.xml", data))])
def test_packed_or_not_it_is_the_same(pack):
    assert understand(pack(GOOD)) == aggregate_read.read(GOOD)


def test_bombs_are_not_unpacked(monkeypatch):
    monkeypatch.setattr(unpack, "MAX_DOCUMENT", 1 << 20)
    bomb = b"<feedback>" + b" " * (40 << 20)
    for packed in (gzip.compress(bomb), zipped(("bomb.xml", bomb))):
        tracemalloc.start()
        try:
            assert "unpacks to more than 1 MiB" in refused(packed)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


def test_a_zip_that_lies_about_its_size():
    packed = bytearray(zipped(("a.xml", GOOD)))
    at = packed.index(b"PK\x01\x02") + 24
    packed[at : at + 4] = (5).to_bytes(4, "little")
    with pytest.raises(ReportError):
        understand(bytes(packed))


def test_zips_of_other_kinds():
    assert "in a way that reports are not" in refused(
        zipped(("a.xml", GOOD), method=zipfile.ZIP_BZIP2)
    )
    assert "its zip is empty" in refused(zipped(("folder/", b"")))
    assert "more than 1000" in refused(zipped(*((f"{n}.txt", b"") for n in range(1001))))
    assert "neither" in refused(bz2.compress(GOOD))


@pytest.mark.parametrize(
    "prolog",
    [
        b'<!DOCTYPE feedback [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        b'<!DOCTYPE feedback SYSTEM "http://127.0.0.1:9/x.dtd">',
        b'<!DOCTYPE feedback [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        b'<!DOCTYPE feedback [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
        b"<!DOCTYPE feedback>",
    ],
)
def test_document_types_are_refused_before_anything_is_expanded(prolog):
    document = GOOD.replace(b"<feedback", prolog + b"<feedback", 1)
    assert "document type" in refused(document)


def test_deep_and_long_ones_end():
    assert "deep" in refused(b"<feedback>" + b"<a>" * 1000)
    long = GOOD.replace(b"<org_name>Org", b"<org_name>" + b"o" * 1_000_000)
    assert len(understand(long).organization) <= 1000


def test_elements_are_counted(monkeypatch):
    monkeypatch.setattr(aggregate_read, "MAX_ELEMENTS", 1000)
    assert "more than 1000 elements" in refused(HEAD + b"<x/>" * 1001 + b"</feedback>")


def test_a_million_records_are_counted_and_so_many_read():
    records = 200_000
    document = HEAD + b"<record><row><count>1</count></row></record>" * records + b"</feedback>"
    report = aggregate_read.read(document)
    assert len(report.records) == aggregate_read.MAX_RECORDS
    assert report.left_out == records - aggregate_read.MAX_RECORDS


def test_many_results_in_one_record_are_bounded():
    result = b"<dkim><domain>x</domain><result>fail</result></dkim>"
    document = GOOD.replace(b"<auth_results>", b"<auth_results>" + result * 5000)
    ((record, _),) = understand(document).records
    assert len(record.signatures) == aggregate_read.MAX_RESULTS


def test_numbers_that_are_none():
    for text in (b"-1", b"1e99", b"9" * 1000, b"", b"x", "١".encode()):
        ((_, count),) = understand(GOOD.replace(b"<count>1<", b"<count>" + text + b"<")).records
        assert count == 0
    ((_, count),) = understand(GOOD.replace(b"<count>1<", b"<count>7.0<")).records
    assert count == 7


def test_encodings():
    text = GOOD.decode().replace("Org", "Örg")
    for name in ("utf-8", "utf-16", "iso-8859-1", "windows-1252"):
        document = text.replace("UTF-8", name).encode(name)
        assert understand(document).organization == "Örg"
    assert "no XML" in refused(text.encode("latin-1"))
    assert "no XML" in refused(GOOD.replace(b"UTF-8", b"rot13"))
    assert "no XML" in refused(GOOD.replace(b"UTF-8", b"x-no-such"))
    assert "neither" in refused(text.replace("UTF-8", "utf-7").encode("utf-7")[1:])


def test_what_is_something_else():
    assert "begins with <html>" in refused(b"<html><body/></html>")
    assert "does not say" in refused(b"<feedback></feedback>")
    assert "empty" in refused(b"")
    assert "empty" in refused(b" \n")
    assert "neither" in refused(gzip.compress(b""))
    assert "ends too soon" in refused(gzip.compress(GOOD)[:-9])
    assert "larger than" in refused(b"<" * (unpack.MAX_PACKED + 1))


def test_names_in_a_report_cannot_disturb_a_terminal():
    document = GOOD.replace(b"<org_name>Org", "<org_name>a\u202eb&#10;c\u009b31m".encode())
    assert understand(document).organization.isprintable()


# JSON


def test_json_that_is_hostile():
    assert "deep" in refused(b'{"policies": ' + b"[" * 200_000)
    assert "no policies" in refused(b"{}")
    assert "no JSON" in refused(b"{")
    assert "no JSON" in refused('{"policies": []}'.encode("utf-16")[:-1].replace(b"\xff\xfe", b"{"))
    report = understand(
        b'{"policies": [1, {"policy": 3, "summary": [], "failure-details": [1, {}]},'
        b' {"summary": {"total-successful-session-count": ' + b"9" * 100_000 + b"}},"
        b' {"summary": {"total-failure-session-count": NaN, "total-successful-session-count": true}}],'
        b' "date-range": {"start-datetime": "yesterday", "end-datetime": "9999-12-31T23:59:59-12:00"}}'
    )
    assert [one.successes for one in report.policies] == [0, 0, 0]
    # In UTC it is in a year that no calendar has.
    assert (report.begin, report.end) == (0, 0)
    assert understand(tls.write(report)) == report


def test_json_with_very_many_failures_is_bounded():
    one = {"failure-details": [{"result-type": "x", "failed-session-count": 1}] * 20_000}
    report = understand(json.dumps({"policies": [one, one]}).encode())
    assert sum(len(policy.failures) for policy in report.policies) == tls.MAX_FAILURES


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_no_json_makes_it_raise(value):
    names = ("organization-name", "contact-info", "report-id", "date-range", "policies")
    for name in names:
        document = {"policies": [{"policy": value, "summary": value, "failure-details": value}]}
        try:
            understand(json.dumps({**document, name: value}).encode())
        except ReportError:
            pass


# Mails


def mail(*parts, subject=b"Report Domain: a Submitter: b"):
    head = b"Subject: " + subject + b'\nContent-Type: multipart/mixed; boundary="x"\n\n'
    return head + b"".join(b"--x\n" + part for part in parts) + b"--x--\n"


def attached(data, name=b"a!b!1!2.xml.gz", kind=b"application/gzip", encoding=b"8bit"):
    return (
        b"Content-Type: " + kind + b"\nContent-Transfer-Encoding: " + encoding + b"\n"
        b"Content-Disposition: attachment; filename=" + name + b"\n\n" + data + b"\n"
    )


def test_what_is_no_report_is_passed_over_unless_it_says_it_is_one():
    picture = attached(b"\x89PNG", b"photo.zip", b"application/zip")
    assert list(in_message(mail(picture, subject=b"holiday"))) == []
    (found,) = in_message(mail(picture))
    assert found.report is None and "neither" in found.problem
    (found,) = in_message(mail(attached(b"PK\x03\x04"), subject=b"holiday"))
    assert "zip" in found.problem


def test_a_plain_attachment_is_read():
    (found,) = in_message(mail(attached(GOOD, b"r.xml", b"text/xml")))
    assert found.report is not None


def test_a_mail_with_very_many_attachments_is_read_in_part():
    found = list(in_message(mail(*[attached(GOOD, b"r.xml", b"text/xml")] * 200)))
    assert len(found) == unpack.MAX_ATTACHMENTS


@given(st.binary(max_size=300))
def test_no_mail_makes_it_raise(data):
    list(in_message(data))
    list(in_message(mail(attached(data))))
