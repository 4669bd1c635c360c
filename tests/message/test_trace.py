"""Trace fields: dates as the standard library writes them, and nothing a peer says begins a line."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.address import Address
from twisted_mail.message import trace

FACTS = {
    "helo": "client.example",
    "ip": "192.0.2.7",
    "by": "mx.example.org",
    "protocol": "ESMTP",
    "tls": None,
    "message_id": "abc",
    "recipient": None,
    "seconds": 1_800_000_000.0,
}


@given(st.integers(0, 253_402_300_799))
def test_dates_are_those_of_the_standard_library(seconds):
    # RFC 5322 section 3.3: day = 1*2DIGIT; the library writes two
    day, number, rest = trace.date(seconds).split(" ", 2)
    assert f"{day} {number:0>2} {rest}" == formatdate(
        seconds, usegmt=False, localtime=False
    ).replace("-0000", "+0000")


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
        (951_782_399.9, "Mon, 28 Feb 2000 23:59:59 +0000"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
        (4_107_542_400, "Mon, 1 Mar 2100 00:00:00 +0000"),
    ],
)
def test_dates(seconds, text):
    assert trace.date(seconds) == text


def test_received():
    assert trace.received(**FACTS) == (
        b"Received: from client.example ([192.0.2.7])\n"
        b"\tby mx.example.org with ESMTP id abc;\n"
        b"\tFri, 15 Jan 2027 08:00:00 +0000\n"
    )


def test_received_with_all_there_is_to_say():
    facts = FACTS | {
        "ip": "2001:db8::1",
        "protocol": "ESMTPSA",
        "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384",
        "recipient": Address.parse("a@example.org"),
    }
    assert trace.received(**facts) == (
        b"Received: from client.example ([IPv6:2001:db8::1])\n"
        b"\t(using TLSv1.3 TLS_AES_256_GCM_SHA384)\n"
        b"\tby mx.example.org with ESMTPSA id abc\n"
        b"\tfor <a@example.org>;\n"
        b"\tFri, 15 Jan 2027 08:00:00 +0000\n"
    )


@given(st.text(max_size=300))
def test_no_name_that_a_client_gives_itself_begins_a_line_or_a_comment(helo):
    field = trace.received(**FACTS | {"helo": helo})
    first, *rest = field.split(b"\n")
    assert len(rest) == 3
    assert first.isascii()
    assert first.count(b"(") == first.count(b")") == 1
    assert len(first) < 998
    said = first.removeprefix(b"Received: from ").removesuffix(b" ([192.0.2.7])")
    assert said
    assert b" " not in said


@pytest.mark.parametrize("utf8, shown", [(True, "jörg"), (False, "j?rg")])
def test_a_recipient_is_written_in_utf_8_only_where_that_was_asked_for(utf8, shown):
    recipient = Address("jörg", "example.org")
    field = trace.received(**FACTS | {"recipient": recipient}, utf8=utf8)
    assert f"\tfor <{shown}@example.org>;\n".encode() in field


def test_the_other_fields():
    address = Address.parse('"a b"@example.org')
    assert trace.return_path(None) == b"Return-Path: <>\n"
    assert trace.return_path(address) == b'Return-Path: <"a b"@example.org>\n'
    assert trace.delivered_to(address) == b'Delivered-To: "a b"@example.org\n'
    assert trace.message_id("1.x", "mx.example.org") == b"Message-ID: <1.x@mx.example.org>\n"
