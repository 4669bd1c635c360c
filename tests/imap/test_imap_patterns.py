"""Patterns of LIST against what RFC 9051 says they mean, said slowly; and never slowly themselves."""

from __future__ import annotations

import re
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.imap.patterns import matcher


@pytest.mark.parametrize(
    ("pattern", "name", "wanted"),
    [
        ("*", "a/b", True), ("%", "a", True), ("%", "a/b", False), ("a/%", "a/b", True),
        ("a/%", "a/b/c", False), ("a/%", "a/", True), ("%/c", "b/c", True), ("%/c", "a/b/c", False),
        ("*/c", "a/b/c", True), ("a*", "a", True), ("%a%", "bab", True), ("%*", "a/b", True),
        ("", "", True), ("", "a", False), ("ab", "a", False), ("ä*", "äß", True),
        ("inbox", "INBOX", True), ("iNb%", "INBOX", True), ("inbox/%", "INBOX/a", True),
        ("inbox/a", "INBOX/A", False), ("INBOX/a", "INBOX/a", True), ("inbox", "inboxes", False),
        ("inboxe*", "INBOXes", False), ("i*x", "INBOX", True), ("%x", "INBOX", True), ("a.c", "abc", False),
        ("ınbox", "ınbox", True), ("ınbox/a", "ınbox/a", True), ("ınbox", "INBOX", False),
    ],
)  # fmt: skip
def test_patterns(pattern: str, name: str, wanted: bool) -> None:
    assert matcher([pattern], "/")(name) is wanted


def test_the_separator_is_what_a_percent_stops_at() -> None:
    assert matcher(["%"], ".")("a/b")
    assert not matcher(["%x*"], ".")("a.xb")


TEXT = st.text(st.sampled_from("ab/IiNnBbOoXx"), max_size=9) | st.sampled_from(["INBOX", "INBOX/a"])
PATTERN = st.text(st.sampled_from("ab/*%iINbBoOxX"), max_size=7)


@given(st.lists(PATTERN, max_size=4), TEXT)
def test_against_a_regular_expression(patterns: list[str], name: str) -> None:
    def slowly(pattern: str) -> bool:
        how = {"*": ".*", "%": "[^/]*"}
        expression = "".join(how.get(one, re.escape(one)) for one in pattern)
        if re.fullmatch(expression, name):
            return True
        if name != "INBOX" and not name.startswith("INBOX/"):
            return False
        # any spelling of the first five letters
        spellings = {name[:5]}
        for n in range(5):
            spellings |= {one[:n] + one[n].lower() + one[n + 1 :] for one in spellings}
        return any(re.fullmatch(expression, one + name[5:]) for one in spellings)

    assert matcher(patterns, "/")(name) is any(map(slowly, patterns))


def test_no_pattern_takes_long() -> None:
    hostile = "*a" * 2000 + "b"
    matches = matcher([hostile, "%a" * 2000, "*a%b" * 500], "/")
    before = process_time()
    for _ in range(20):
        assert not matches("a" * 1000)
    # by backtracking it would be the age of the universe
    assert process_time() - before < 10
