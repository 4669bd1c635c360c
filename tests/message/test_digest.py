"""What an index keeps of a message, the dates in it, and how texts are folded."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.bodystructure import bodystructure
from twisted_mail.message.collation import fold
from twisted_mail.message.date import parse_date
from twisted_mail.message.digest import (
    MAX_REFERENCES,
    digest,
    header_block,
    header_digest,
    read_header,
    split_references,
    structure_digest,
)
from twisted_mail.message.envelope import envelope, unfolded_block
from twisted_mail.message.plain_header import plain_digest
from twisted_mail.message.structure import from_bytes, scan

MESSAGE = b"""\
Date: Fri, 1 Mar 2024 01:30:00 +0200
From: =?utf-8?q?J=C3=BCrgen?= <Juergen@x.example>, b@y.example
To: group: c@z.example;
Cc: C@W.example
Cc: d@w.example
Subject: Re: [list] =?iso-8859-1?q?Gr=FC=DFe?=
 =?iso-8859-1?q?_an?= alle
Message-ID: <1@x.example>
References: <a@b> junk <"c"@d>
\t<e@f>
In-Reply-To: <z@z>

text
"""


def test_a_digest() -> None:
    whole = digest(MESSAGE)
    found = whole.header
    assert found.envelope == envelope(MESSAGE.partition(b"\n\n")[0])
    assert whole.structure.bodystructure == bodystructure(scan(MESSAGE))
    assert from_bytes(whole.structure.structure) == scan(MESSAGE)
    assert whole.structure.octets == len(MESSAGE.replace(b"\n", b"\r\n"))
    assert found.subject == fold("Re: [list] Grüße an alle")
    assert found.from_ == fold("Jürgen <Juergen@x.example>, b@y.example")
    assert (found.to, found.cc) == ("GROUP: C@Z.EXAMPLE;", "C@W.EXAMPLE\nD@W.EXAMPLE")
    assert found.bcc == ""
    assert found.sent == int(datetime(2024, 2, 29, 23, 30, tzinfo=UTC).timestamp())
    assert datetime.fromtimestamp((found.sent_day or 0) * 86_400, UTC).day == 1
    assert found.message_id == "1@x.example"
    assert split_references(found.references) == ["a@b", "c@d", "e@f"]
    assert (found.base_subject, found.reply) == (fold("Grüße an alle"), 1)
    assert (found.sort_from, found.sort_to, found.sort_cc) == ("JUERGEN", "GROUP", "C")
    assert (found.display_from, found.display_to) == (fold("Jürgen"), "GROUP")
    assert all(
        value is None or isinstance(value, bytes | str | int)
        for value in (*found, *whole.structure)
    )


def test_without_anything() -> None:
    found = digest(b"").header
    assert found.envelope == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
    assert (found.sent, found.sent_day, found.references) == (None, None, "")
    assert split_references("") == []


def test_subjects_to_search_in() -> None:
    """Every one of them, with a blank between words; the last one is the message's."""
    found = digest(b"Subject: re: one\n\ttwo  three\nSubject: fo\tur\n\nx\n").header
    assert found.subject == "RE: ONE TWO THREE\nFO UR"
    assert (found.base_subject, found.reply) == ("FO UR", 0)


def test_in_reply_to_stands_in_for_references() -> None:
    assert digest(b"In-Reply-To: x <a@b> <c@d>\n\n").header.references == "a@b"


def test_references_are_bounded() -> None:
    ids = [f"{n}@x" for n in range(500)]
    found = digest(
        b"References: " + b" ".join(b"<%b>" % one.encode() for one in ids) + b"\n\n"
    ).header
    kept = split_references(found.references)
    assert kept == [ids[0], *ids[-(MAX_REFERENCES - 1) :]]


def test_an_address_without_a_name_is_displayed() -> None:
    found = digest(b"From: a@b.example\nTo: <c@d>\n\n").header
    assert (found.display_from, found.display_to) == ("A@B.EXAMPLE", "C@D")


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    digest(data)
    for name in (b"Date", b"Subject", b"From", b"References"):
        digest(name + b": " + data)


_PIECES = st.sampled_from(
    (
        b"Subject: a\n",
        b"From: A <a@b.example>\n",
        b"Content-Type: multipart/mixed; boundary=x\n",
        b" folded\n",
        b"--x\n",
        b"\n",
        b"\r\n",
        b"\r",
        b"Date: Fri, 1 Mar 2024 01:30:00 +0200\r\n",
        b"text",
    )
)


@given(st.lists(_PIECES | st.binary(max_size=3), max_size=12).map(b"".join), st.integers(0, 200))
def test_a_header_is_the_same_in_what_a_message_begins_with(data: bytes, cut: int) -> None:
    whole = digest(data)
    assert whole.structure == structure_digest(scan(data))
    block = header_block(data, True)
    assert block is not None
    assert header_digest(block) == whole.header
    begun = header_block(data[:cut], cut >= len(data))
    assert begun in (None, block)
    # What is behind the header need not be known, if the cut is not between the octets of its last line end
    if len(data[:cut]) > scan(data).body:
        assert begun == block


