"""Header blocks: where they end, what fields they hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.headers import fields, header_end, split, without

TEXT = st.lists(
    st.sampled_from(
        [b"Subject: x", b"\n", b"\n", b" ", b"\t", b":", b"a", b"Bcc :", b"\0", b"\xff"]
    ),
    max_size=30,
).map(b"".join)


@pytest.mark.parametrize(
    "content, end",
    [
        (b"", -1),
        (b"\n", 0),
        (b"\nbody\n", 0),
        (b"A: b\n\nbody\n", 5),
        (b"A: b\n", -1),
        (b"A: b\n\n", 5),
    ],
)
def test_where_a_header_ends(content, end):
    assert header_end(content) == end


@pytest.mark.parametrize(
    "content, header",
    [
        (b"", b""),
        (b"\nbody\n", b""),
        (b"A: b\n c\nD: e\n\nbody\n", b"A: b\n c\nD: e\n"),
        (b"A : obsolete\n\n", b"A : obsolete\n"),
        (b"A: b\nno field\nC: d\n\n", b"A: b\n"),
        (b" folded first\n\n", b""),
        (b"From me Mon Jan 1\nA: b\n\n", b""),
        (b"A: \0\xff\n\n", b"A: \0\xff\n"),
        (b"A:\n\n", b"A:\n"),
    ],
)
def test_the_block_ends_at_the_first_line_that_is_none_of_it(content, header):
    assert split(content) == (header, content[len(header) :])


def test_fields_take_their_folded_lines_along():
    block = b"Received: a\n\tb\nsubject : c\nBCC: d,\n e\n"
    assert [(name, block[start:end]) for name, start, end in fields(block)] == [
        (b"received", b"Received: a\n\tb\n"),
        (b"subject", b"subject : c\n"),
        (b"bcc", b"BCC: d,\n e\n"),
    ]


def test_fields_leave_whole_in_any_case_and_as_often_as_they_are_there():
    block = b"Bcc: a\n b\nTo: c\nbCC : d\nX-Bcc: e\n"
    assert without(block, {b"bcc"}) == b"To: c\nX-Bcc: e\n"


@given(TEXT)
def test_any_bytes_are_cut_in_two_and_into_fields_without_loss(content):
    header, rest = split(content)
    assert header + rest == content
    assert b"".join(header[start:end] for _, start, end in fields(header)) == header
    assert b"".join(content[start:end] for _, start, end in fields(content)) == content
    assert without(header, ()) == header
    assert all(name for name, _, _ in fields(header))


@given(
    st.lists(
        st.sampled_from(
            [
                b"A: b\n",
                b" folded\n",
                b"\t:x: y\n",
                b"no field\n",
                b"b :\n",
                b":\n",
                b"\n",
                b"C:",
                b"x",
            ]
        ),
        max_size=10,
    ).map(b"".join)
)
def test_fields_are_those_of_a_look_at_each_line(block):
    found = []
    start = 0
    for line in block.splitlines(True):
        name, colon, _ = line.partition(b":")
        bare = name.rstrip(b" \t")
        if colon and bare and not any(octet <= 32 or octet >= 127 for octet in bare):
            found.append([bare.lower(), start, start + len(line)])
        elif found:
            found[-1][2] += len(line)
        else:
            found.append([b"", 0, len(line)])
        start += len(line)
    assert list(fields(block)) == [tuple(one) for one in found]
