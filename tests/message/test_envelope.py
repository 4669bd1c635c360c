"""ENVELOPE, BODYSTRUCTURE and BODY as they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.addresses import MAX_ADDRESSES, Address, addresses
from twisted_mail.message.bodystructure import body, bodystructure
from twisted_mail.message.content_fields import content_fields
from twisted_mail.message.envelope import envelope
from twisted_mail.message.nstring import human, nstring, string
from twisted_mail.message.structure import scan


def test_the_example_of_the_rfc() -> None:
    # RFC 9051 section 8
    header = (
        b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\n"
        b"From: Terry Gray <gray@cac.washington.edu>\n"
        b"Subject: IMAP4rev2 WG mtg summary and minutes\n"
        b"To: imap@cac.washington.edu\n"
        b"cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\n"
        b"Message-Id: <B27397-0100000@cac.washington.ed>\n"
        b"MIME-Version: 1.0\n"
        b"Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\n\n"
    )
    assert envelope(header) == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" '
        b'"IMAP4rev2 WG mtg summary and minutes" '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'((NIL NIL "imap" "cac.washington.edu")) '
        b'((NIL NIL "minutes" "CNRI.Reston.VA.US")'
        b'("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL '
        b'"<B27397-0100000@cac.washington.ed>")'
    )
    part = scan(header + b"x\n" * 92)
    assert body(part) == b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7bit" 276 92)'


def test_bodystructure() -> None:
    content = (
        b"Content-Type: multipart/mixed; boundary=a\n\n"
        b"--a\n\nx\n\n"
        b'--a\nContent-Type: text/html; charset=utf-8; name="a \\"b"\nContent-ID: <1@x>\n'
        b"Content-Description: what\n it is\nContent-Transfer-Encoding: BASE64\nContent-MD5: abc=\n"
        b"Content-Disposition: inline; filename=x\nContent-Language: de, en\n"
        b"Content-Location: http://x/\n\neA==\n\n"
        b"--a\nContent-Type: message/rfc822\n\nSubject: s\n\ny\n\n--a--\n"
    )
    part = scan(content)
    assert bodystructure(part) == (
        b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL NIL NIL)'
        b'("text" "html" ("charset" "utf-8" "name" "a \\"b") "<1@x>" "what it is" "BASE64" 6 1'
        b' "abc=" ("inline" ("filename" "x")) ("de" "en") "http://x/")'
        b'("message" "rfc822" NIL NIL NIL "7bit" 17 (NIL "s" NIL NIL NIL NIL NIL NIL NIL NIL)'
        b' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL NIL NIL) 3'
        b' NIL NIL NIL NIL) "mixed" ("boundary" "a") NIL NIL NIL)'
    )
    assert body(part) == (
        b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1)'
        b'("text" "html" ("charset" "utf-8" "name" "a \\"b") "<1@x>" "what it is" "BASE64" 6 1)'
        b'("message" "rfc822" NIL NIL NIL "7bit" 17 (NIL "s" NIL NIL NIL NIL NIL NIL NIL NIL)'
        b' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1) 3) "mixed")'
    )


def test_a_multipart_without_parts_has_one() -> None:
    part = scan(b"Content-Type: multipart/mixed\n\nx\n")
    assert body(part) == b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0) "mixed")'


def test_message_global_is_one_in_rev2_only() -> None:
    part = scan(b"Content-Type: message/global\n\nSubject: x\n\ny\n")
    assert body(part) == b'("message" "global" NIL NIL NIL "7bit" 17)'
    assert body(part, rev2=True).startswith(b'("message" "global" NIL NIL NIL "7bit" 17 (NIL "x" ')


MISSING = Address(None, None, b"MISSING_MAILBOX", b"MISSING_DOMAIN")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"", []),
        (b" \n ", []),
        (b"a@b", [(None, None, b"a", b"b")]),
        (b"a@b,\n c@d", [(None, None, b"a", b"b"), (None, None, b"c", b"d")]),
        (b'"A, \\"B" <a@b>', [(b'A, "B', None, b"a", b"b")]),
        (b"A  B. C <a@b>", [(b"A B. C", None, b"a", b"b")]),
        (b"<@r1,@r2:a@b>", [(None, b"@r1,@r2", b"a", b"b")]),
        (b"a@b (Who (he) is)", [(b"Who (he) is", None, b"a", b"b")]),
        (b'"a b"@[1.2.3.4]', [(None, None, b"a b", b"[1.2.3.4]")]),
        (
            b"team: a@b, c@d;, e@f",
            [
                (None, None, b"team", None),
                (None, None, b"a", b"b"),
                (None, None, b"c", b"d"),
                (None, None, None, None),
                (None, None, b"e", b"f"),
            ],
        ),
        (b"undisclosed:;", [(None, None, b"undisclosed", None), (None, None, None, None)]),
        (b"=?utf-8?q?=C3=A4?= <a@b>", [(b"=?utf-8?q?=C3=A4?=", None, b"a", b"b")]),
        (b"\xc3\xa4@\xc3\xb6", [(None, None, b"\xc3\xa4", b"\xc3\xb6")]),
        # broken
        (b"a", [(None, None, b"a", b"MISSING_DOMAIN")]),
        (b"A B", [(b"A B", None, b"MISSING_MAILBOX", b"MISSING_DOMAIN")]),
        (b"A <a@b", [(b"A", None, b"a", b"SYNTAX_ERROR")]),
        (b"<>", [MISSING]),
        (b"a..b.@c", [(None, None, b"a..b.", b"c")]),
    ],
)
def test_addresses(value: bytes, found: list[tuple[bytes | None, ...]]) -> None:
    assert addresses(value) == found


def test_addresses_are_bounded() -> None:
    assert len(addresses(b"a@b," * (MAX_ADDRESSES + 5))) == MAX_ADDRESSES
    # quadratic, or read to their ends, these take minutes
    for odd in (b",", b'"', b"(", b"<", b"a.", b"a ", b"@", b"a:b,", b"a:;,", b"[", b'"\\'):
        assert len(addresses(odd * 300_000)) <= MAX_ADDRESSES


def test_what_is_usual_and_what_is_not_in_one_list() -> None:
    many = b", ".join([b"a@b", b"(c) d@e", b"F <g@h>"] * 3000)
    assert addresses(many) == addresses(b"a@b, (c) d@e, F <g@h>") * 3000


def test_fields_of_one_name() -> None:
    header = b"From: a@b\nFrom: c@d\nSubject: 1\nSubject: 2\nSender:\n"
    both = b'((NIL NIL "a" "b")(NIL NIL "c" "d"))'
    assert envelope(header) == b'(NIL "2" ' + b" ".join([both] * 3) + b" NIL NIL NIL NIL NIL)"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (b"", b'""'),
        (b'a "b" \\', b'"a \\"b\\" \\\\"'),
        (b"\xe4", b"{1}\r\n\xe4"),
        (b"a\nb", b"{3}\r\na\nb"),
        (b"\0", b"{3}\r\n\xef\xbf\xbd"),
    ],
)
def test_strings(text: bytes, written: bytes) -> None:
    assert string(text) == written


def test_text_for_people() -> None:
    assert human(b" a\t\n b  ") == b'"a b"'
    assert nstring(b"a\n b\nc\r\n\td") == b'"a b c\td"'
    assert nstring(None) == b"NIL"


@pytest.mark.parametrize(
    ("value", "params"),
    [
        (b'text/plain; a=b;c="d \\" e"', ((b"a", b"b"), (b"c", b'd " e'))),
        (b"text/plain; a*1=2; a*0=1; b=c", ((b"b", b"c"), (b"a", b"12"))),
        (b"text/plain; a*0*=utf-8''%20; a*1=50%", ((b"a*", b"utf-8''%2050%25"),)),
        (b"text/plain; a*=utf-8''%20", ((b"a*", b"utf-8''%20"),)),
        (b"text/plain; a*1=x", ((b"a*1", b"x"),)),
        (b"text/plain; broken; a=b; c=d", ((b"c", b"d"),)),
        (b"text/plain; a==?utf-8?q?x_y?=; b=c", ((b"a", b"=?utf-8?q?x_y?="), (b"b", b"c"))),
        (b"text/plain (comment); (another) a (third) = b", ((b"a", b"b"),)),
    ],
)
def test_parameters(value: bytes, params: object) -> None:
    assert content_fields(b"\nContent-Type: " + value).params == params


@given(
    st.binary(max_size=200) | st.text("aä@<>,;:\"\\()[]. \n\t=?*'%\0", max_size=60).map(str.encode)
)
def test_no_bytes_make_it_raise(value: bytes) -> None:
    addresses(value)
    for name in (b"From", b"Subject", b"Content-Type", b"Content-Language", b"Content-Disposition"):
        block = b"MIME-Version: 1.0\n" + name + b": " + value
        assert envelope(block).endswith(b")")
        content_fields(b"\n" + block)
