"""Header fields from filters: fit to stand in a message, and put where they belong."""

from __future__ import annotations

import pytest
from filtering import ALICE, BOB
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.address import Address
from twisted_mail.filters.edits import (
    MAX_FIELDS,
    apply_edits,
    field_name,
    field_value,
    make_field,
    recipients_after,
)
from twisted_mail.filters.interfaces import Add, Change, Delete, Insert, Opinion, Recipient
from twisted_mail.message import headers

FIELDS = [b"A: 1\n", b"B: 2\n", b"a : 3\n", b"C: 4\n"]


def test_added_at_the_end():
    assert apply_edits(FIELDS, [Add(b"X: 1\n")]) == [*FIELDS, b"X: 1\n"]


@pytest.mark.parametrize(("at", "where"), [(0, 0), (1, 1), (4, 4), (99, 4), (10**20, 4), (-3, 0)])
def test_inserted(at, where):
    expected = [*FIELDS[:where], b"X: 1\n", *FIELDS[where:]]
    assert apply_edits(FIELDS, [Insert(at, b"X: 1\n")]) == expected


def test_changed_and_deleted_by_name_and_number():
    assert apply_edits(FIELDS, [Change(b"a", 2, b"A: new\n")])[2] == b"A: new\n"
    assert apply_edits(FIELDS, [Change(b"a", 3, b"A: new\n")]) == [*FIELDS, b"A: new\n"]
    assert apply_edits(FIELDS, [Delete(b"a", 1)]) == FIELDS[1:]
    assert apply_edits(FIELDS, [Delete(b"a", 0)]) == [b"B: 2\n", b"C: 4\n"]
    assert apply_edits(FIELDS, [Delete(b"a", -1)]) == [b"A: 1\n", b"B: 2\n", b"C: 4\n"]
    assert apply_edits(FIELDS, [Delete(b"nobody", 1), Delete(b"a", 9)]) == FIELDS


def test_numbers_move_as_fields_go():
    assert apply_edits(FIELDS, [Delete(b"a", 1), Delete(b"a", 1)]) == [b"B: 2\n", b"C: 4\n"]
    assert apply_edits(FIELDS, [Delete(b"a", 2), Delete(b"a", 1)]) == [b"B: 2\n", b"C: 4\n"]


def test_many_fields_of_one_name_deleted_one_by_one():
    flood = [b"A: 1\n"] * 100_000
    assert apply_edits(flood, [Delete(b"a", n) for n in range(100_000, 1, -1)]) == [b"A: 1\n"]
    assert apply_edits(flood, [Delete(b"a", 1)] * 2000) == flood[2000:]


def test_number_of_fields_is_bounded():
    for edit in (Add(b"X: 1\n"), Change(b"x", 99_999, b"X: 1\n")):
        assert len(apply_edits(FIELDS, [edit] * (MAX_FIELDS + 5))) == MAX_FIELDS
    many = [b"A: 1\n"] * (MAX_FIELDS + 1)
    assert apply_edits(many, [Add(b"X: 1\n"), Insert(0, b"X: 1\n")]) == many


def test_folds_are_mended():
    assert make_field(b"X", b"a\r\nb\n c\n\n\t\nd\r") == b"X: a\n\tb\n c\n\td\n"
    assert make_field(b"X", b"a\0b") == b"X: ab\n"
    assert make_field(b"X", b" a", space=False) == b"X: a\n"
    for name in (b"", b"a b", b"a:", b"a\n", b"\xc3\xa4"):
        with pytest.raises(ValueError):
            make_field(name, b"x")


@given(st.binary(min_size=1, max_size=20), st.binary(max_size=60), st.booleans())
def test_no_bytes_make_anything_but_one_field(name, value, space):
    try:
        field = make_field(name, value, space=space)
    except ValueError:
        return
    assert [one[0] for one in headers.fields(field)] == [name.lower()]
    assert headers.split(field + b"\nbody") == (field, b"\nbody")
    assert field_name(field) == name.lower()
    assert b"\n" + field_value(field) + b"\n" in b"\n" + field.split(b":", 1)[1]


def test_recipients():
    carol = Recipient(Address.parse("carol@example.net"), ("NOTIFY=NEVER",))
    opinion = Opinion(added=(carol, Recipient(BOB), carol), deleted=(ALICE,))
    left, new = recipients_after([Recipient(ALICE), Recipient(BOB)], opinion)
    assert left == (Recipient(BOB),)
    assert new == (carol,)
