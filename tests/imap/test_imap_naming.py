"""Names as clients and as storage have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.imap.naming import MAX_NAME, Naming
from twisted_mail.imap.refusal import No

PLAIN = Naming()
COURIER = Naming(".", "INBOX.")


@pytest.mark.parametrize(
    ("naming", "shown", "stored"),
    [
        (PLAIN, "INBOX", "INBOX"), (PLAIN, "Sent/2024", "Sent/2024"), (PLAIN, "a.b", "a.b"),
        (PLAIN, "INBOX/a", "INBOX/a"),
        (COURIER, "INBOX", "INBOX"), (COURIER, "INBOX.Sent", "Sent"), (COURIER, "INBOX.a.b", "a/b"),
        (COURIER, "INBOX.a/b", "a.b"), (COURIER, "INBOX.INBOX.a", "INBOX/a"),
        (Naming(".", ""), "a.b", "a/b"), (Naming("/", "Mail/"), "Mail/a", "a"),
    ],
)  # fmt: skip
def test_both_ways(naming: Naming, shown: str, stored: str) -> None:
    assert naming.stored(shown) == stored
    assert naming.shown(stored) == shown
    assert naming.new(shown) == naming.existing(shown) == stored


NAMES = st.text(st.sampled_from("ab./IN"), min_size=1, max_size=6)


@given(NAMES, st.sampled_from([PLAIN, COURIER, Naming(".", ""), Naming("/", "Mail/")]))
def test_no_name_is_lost_and_none_said_twice(stored: str, naming: Naming) -> None:
    assert naming.stored(naming.shown(stored)) == stored


@pytest.mark.parametrize("name", ["inbox.Sent", "Inbox.Sent"])
def test_the_inbox_in_front_is_the_inbox_in_any_case(name: str) -> None:
    assert COURIER.stored(name) == "Sent"


def test_the_inbox_in_any_case_above_others() -> None:
    assert PLAIN.stored("inbox/a") == "INBOX/a"


@pytest.mark.parametrize("name", ["\u0131nbox", "\u0131nbox/a"])
def test_a_name_that_only_unicode_folds_to_inbox_is_another(name: str) -> None:
    """RFC 9051 section 5.1: a dotless i is another letter, though its upper case is I."""
    assert PLAIN.stored(name) == name
    assert COURIER.stored(f"\u0131nbox.{name}") == ""


@pytest.mark.parametrize("name", ["Sent", "", "INBOX.INBOX", "INBOX.inbox"])
def test_names_that_nothing_can_have(name: str) -> None:
    with pytest.raises(No) as refused:
        COURIER.existing(name)
    assert refused.value.code == "NONEXISTENT"
    with pytest.raises(No) as refused:
        COURIER.new(name)
    assert refused.value.code == "CANNOT"


@pytest.mark.parametrize(
    ("name", "code"),
    [("", "CANNOT"), ("/", "CANNOT"), ("a//b", "CANNOT"), ("/a", "CANNOT"), ("a\x00", "CANNOT"),
     ("a\u2028b", "CANNOT"), ("a/" * 20 + "a", "LIMIT"), ("ä" * (MAX_NAME // 2 + 1), "LIMIT")],
)  # fmt: skip
def test_names_that_cannot_be_made(name: str, code: str) -> None:
    with pytest.raises(No) as refused:
        PLAIN.new(name)
    assert refused.value.code == code


def test_a_separator_at_the_end_says_nothing() -> None:
    assert PLAIN.new("a/b/") == "a/b"
    assert COURIER.new("INBOX.a.") == "a"
    assert COURIER.new("INBOX.") == "INBOX"
    assert PLAIN.new("a/" * 19 + "a") == "a/" * 19 + "a"
