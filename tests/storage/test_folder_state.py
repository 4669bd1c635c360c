"""The state file of a folder lies among the user's mail, where any program of his can write: whatever is in it is a
state that can be told to clients, or none.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.storage.maildir import MAX_MODSEQ, MAX_UID, FolderState, parse_state

WHOLE = {"folder": "0f3a", "uidvalidity": 7, "uid_ceiling": 10_001, "modseq_ceiling": 9}


def test_what_we_write() -> None:
    assert parse_state(json.dumps(WHOLE).encode()) == FolderState("0f3a", 7, 10_001, 9)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[" * 60_000,
        b'{"folder":' * 10_000,
        b'{"folder": "a", "uidvalidity": 1e999, "uid_ceiling": 1}',
        b'{"folder": "a", "uidvalidity": ' + b"9" * 5000 + b', "uid_ceiling": 1}',
        b"\xff\xfe{}",
    ],
)
def test_what_is_no_state(text: bytes) -> None:
    assert parse_state(text) is None


@pytest.mark.parametrize(
    "odd",
    [
        {"uidvalidity": 0},
        {"uidvalidity": 1 << 32},
        {"uidvalidity": -7},
        {"uid_ceiling": 0},
        {"uid_ceiling": (1 << 32) + 1},
        {"modseq_ceiling": 0},
        {"modseq_ceiling": 1 << 63},
        {"taken_over": -1},
        {"validities": 1 << 32},
        {"folder": "x) y\r\n* BYE"},
        {"folder": ["x"]},
        {"special_use": ["\\Sent) x"]},
        {"special_use": 5},
    ],
)
def test_a_number_or_a_word_that_no_client_could_be_told(odd: dict[str, object]) -> None:
    assert parse_state(json.dumps({**WHOLE, **odd}).encode()) is None


VALUES = (
    st.none()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.lists(st.text(max_size=9), max_size=2)
)


@given(st.dictionaries(st.sampled_from([*WHOLE, "special_use", "name", "validities"]), VALUES))
def test_any_values(some: dict[str, object]) -> None:
    state = parse_state(json.dumps({**WHOLE, **some}).encode())
    if state is not None:
        assert 0 < state.validity <= MAX_UID
        assert 0 < state.modseq_ceiling <= MAX_MODSEQ
        assert " " not in state.folder
