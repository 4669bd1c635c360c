"""The URLs of CATENATE: relative ones of messages and their sections (RFC 5092), and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.imap.urls import parse


@pytest.mark.parametrize(
    ("url", "mailbox", "validity", "uid", "part", "text", "partial"),
    [
        ("/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER", "Drafts", 385759045, 20, (), "HEADER", None),
        ("/Drafts;UIDVALIDITY=385759045/;UID=20/;Section=1.MIME", "Drafts", 385759045, 20, (1,), "MIME", None),
        ("/Drafts;UIDVALIDITY=385759045/;UID=30", "Drafts", 385759045, 30, (), "", None),
        ("/Drafts/;UID=3002", "Drafts", None, 3002, (), "", None),
        ("/a/b%20c/;UID=1/;SECTION=1.2", "a/b c", None, 1, (1, 2), "", None),
        ("/iNbOx/;UID=1", "INBOX", None, 1, (), "", None),
        ("/%E5%8F%B0/;uid=1/;partial=0.1024", "台", None, 1, (), "", (0, 1024)),
        ("/x/;UID=1/;SECTION=TEXT/;PARTIAL=100", "x", None, 1, (), "TEXT", (100, (1 << 63) - 1)),
        (";UID=20/;SECTION=1.2", None, None, 20, (1, 2), "", None),
        ("Sent/;UID=20", "a/Sent", None, 20, (), "", None),
        ("/x/;UID=1/;SECTION=HEADER.FIELDS%20(From%20To)", "x", None, 1, (), "HEADER.FIELDS", None),
        ("/a%3Bb/;UID=1", "a;b", None, 1, (), "", None),
    ],
)  # fmt: skip
def test_urls(
    url: str,
    mailbox: str | None,
    validity: int | None,
    uid: int,
    part: tuple[int, ...],
    text: str,
    partial: tuple[int, int] | None,
) -> None:
    found = parse(url.encode(), "a/b")
    assert (found.mailbox, found.validity, found.uid) == (mailbox, validity, uid)
    section = found.section
    assert (section.part, section.text, section.partial) == (part, text, partial)
    assert section.peek


@pytest.mark.parametrize(
    "url",
    [
        "", "/", "/Drafts", "/Drafts;UID=1x", "/Drafts/;UID=0", "imap://mail.example.org/Drafts/;UID=1",
        "//mail.example.org/Drafts/;UID=1", "/Drafts/;UID=4294967296", "/x/;UID=1/;SECTION=1.x",
        "/x/;UID=1/;SECTION=1]", "/x/;UID=1/;PARTIAL=1.0", "/x/;UID=1/;URLAUTH=anonymous",
        "/x;UIDVALIDITY=0/;UID=1", "/%FF/;UID=1", "/x%00/;UID=1", "/x/;UID=1?FROM", "/x/;UID=1#y",
        "/x/;UID=1/;SECTION=HEADER.FIELDS%20({1}%0D%0Ax)", "/;UID=1", "http:x/;UID=1",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_message(url: str) -> None:
    with pytest.raises(ValueError):
        parse(url.encode(), "a/b")


def test_what_needs_a_selected_mailbox() -> None:
    with pytest.raises(ValueError):
        parse(b";UID=20")
    assert parse(b"Sent/;UID=20").mailbox == "Sent"


@given(
    st.binary(max_size=40)
    | st.text(st.sampled_from("/;UID=1SECTONPARL.%2 x"), max_size=60).map(str.encode)
)
def test_no_octets_raise_anything_else(url: bytes) -> None:
    try:
        parse(url, "a")
    except ValueError:
        pass
