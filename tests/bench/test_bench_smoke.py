"""What bench/smoke says about figures: grown by more than a tenth is a failure, whatever Python's build."""

from __future__ import annotations

import pytest
import smoke
from hypothesis import given
from hypothesis import strategies as st

STORED = {"loop": 1000.0, "SMTP": 2_000_000.0, "POP3": 300_000.0}


def test_the_same_is_no_failure():
    assert smoke.judge(STORED, STORED)[1] is False


@pytest.mark.parametrize(("grown", "failed"), [(1.09, False), (1.11, True), (0.5, False)])
def test_a_tenth_more_is_a_failure(grown, failed):
    lines, found = smoke.judge(STORED, STORED | {"SMTP": 2_000_000.0 * grown})
    assert found is failed
    assert any("too much" in line for line in lines) is failed


@given(st.floats(0.5, 2.0))
def test_a_python_that_needs_more_for_everything_is_no_failure(factor):
    measured = {case: value * factor for case, value in STORED.items()}
    assert smoke.judge(STORED, measured)[1] is False


def test_a_case_that_is_new_is_shown_and_no_failure():
    lines, failed = smoke.judge(STORED, STORED | {"IMAP": 1.0})
    assert not failed
    assert any(line.startswith("IMAP") for line in lines)


def test_a_case_that_went_missing_is_a_failure():
    measured = {case: value for case, value in STORED.items() if case != "POP3"}
    assert smoke.judge(STORED, measured)[1] is True


def test_another_python_is_not_judged():
    stored = {"python": "3.11.7", "instructions": STORED}
    assert smoke.incomparable(stored, "3.11.2", STORED) == ""
    assert "3.12.1" in smoke.incomparable(stored, "3.12.1", STORED)
    assert "loop" in smoke.incomparable(stored, "3.11.2", STORED | {"loop": 800.0})


def test_callgrinds_totals_are_read(tmp_path):
    part = tmp_path / "callgrind.out.1"
    part.write_text("version: 1\nevents: Ir\nsummary: 4711\n\nfn=x\n1 2\ntotals: 4711\n")
    assert smoke._total(part) == 4711
