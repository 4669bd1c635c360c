"""Messages in one file: where they begin, quoting, dates, flags; the same however the file is read."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message import mbox
from twisted_mail.message.mbox import Mbox, NotMboxError, envelope_line, flag_fields, quoted


def entries(data, quoting="mboxrd", step=None, offset=0):
    file = io.BytesIO(data)
    file.seek(offset)
    reader = Mbox(lambda size: file.read(step or size), offset, quoting)
    return [(one, b"".join(one.blocks)) for one in reader]


def contents(data, **how):
    return [content for _, content in entries(data, **how)]


TWO = b"""\
From alice@example.org Sat Jan  3 01:05:34 1996
Subject: one

>From here
>>From there
From nobody, no date
end

From bob@example.org Sun Jan  4 01:05:34 1996
Subject: two

second
"""


def test_messages_begin_behind_an_empty_line_with_a_dated_line():
    assert contents(TWO) == [
        b"Subject: one\n\nFrom here\n>From there\nFrom nobody, no date\nend\n",
        b"Subject: two\n\nsecond\n",
    ]
    assert contents(TWO, quoting="mboxo")[0].count(b"\n>>From there\n") == 1
    assert contents(TWO, quoting="none")[0].count(b"\n>From here\n") == 1


def test_it_can_go_on_in_the_midst():
    second = entries(TWO)[1][0].offset
    assert TWO[second:].startswith(b"From bob")
    assert contents(TWO, offset=second) == contents(TWO)[1:]
    assert entries(TWO, offset=second)[0][0].offset == second


def test_crlf():
    assert contents(TWO.replace(b"\n", b"\r\n"))[1] == b"Subject: two\n\r\nsecond\r\n"


@pytest.mark.parametrize(
    ("line", "date"),
    [
        (b"From a Sat Jan  3 01:05:34 1996", 820631134),
        (b"From a@b  Sat Jan 03 01:05 1996", 820631100),
        (b"From - Sat Jan 03 01:05:34 +0100 1996", 820627534),
        (b"From a Sat Jan  3 01:05:34 MET 1996", 820631134),
        (b"From a Sat Jan  3 01:05:34 1996 -0130", 820636534),
        (b"From a Sat Foo  3 01:05:34 1996", None),
        (b"From a", None),
    ],
)
def test_dates(line, date):
    ((entry, _),) = entries(line + b"\nSubject: x\n\nx\n")
    assert entry.date == date


def test_flags_are_taken_out_of_the_header():
    head = envelope_line(b"a@b", 0) + b"Subject: x\n"
    flags = ("\\Seen", "\\Answered", "\\Flagged", "$Label1", "work")
    ((entry, content),) = entries(head + flag_fields(flags) + b"To: y\n\nStatus: text\n")
    assert entry.flags == flags
    assert content == b"Subject: x\nTo: y\n\nStatus: text\n"


def test_thunderbirds_flags_and_what_it_has_deleted():
    head = b"From - Sat Jan  3 01:05:34 1996\nX-Mozilla-Status: %b\nX-Mozilla-Keys: $label1   \n\n"
    ((entry, _),) = entries(head % b"0003")
    assert (entry.flags, entry.internal) == (("\\Seen", "\\Answered", "$label1"), False)
    ((entry, _),) = entries(head % b"0009")
    assert entry.internal


def test_what_pine_keeps_in_the_file_is_no_message():
    data = (
        b"From MAILER-DAEMON Sat Jan  3 01:05:34 1996\n"
        b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\ntext\n\n"
    )
    assert [one.internal for one, _ in entries(data + TWO)] == [True, False, False]


@pytest.mark.parametrize("data", [b"Subject: x\n\n", b"\x00\x01", b" From a", b"from x\n"])
def test_what_is_no_mbox(data):
    with pytest.raises(NotMboxError):
        entries(data)


def test_an_empty_file_has_no_messages():
    assert entries(b"") == entries(b"\n\r\n") == []


def test_a_large_message_is_never_held_whole():
    line = b"x" * 70 + b"\n"
    size = 4 * 1024 * 1024
    data = envelope_line(b"", 0) + b"Subject: x\n\n" + line * (size // len(line)) + b"\n"
    file = io.BytesIO(data + TWO)
    found = []
    for entry in Mbox(file.read):
        largest = total = 0
        for block in entry.blocks:
            largest, total = max(largest, len(block)), total + len(block)
        found.append(total)
        assert largest < 1024 * 1024
    assert found[0] == len(data) - len(envelope_line(b"", 0)) - 1
    assert len(found) == 3


_line = st.sampled_from(
    [b"", b"", b"x", b">", b"From ", b"From x", b">From ", b">>From y", b"From a Sat Jan  3 01:05:34 1996",
     b"x" * 40, b"\r", b"Subject: y"]
)  # fmt: skip
_text = st.lists(_line, max_size=12).map(lambda lines: b"".join(line + b"\n" for line in lines))


@given(st.lists(_text, min_size=1, max_size=5), st.integers(1, 60), st.booleans())
def test_what_is_written_is_what_is_read(texts, step, small):
    data = b"".join(
        envelope_line(b"x@y", 1) + quoted(b"Subject: x\n\n" + text) + b"\n" for text in texts
    )
    block, tail = mbox.BLOCK, mbox.TAIL
    try:
        if small:
            mbox.BLOCK, mbox.TAIL = 100, 60
        assert contents(data, step=step) == [b"Subject: x\n\n" + text for text in texts]
    finally:
        mbox.BLOCK, mbox.TAIL = block, tail


@given(st.binary(max_size=300), st.integers(1, 60))
def test_no_bytes_make_it_raise(data, step):
    entries(b"From a Sat Jan  3 01:05:34 1996\n" + data, step=step)
