"""Reports about TLS: the record that asks for them, JSON out and in, and what they come to."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.reports.summary import once, sources, tls_lines
from twisted_mail.reports.tls import TlsFailure, TlsPolicyResult, TlsReport, read, rua_of, write

words = st.from_regex(r"[a-zA-Z0-9:._-]{1,20}", fullmatch=True)
failures = st.builds(TlsFailure, *[words] * 7)
policies = st.builds(
    TlsPolicyResult,
    st.sampled_from(("sts", "tlsa", "no-policy-found")),
    words.map(lambda text: "a" + text.lower().rstrip(".")),
    st.lists(words, max_size=3).map(tuple),
    st.lists(words, max_size=3).map(tuple),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.lists(st.tuples(failures, st.integers(0, 10**9)), max_size=3).map(tuple),
)


@given(st.lists(policies, max_size=3), words, st.integers(0, 4 * 10**9))
def test_what_is_written_is_read_back_the_same(found, name, begin):
    report = TlsReport(name, name, name, begin, begin + 86_399, tuple(found))
    assert read(write(report)) == report


def test_a_report_has_the_names_of_the_rfc():
    failure = TlsFailure("certificate-expired", "mx.example", "192.0.2.1")
    policy = TlsPolicyResult(
        "sts", "a.example", ("version: STSv1",), ("mx.example",), 3, 1, ((failure, 1),)
    )
    value = json.loads(write(TlsReport("Org", "x@org.example", "1@org", 0, 86_399, (policy,))))
    # RFC 8460 section 4.4
    assert value["date-range"] == {
        "start-datetime": "1970-01-01T00:00:00Z",
        "end-datetime": "1970-01-01T23:59:59Z",
    }
    assert value["policies"] == [
        {
            "policy": {
                "policy-type": "sts",
                "policy-string": ["version: STSv1"],
                "policy-domain": "a.example",
                "mx-host": ["mx.example"],
            },
            "summary": {
                "total-successful-session-count": 3,
                "total-failure-session-count": 1,
            },
            "failure-details": [
                {
                    "result-type": "certificate-expired",
                    "receiving-mx-hostname": "mx.example",
                    "receiving-ip": "192.0.2.1",
                    "failed-session-count": 1,
                }
            ],
        }
    ]


@pytest.mark.parametrize(
    ("records", "uris"),
    [
        ((b"v=TLSRPTv1;rua=mailto:a@b.example",), ("mailto:a@b.example",)),
        (
            (b"v=spf1 -all", b"v=TLSRPTv1 ; rua=mailto:a@b.example , https://c.example/v1; x=y;"),
            ("mailto:a@b.example", "https://c.example/v1"),
        ),
        ((b"v=TLSRPTv1; rua=mailto:a@b.example", b"v=TLSRPTv1; rua=mailto:c@d.example"), ()),
        ((b"v=TLSRPTv2; rua=mailto:a@b.example",), ()),
        ((b"v=TLSRPTv1; rua=ftp://b.example/,http://b.example/",), ()),
        ((b"v=TLSRPTv1;",), ()),
        ((), ()),
    ],
)
def test_the_record(records, uris):
    assert rua_of(records) == uris


@given(st.lists(st.binary(max_size=100), max_size=3))
def test_no_record_makes_it_raise(records):
    rua_of([b"v=TLSRPTv1;" + one for one in records])
    rua_of(records)


def test_what_failed_comes_first_with_advice_and_twice_is_once():
    failure = TlsFailure("certificate-expired", "mx.example")
    policy = TlsPolicyResult("sts", "a.example", (), (), 10, 5, ((failure, 3),))
    report = TlsReport("Org", "", "1", 0, 1, (policy,))
    assert once([report, report]) == [report]
    first, second, third = tls_lines([report, report._replace(organization="Other")])
    assert (first.result, first.host, first.sessions) == ("certificate-expired", "mx.example", 6)
    assert first.reporters == ("Org", "Other") and "certificate is over" in first.advice
    assert (second.result, second.sessions) == ("?", 4)
    assert (third.result, third.sessions, third.advice) == ("", 20, "")
    assert sources([]) == []
