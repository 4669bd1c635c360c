"""The corpus, and what once broke something, through every target: the short form of fuzzing, without a fuzzer."""

from __future__ import annotations

import pytest
from fuzz_targets import TARGETS
from keeping import CORPUS, FOUND, read_corpus, read_found


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_what_is_in_the_corpus(name: str) -> None:
    run = TARGETS[name].run
    for data in [b"", b"\0", b"\xff" * 20, *read_corpus(name)]:
        try:
            run(data)
        except Exception as error:
            error.add_note(f"the input was {data!r}")
            raise


FAULTS = [(name, fault) for name in sorted(TARGETS) for fault in read_found(name)]


@pytest.mark.parametrize(
    ("name", "fault"), FAULTS or [pytest.param("", "", marks=pytest.mark.skip)]
)
def test_what_was_found(name: str, fault: str) -> None:
    TARGETS[name].run(read_found(name)[fault])


def test_all_that_is_kept_belongs_to_a_target() -> None:
    assert {path.stem for path in CORPUS.glob("*.txt")} <= set(TARGETS)
    assert {path.name for path in FOUND.glob("*")} <= set(TARGETS)
    # The repository is read by people: a corpus that grows without end is minimised instead.
    assert sum(path.stat().st_size for path in CORPUS.glob("*.txt")) < 600_000
