"""Storms over a whole site, from seeds: ``pytest tests/simulation/test_storms.py --seed 123`` runs that one again."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from twisted_mail.testing.storm import Storm

SEEDS = range(1, 5)
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
        again = f"pytest tests/simulation/test_storms.py --seed {seed}"
        if happenings != HAPPENINGS:
            again += f" --happenings {happenings}"
        print(f"again: {again}", *storm.happenings, sep="\n")
        raise
    return storm


def test_a_storm(tmp_path: Path, seed: int, request: pytest.FixtureRequest) -> None:
    storm = weather(tmp_path / "storm", seed, request.config.getoption("--happenings"))
    assert storm.truth.looks


def test_the_same_seed_is_the_same_storm(tmp_path: Path) -> None:
    def told(directory: Path) -> object:
        storm = weather(directory, 1, 15)
        return storm.happenings, storm.root.now(), storm.elsewhere.taken

    assert told(tmp_path / "first") == told(tmp_path / "second")


@pytest.mark.soak
def test_storms_for_an_hour(tmp_path: Path) -> None:
    """``nox -s soak``: new seeds until the time is up. What it prints at its end is for ``docs/reliability.md``."""
    end = time.monotonic() + float(os.environ.get("SOAK_SECONDS", "3600"))
    seed = int(os.environ.get("SOAK_SEED") or int.from_bytes(os.urandom(4)))
    print(f"seeds from {seed}", flush=True)
    total: Counter[str] = Counter()
    days = 0.0
    try:
        while time.monotonic() < end:
            storm = weather(tmp_path / str(seed), seed, 150)
            days += storm.days
            total.update(
                {
                    "storms": 1,
                    "happenings": sum(storm.counts.values()),
                    "letters": len(storm.truth.letters),
                    "looks at a mailbox": storm.truth.looks,
                    "power cuts": storm.cuts,
                    "kills": storm.kills,
                    "clean stops": storm.stops,
                    "disk faults": storm.counts["fault"],
                    "clocks set": storm.counts["set_clock"],
                }
            )
            seed += 1
    finally:
        words = ", ".join(f"{count} {name}" for name, count in total.items())
        print(f"\n{words}, {days / 365:.2f} simulated years", flush=True)
