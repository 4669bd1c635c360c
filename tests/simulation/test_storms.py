"""Storms over a whole site, from seeds: ``pytest tests/simulation/test_storms.py --seed 123`` runs that one again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from twisted_mail.testing.storm import Storm

SEEDS = range(1, 6)
HAPPENINGS = 40


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        given = metafunc.config.getoption("--seed")
        metafunc.parametrize("seed", SEEDS if given is None else [given])


def weather(directory: Path, seed: int, happenings: int) -> Storm:
    """One storm; what led to it is printed when a promise is broken."""
    directory.mkdir()
    storm = Storm(directory, seed=seed)
    try:
        storm.run(happenings)
        storm.end()
    except BaseException:
        print(f"seed {seed}:", *storm.happenings, sep="\n")
        raise
    return storm


def test_a_storm(tmp_path: Path, seed: int) -> None:
    storm = weather(tmp_path / "storm", seed, HAPPENINGS)
    assert storm.truth.looks


def test_the_same_seed_is_the_same_storm(tmp_path: Path) -> None:
    def told(directory: Path) -> object:
        storm = weather(directory, 1, 15)
        return storm.happenings, storm.root.now(), storm.elsewhere.taken

    assert told(tmp_path / "first") == told(tmp_path / "second")


@pytest.mark.soak
def test_storms_for_an_hour(tmp_path: Path) -> None:
    """``nox -s soak``: new seeds until the time is up."""
    end = time.monotonic() + float(os.environ.get("SOAK_SECONDS", "3600"))
    seed = int(os.environ.get("SOAK_SEED") or int.from_bytes(os.urandom(4)))
    storms, days, cuts, kills, letters = 0, 0.0, 0, 0, 0
    while time.monotonic() < end:
        storm = weather(tmp_path / str(seed), seed, 150)
        storms, days = storms + 1, days + storm.days
        cuts, kills = cuts + storm.cuts, kills + storm.kills
        letters += len(storm.truth.letters)
        seed += 1
    print(
        f"{storms} storms, {days / 365:.1f} simulated years, {letters} letters, {cuts} power cuts, {kills} kills"
    )
