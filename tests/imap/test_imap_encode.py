"""`imap.encode` and `imap.dates`: what answers are made of."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.imap import commands as c
from twisted_mail.imap import encode
from twisted_mail.imap.dates import date_time, parse_date, parse_date_time
from twisted_mail.imap.grammar import parse
from twisted_mail.imap.reader import Reader


@pytest.mark.parametrize(
    ("value", "utf8", "said"),
    [
        (b"", False, b'""'),
        (b"a b", False, b'"a b"'),
        (b'a"b\\', False, b'"a\\"b\\\\"'),
        (b"a\r\nb", False, b"{4}\r\na\r\nb"),
        (b"\xc3\xa4", False, b"{2}\r\n\xc3\xa4"),
        (b"\xc3\xa4", True, b'"\xc3\xa4"'),
        (b"\xe4", True, b"{1}\r\n\xe4"),
        (b"a\0b", True, b"{3}\r\na\x80b"),
        (b"\x7f", False, b"{1}\r\n\x7f"),
        (b"x" * 1001, False, b"{1001}\r\n" + b"x" * 1001),
    ],
)
def test_string(value: bytes, utf8: bool, said: bytes) -> None:
    assert encode.string(value, utf8) == said
    assert encode.nstring(value, utf8) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"INBOX", b"INBOX"),
        (b"a]b", b"a]b"),
        (b"", b'""'),
        (b"NIL", b'"NIL"'),
        (b"nil", b'"nil"'),
        (b"a*", b'"a*"'),
        (b"(", b'"("'),
        (b"{1}", b'"{1}"'),
    ],
)
def test_astring(value: bytes, said: bytes) -> None:
    assert encode.astring(value) == said


def test_nil_and_literal8() -> None:
    assert encode.nstring(None) == b"NIL"
    assert encode.literal8(b"\0a") == b"~{2}\r\n\0a"


@given(st.binary(), st.booleans())
def test_strings_are_read_back(value: bytes, utf8: bool) -> None:
    for said in (encode.string(value, utf8), encode.astring(value, utf8)):
        assert Reader(said).astring() == value.replace(b"\0", b"\x80")
    assert Reader(encode.literal8(value)).string(literal8=True) == value


def test_mailbox() -> None:
    assert encode.mailbox("INBOX") == b"INBOX"
    assert encode.mailbox("Entwürfe") == b"Entw&APw-rfe"
    assert encode.mailbox("Entwürfe", True) == '"Entwürfe"'.encode()
    assert encode.mailbox("R&D") == b"R&-D"
    assert encode.mailbox("R&D", True) == b"R&D"
    assert encode.mailbox("a b%") == b'"a b%"'
    assert encode.mailbox("x\udc80") == b"x?"
    assert encode.mailbox("x\udc80", True) == b"x?"


def test_lines() -> None:
    assert encode.ok(b"a", "done") == b"a OK done\r\n"
    assert encode.no(b"a", "no such mailbox", "NONEXISTENT") == (
        b"a NO [NONEXISTENT] no such mailbox\r\n"
    )
    assert encode.bad(b"*", "what\r\nb OK\x07 ü?") == b"* BAD what b OK ?\r\n"
    assert encode.bye("", b"UNAVAILABLE") == b"* BYE [UNAVAILABLE] .\r\n"
    assert encode.ok(b"a", "[ALERT] x") == b"a OK .[ALERT] x\r\n"
    assert encode.preauth("hello") == b"* PREAUTH hello\r\n"
    assert encode.untagged(b"5", b"EXISTS") == b"* 5 EXISTS\r\n"
    assert encode.continuation() == b"+ OK\r\n"
    assert encode.continuation(b"") == b"+ \r\n"  # RFC 3501 section 7.5: the blank stays
    assert encode.flag_list(["\\Seen", "$a"]) == b"(\\Seen $a)"
    assert encode.flag_list([]) == b"()"
    assert encode.compact([1, 2, 4]) == b"1:2,4"


@given(st.text())
def test_text_is_one_line(text: str) -> None:
    line = encode.ok(b"a", text)
    assert line.count(b"\n") == line.count(b"\r") == 1
    assert len(line) > len(b"a OK \r\n")


# -- dates


def test_date_time() -> None:
    assert date_time(837596665) == b'"17-Jul-1996 09:44:25 +0000"'
    assert date_time(0) == b'" 1-Jan-1970 00:00:00 +0000"'
    assert date_time(-1) == b'"31-Dec-1969 23:59:59 +0000"'
    assert date_time(10**20) == b'"31-Dec-9999 23:59:59 +0000"'
    assert date_time(-(10**20)) == b'" 1-Jan-0001 00:00:00 +0000"'
    assert parse_date_time(b"17-Jul-1996 02:44:25 -0700") == 837596665
    assert parse_date_time(b" 1-jan-1970 01:00:00 +0100") == 0
    assert parse_date_time(b"31-Dec-1998 23:59:60 +0000") == parse_date_time(
        b"01-Jan-1999 00:00:00 +0000"
    )


@given(st.datetimes(), st.integers(-14 * 60, 14 * 60))
def test_date_times_of_any_zone(when: datetime, minutes: int) -> None:
    when = when.replace(microsecond=0)
    zone = timezone(timedelta(minutes=minutes))
    sign = "-" if minutes < 0 else "+"
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[when.month * 3 - 3 : when.month * 3]
    text = (
        f"{when.day:2}-{month}-{when.year:04} {when:%H:%M:%S} "
        f"{sign}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    )
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    seconds = (when.replace(tzinfo=zone) - epoch).total_seconds() if 1 < when.year < 9999 else None
    if seconds is not None:
        assert parse_date_time(text.encode()) == seconds


@given(st.integers(-62135596800, 253402300799))
def test_date_time_round_trip(seconds: int) -> None:
    assert parse_date_time(date_time(seconds)[1:-1]) == seconds


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"17-Jul-1996",
        b"17-Foo-1996 02:44:25 -0700",
        b"32-Jul-1996 02:44:25 -0700",
        b"00-Jul-1996 02:44:25 -0700",
        b"17-Jul-0000 02:44:25 -0700",
        b"17-Jul-1996 24:44:25 -0700",
        b"17-Jul-1996 02:60:25 -0700",
        b"17-Jul-1996 02:44:61 -0700",
        b"17-Jul-1996 02:44:25 -0760",
        b"17-Jul-1996 02:44:25 PDT",
        b"17-Jul-1996 02:44:25 -0700 ",
    ],
)
def test_no_date_time(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_date_time(text)


def test_date() -> None:
    assert parse_date(b"1-Feb-1994") == parse_date(b"01-fEB-1994") == date(1994, 2, 1)
    for wrong in (b"30-Feb-1994", b"1-Feb-94", b" 1-Feb-1994"):
        with pytest.raises(ValueError):
            parse_date(wrong)


def test_what_is_encoded_parses() -> None:
    line = b"a LOGIN " + encode.astring(b"NIL") + b" " + encode.string(b"a\nb")
    assert parse(line).args == c.Login(b"NIL", b"a\nb")
