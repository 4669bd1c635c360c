"""Rounds: every job in turn, the first round alone for some, and who fails is left out while the others go on."""

from __future__ import annotations

import pytest
from rounds import Job, repeated
from table import Noise, Row


class Peer:
    def __init__(self, name: str) -> None:
        self.name = name


def job(name: str, *, once: bool = False, fails: bool = False) -> Job:
    def measured(turn):
        yield Row(name, "case", {"rate": 1.0}, Noise(1, 1, 1, 1))
        if fails:
            raise ValueError("not what was expected")

    return Job(Peer(name), measured, once)


def seen(rows: list[Row]) -> list[tuple[int, str]]:
    return [(row.turn, row.peer) for row in rows]


def test_each_round_has_every_job_in_turn():
    rows: list[Row] = []
    assert not repeated([0, 1], [job("a"), job("b")], rows)
    assert seen(rows) == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]


def test_what_no_target_is_about_is_measured_once():
    rows: list[Row] = []
    repeated([0, 1, 2], [job("a"), job("slow", once=True)], rows)
    assert seen(rows) == [(0, "a"), (0, "slow"), (1, "a"), (2, "a")]


@pytest.mark.parametrize(("name", "failed"), [("ours-1", True), ("other", False)])
def test_who_fails_is_left_out_and_said(name, failed, capsys):
    rows: list[Row] = []
    assert repeated([0, 1], [job(name, fails=True), job("b")], rows) is failed
    assert seen(rows) == [(0, name), (0, "b"), (1, "b")]
    assert f"{name}: failed: ValueError" in capsys.readouterr().out
