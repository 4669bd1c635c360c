"""What bench/smoke says about figures: grown by more than a tenth is a failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import smoke

STORED = {"loop": 1000.0, "SMTP": 2_000_000.0, "POP3": 300_000.0}


def test_the_same_is_no_failure():
    assert smoke.judge(STORED, STORED)[1] is False


@pytest.mark.parametrize(("grown", "failed"), [(1.09, False), (1.11, True), (0.5, False)])
def test_a_tenth_more_is_a_failure(grown, failed):
    lines, found = smoke.judge(STORED, STORED | {"SMTP": 2_000_000.0 * grown})
    assert found is failed
    assert any("too much" in line for line in lines) is failed


def test_a_case_that_is_new_is_shown_and_no_failure():
    lines, failed = smoke.judge(STORED, STORED | {"IMAP": 1.0})
    assert not failed
    assert any(line.startswith("IMAP") for line in lines)


def test_a_case_that_went_missing_is_a_failure():
    measured = {case: value for case, value in STORED.items() if case != "POP3"}
    assert smoke.judge(STORED, measured)[1] is True


def test_other_figures_are_told_from_those_of_this_machine():
    here = smoke.build()
    stored = {"build": here, "instructions": STORED}
    assert smoke.another(stored, here, STORED) == ""
    assert smoke.another(stored, here, STORED | {"loop": 1019.0}) == ""
    assert "loop" in smoke.another(stored, here, STORED | {"loop": 1030.0})
    assert "loop" in smoke.another(stored, here, STORED | {"loop": 970.0})
    for name in here:
        assert name in smoke.another(stored, here | {name: "another"}, STORED)
    assert smoke.another({"instructions": STORED}, here, STORED) != ""


def test_of_two_measurements_the_cheaper_counts():
    assert smoke.least({"a": 2.0, "b": 1.0}, {"a": 1.5, "b": 3.0}) == {"a": 1.5, "b": 1.0}


def test_the_stored_figures_have_what_is_asked_of_them():
    stored = json.loads(Path(smoke.__file__).with_suffix(".json").read_text())
    assert set(stored["build"]) == set(smoke.build())
    assert smoke.judge(stored["instructions"], stored["instructions"])[1] is False
    assert stored["instructions"]["loop"] > 0


def test_callgrinds_totals_are_read(tmp_path):
    part = tmp_path / "callgrind.out.1"
    part.write_text("version: 1\nevents: Ir\nsummary: 4711\n\nfn=x\n1 2\ntotals: 4711\n")
    assert smoke._total(part) == 4711
