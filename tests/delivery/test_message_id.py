"""The Message-ID that a story is found by."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from twisted_mail.delivery.inspecting import message_id_of
from twisted_mail.message.headers import fields, split

_PIECES = st.sampled_from(
    [
        b"Message-ID:",
        b"message-id \t:",
        b"X-Message-ID:",
        b" ",
        b"\t",
        b"\n",
        b"<a@b>",
        b"<",
        b">",
        b"x",
        b":",
    ]
)


def by_fields(header):
    for name, start, end in fields(header):
        if name == b"message-id":
            value = header[start:end].partition(b":")[2].decode("utf-8", "replace").strip()
            begin, close = value.find("<"), value.find(">")
            return value[begin : close + 1] if 0 <= begin < close else ""
    return ""


@given(st.lists(_PIECES).map(b"".join))
@example(b"Message-ID:\n:<a@b>")
@example(b"From: x\nMessage-ID:\n <1@example.org>\nmessage-id: <2@example.org>\n")
def test_it_is_that_of_the_first_field_of_that_name(header):
    header, _ = split(b"A: b\n" + header + b"\n")
    assert message_id_of(header) == by_fields(header)
