"""Commands that ask for more than anybody needs: what they cost is bounded, whatever is in them."""

from __future__ import annotations

import pytest
from hostile import at_most
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.connection.interfaces import NEED_DATA
from twisted_mail.imap import fetch_sections
from twisted_mail.imap.engine import Engine
from twisted_mail.imap.events import Invalid, Terms
from twisted_mail.imap.fetching import BodySection
from twisted_mail.imap.lines import MANY_LITERALS


def fields(names: list[bytes], *, only: bool = True) -> BodySection:
    text = "HEADER.FIELDS" if only else "HEADER.FIELDS.NOT"
    return BodySection((), text, tuple(names), True, None, b"")


LINES = st.sampled_from(
    [
        b"To: x\n",
        b"to : y\n",
        b" folded\n",
        b"\tx: y\n",
        b"no field\n",
        b"X-1:\n",
        b"x-11: 2\r\n",
        b":\n",
        b"to\n",
    ]
)


@given(
    st.lists(LINES).map(b"".join),
    st.lists(st.sampled_from([b"TO", b"x-1", b"X-11", b"a"]), min_size=1),
    st.booleans(),
)
def test_many_names_pick_the_same_fields_as_few(
    header: bytes, names: list[bytes], only: bool
) -> None:
    few = fetch_sections.picker(fields(names, only=only))(header)
    many = names + [b"none-%d" % number for number in range(fetch_sections.FEW)]
    assert fetch_sections.picker(fields(many, only=only))(header) == few


@pytest.mark.parametrize("only", [True, False])
def test_thousands_of_names_do_not_cost_as_often_the_header(only: bool) -> None:
    names = [b"x%d" % number for number in range(8000)]
    with at_most(6.0):
        fetch_sections.picker(fields(names, only=only))(b"x-:\n" * 1_000_000)


def test_a_refused_command_of_empty_literals_goes_by_in_steps() -> None:
    engine = Engine()
    engine.resume(Terms(True, False))
    engine.receive(b"a SEARCH" + b" {0+}\r\n" * 10_000)
    reports = 0
    while (event := engine.next_event()) is not NEED_DATA:
        assert isinstance(event, Invalid)
        assert event.code == "LIMIT"
        reports += 1
        engine.resume()
    assert reports == (10_000 - 101) // MANY_LITERALS