_NAMES = st.sampled_from(
    b"Date From To Cc Bcc Sender Reply-To Subject Message-ID In-Reply-To References X-Other".split()
)
_VALUES = st.lists(
    st.sampled_from(
        (
            b"a@b.example",
            b"A B <a.b@C.example>",
            b'"A, B" <a@b>',
            b'" A  B\t" <a@b>',
            b'" " <a@b>',
            b'"" <a@b>',
            b"A. <a@b>",
            b"group: a@b;",
            b"<@route:a@b>",
            b",",
            b", ",
            b"\n ",
            b"\n\t",
            b"\n",
            b" ",
            b"  ",
            b"\t",
            b"Re: [list] one (fwd)",
            b"fwd: two",
            b"[x]",
            b'"',
            b"\\",
            b"=?utf-8?q?=C3=BC?=",
            b"\xc3\xbc",
            b"\xff",
            b"\0",
            b"\x0b",
            b"\x1f",
            b"\x7f",
            b"<1@x>",
            b'<"c"@d>',
            b"<e@f",
            b"Fri, 1 Mar 2024 01:30:00 +0200",
        )
    )
    | st.binary(max_size=2),
    max_size=5,
).map(b"".join)


@given(
    st.lists(
        st.tuples(_NAMES, st.sampled_from((b": ", b":", b" :\t", b":\n ")), _VALUES), max_size=5
    )
)
def test_a_plain_header_is_read_as_any_other(fields: list[tuple[bytes, bytes, bytes]]) -> None:
    block = unfolded_block(
        b"".join([name + colon + value + b"\n" for name, colon, value in fields])
    )
    plain = plain_digest(block)
    assert plain in (None, tuple(read_header(block)))


def test_most_headers_are_plain() -> None:
    block = unfolded_block(
        b"From: A B <a@b.example>\nSender: <s@b.example>\nReply-To: r@b.example\n"
        b'To: c@d.example,\n\t"D, E"  <e@d.example>\nCc: f@d.example\nBcc: g@d.example\n'
        b"Subject: Re: what\n\tthere  is\nDate: Fri, 1 Mar 2024 01:30:00 +0200\n"
        b"Message-ID: <1@b.example>\nIn-Reply-To: <0@d.example>\n"
        b'References: <z@d.example>\n\t<0@d.example>\nX-Other: "\n'
    )
    plain = plain_digest(block)
    assert plain is not None
    assert plain == tuple(read_header(block)) == tuple(header_digest(block))
    assert plain[0] == (
        b'("Fri, 1 Mar 2024 01:30:00 +0200" "Re: what there is" (("A B" NIL "a" "b.example"))'
        b' ((NIL NIL "s" "b.example")) ((NIL NIL "r" "b.example"))'
        b' ((NIL NIL "c" "d.example")("D, E" NIL "e" "d.example"))'
        b' ((NIL NIL "f" "d.example")) ((NIL NIL "g" "d.example")) "<0@d.example>" "<1@b.example>")'
    )


def seconds(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp())  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("value", "when"),
    [
        (b"Fri, 21 Nov 1997 09:55:06 -0600", (1997, 11, 21, 15, 55, 6)),
        (b"21 Nov 97 09:55:06 GMT", (1997, 11, 21, 9, 55, 6)),
        (b"21 Nov 49 09:55 EST", (2049, 11, 21, 14, 55)),
        (
            b"Thu,\n      13\n        Feb\n          1969\n      23:32\n               -0330",
            (1969, 2, 14, 3, 2),
        ),
        (b"Thu, 13 Feb 1969 23:32 -0330 (Newfoundland Time)", (1969, 2, 14, 3, 2)),
        (b"Wed Jan  5 10:00:00 2000", (2000, 1, 5, 10, 0)),
        (b"Wed Jan  5 10:00:00 PST 2000", (2000, 1, 5, 18, 0)),
        (b"1 Jan 2000 10:00:00 XYZ", (2000, 1, 1, 10, 0)),
        (b"1 January 2000 10:00:00", (2000, 1, 1, 10, 0)),
        (b"31 Dec 2016 23:59:60 +0000", (2017, 1, 1)),
    ],
)
def test_dates(value: bytes, when: tuple[int, ...]) -> None:
    found = parse_date(value)
    assert found is not None
    assert found[0] == seconds(*when)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"today",
        b"30 Feb 2000 10:00:00 +0000",
        b"1 Jan 2000 24:00:00 +0000",
        b"1 Xyz 2000 1:00",
    ],
)
def test_no_dates(value: bytes) -> None:
    assert parse_date(value) is None


@given(st.binary(max_size=60) | st.text("0123456789JanFeb :+-,()", max_size=60).map(str.encode))
def test_no_bytes_make_a_date_raise(value: bytes) -> None:
    parse_date(value)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("abcZ[", "ABCZ["),
        ("äÄ", "A\u0308A\u0308"),
        ("ǆ", "DZ\u030c"),  # RFC 5051 section 2: in turn titlecase, decomposition, titlecase …
        ("\u00a0", " "),
        ("ß", "ß"),
        ("ﬁ", "FI"),
        ("ς", "Σ"),
        ("日本", "日本"),
        ("가", "가"),
    ],
)
def test_fold(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_fold_changes_nothing_it_made() -> None:
    # all of Unicode but the private planes, which have no properties
    for start in range(0, 0xF0000, 0x1000):
        text = "".join(map(chr, range(start, min(start + 0x1000, sys.maxunicode))))
        folded = fold(text)
        assert fold(folded) == folded


@given(st.text(), st.text())
def test_fold_goes_by_characters(one: str, other: str) -> None:
    assert fold(one + other) == fold(one) + fold(other)
