"""The header editor: the same for every cut, and never anything but a refusal."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.delivery.header import MAX_HEADER, HeaderEditor, HeaderRules
from twisted_mail.message.downgrade import ascii_saving, downgrade_header
from twisted_mail.message.headers import fields, split
from twisted_mail.message.wire import wire_size
from twisted_mail.status import MailError

TRACE = b"Return-Path: <>\nReceived: here\n"
MISSING = {b"date": b"Date: today\n", b"message-id": b"Message-ID: <1@here>\n"}


def rules(submission=False):
    return HeaderRules(3, submission, lambda: MISSING)


LINES = st.lists(
    st.sampled_from(
        b"Subject: x\nBcc: a\n folded\nDate : y\nmessage-id: z\nBCC:\n".splitlines(True)
        + b"Received: r\nRETURN-PATH: <q>\nno field\nFrom me\n:\n\n\n".splitlines(True)
        + "Subject: ö\nTo: \udcff\udcfe <a@b>\n\udcff\n\0".encode(
            "utf-8", "surrogateescape"
        ).splitlines(True)
        + [b"Bcc", b"\r"]
    ),
    max_size=12,
).map(b"".join)


def edit(blocks, submission=False):
    editor = HeaderEditor(rules(submission))
    try:
        out = b"".join([editor.feed(block) for block in blocks]) + editor.finish()
        header = TRACE + editor.head
        return header + out, ascii_saving(header)
    except MailError as error:
        return error.code, error.enhanced


def pieces(content, cuts):
    edges = [0, *sorted(min(at, len(content)) for at in cuts), len(content)]
    return [content[a:b] for a, b in itertools.pairwise(edges)]


@given(LINES, st.lists(st.integers(0, 150)), st.booleans())
def test_any_cut_gives_the_same_and_nothing_raises_but_a_refusal(content, cuts, submission):
    assert edit(pieces(content, cuts), submission) == edit([content], submission)
    assert edit([bytes([octet]) for octet in content], submission) == edit([content], submission)


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_raise_anything_but_a_refusal(content, submission):
    out, _ = edit([content], submission)
    assert isinstance(out, int) or out.startswith(TRACE)


@given(LINES)
def test_nothing_but_an_old_return_path_is_lost_on_its_way_in(content):
    out, _ = edit([content])
    if isinstance(out, bytes):
        header, rest = split(content)
        kept = split(out)[0].removeprefix(TRACE)
        assert not any(name == b"return-path" for name, _, _ in fields(kept))
        assert out.endswith(rest)
        if b"return-path" not in header.lower():
            assert kept == header


@given(LINES)
def test_the_downgraded_size_is_that_of_the_downgraded_header(content):
    out, saving = edit([content])
    if isinstance(out, bytes):
        header = split(out)[0]
        expected = wire_size(header) - wire_size(downgrade_header(header))
        assert saving == (None if header.isascii() else expected)


def test_on_the_way_in():
    content = b"Return-Path: <old>\nSubject: x\nBcc: b\n\nDate: in the body\n"
    assert edit([content]) == (TRACE + b"Subject: x\nBcc: b\n\nDate: in the body\n", None)


def test_a_submission_gets_what_is_missing_and_its_bcc_goes():
    content = b"Subject: x\nBCC : b,\n c\n\nBcc: in the body\n"
    out, _ = edit([content], submission=True)
    added = b"".join(MISSING.values())
    assert out == TRACE + b"Subject: x\n" + added + b"\nBcc: in the body\n"


def test_a_submission_keeps_what_it_has():
    content = b"message-id: <m>\ndate : d\n\n"
    assert edit([content], submission=True)[0] == TRACE + content


@pytest.mark.parametrize("content", [b"", b"\n", b"\nbody\n"])
def test_a_message_without_a_header(content):
    assert edit([content])[0] == TRACE + content
    assert edit([content], submission=True)[0] == TRACE + b"".join(MISSING.values()) + content


def test_text_without_a_header_is_not_read_as_ours():
    assert edit([b"just text\nSubject: no\n"])[0] == TRACE + b"\njust text\nSubject: no\n"
    assert edit([b" folded\n\n"])[0] == TRACE + b"\n folded\n\n"


def test_a_loop_is_refused():
    assert edit([b"Received: 1\nreceived : 2\nRECEIVED: 3\n\n"]) == (554, "5.4.6")
    assert isinstance(edit([b"Received: 1\nReceived: 2\n\nReceived: 3\n"])[0], bytes)


@pytest.mark.parametrize("size", [1000, 65_536, 1 << 20])
def test_a_header_has_a_bound(size):
    header = b"X: " + b"y" * (MAX_HEADER - 4) + b"\n"
    assert len(header) == MAX_HEADER
    for content, fits in ((header + b"\nbody\n", True), (b"X" + header + b"\nbody\n", False)):
        blocks = [content[at : at + size] for at in range(0, len(content), size)]
        assert edit(blocks)[0] == (TRACE + content if fits else 552)


def test_a_header_that_never_ends_is_not_held_for_ever():
    editor = HeaderEditor(rules())
    with pytest.raises(MailError) as caught:
        for _ in range(MAX_HEADER // 1000 + 2):
            editor.feed(b"X: " + b"y" * 996 + b"\n")
    assert caught.value.code == 552
