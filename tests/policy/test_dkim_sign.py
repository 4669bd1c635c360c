"""Signing: what is signed, what nobody can add, how the fields look."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signed_mail import BODY, HEADER, NOW, ed25519, hash_of, rsa, signed, verified, zone_of

from twisted_mail.message.tag_list import parse_tags
from twisted_mail.policy.dkim_sign import ALWAYS, sign

ZONE = zone_of(rsa(), ed25519())


def tags_of(header):
    """The tags of the first field."""
    field = re.match(rb"[^\n]*\n(?:[ \t][^\n]*\n)*", header)[0]
    return parse_tags(field.partition(b":")[2])


def results(header, body=BODY):
    return [found.result for found in verified(header, body, ZONE)[0]]


def test_both_algorithms_in_the_order_of_the_keys():
    found, _ = verified(signed(), BODY, ZONE)
    assert [(one.result, one.algorithm) for one in found] == [
        ("pass", "rsa-sha256"),
        ("pass", "ed25519-sha256"),
    ]


def test_no_keys_no_fields():
    assert sign([], HEADER, hash_of(BODY), now=NOW) == b""


def test_the_tags():
    tags = tags_of(signed())
    assert {name: tags[name] for name in ("v", "a", "c", "d", "s", "t")} == {
        "v": "1",
        "a": "rsa-sha256",
        "c": "relaxed/relaxed",
        "d": "example.org",
        "s": "rsa",
        "t": str(NOW),
    }
    assert not {"i", "l", "x"} & set(tags)
    assert tags_of(signed(lifetime=3600))["x"] == str(NOW + 3600)


def test_lines_are_short():
    lines = signed(b"List-Id: <x.example.org>\nSender: x\n" + HEADER).split(b"\n")
    assert max(map(len, lines)) <= 78
    assert not any(line.strip() == b"" for line in lines[:-1])


@pytest.mark.parametrize("name", [name.decode() for name in ALWAYS])
def test_nobody_can_add_a_field(name):
    """RFC 6376 section 5.4.2: h= names it once more than it is there."""
    assert results(f"{name}: added\n".encode() + signed()) == ["fail", "fail"]
    assert results(signed() + f"{name}: added\n".encode()) == ["fail", "fail"]


def test_a_list_may_add_its_fields():
    assert results(b"List-Id: <l.example.org>\nReceived: x\n" + signed()) == ["pass", "pass"]


def test_but_not_to_those_that_are_there():
    header = signed(b"List-Id: <l.example.org>\n" + HEADER)
    assert results(header) == ["pass", "pass"]
    assert results(b"List-Id: <l.example.org>\n" + header) == ["fail", "fail"]


def test_what_servers_add_and_remove_is_not_signed():
    header = signed(b"Return-Path: <a@b>\nBcc: x\nAuthentication-Results: mx; none\n" + HEADER)
    names = tags_of(header)["h"]
    assert not re.search("return-path|bcc|authentication|received|dkim", names)


def test_two_of_one_name_are_both_signed():
    header = signed(b"To: c@example.net\n" + HEADER)
    assert results(header) == ["pass", "pass"]
    assert results(header.replace(b"c@example", b"d@example")) == ["fail", "fail"]


def test_a_message_without_header():
    assert results(signed(b"", b""), b"") == ["pass", "pass"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["From", "To ", "SUBJECT", "X-Any", "Date\t", "List-Id", "Received"]),
            st.text(alphabet="ab: ;=\t\u00e9", max_size=20),
            st.lists(st.text(alphabet="a \t;", min_size=1, max_size=8), max_size=2),
        ),
        max_size=8,
    ),
    st.text(alphabet="ab \t\n\u00e9", max_size=40).map(str.encode),
)
def test_what_is_signed_passes(fields, body):
    header = "".join(
        f"{name}:{value}" + "".join("\n " + line for line in more) + "\n"
        for name, value, more in fields
    ).encode()
    assert results(signed(header, body), body) == ["pass", "pass"]
