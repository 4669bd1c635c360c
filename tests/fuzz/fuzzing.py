"""What all targets share: how one is named, how its input is cut into pieces, what answers must look like.

A target takes any octets and returns, or raises: an exception that is no promise of what it calls, or an assertion that
one of its properties does not hold. It needs no fuzzer: `test_fuzz_corpus.py` runs them all, on what has been found so
far; `run.py` looks for more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from twisted.logger import globalLogPublisher

__all__ = ["HERE", "TARGETS", "Target", "cut", "finished", "nothing_failed", "several", "target"]

HERE = Path(__file__).parent

# The fakes of other tests. pytest finds them by itself; a script does not.
for _area in ("smtp", "pop3", "imap", "policy"):
    if str(HERE.parent / _area) not in sys.path:
        sys.path.append(str(HERE.parent / _area))


class Target(NamedTuple):
    """`dictionary`: a file of dictionaries/ without its ending, or ""; `longest`: octets of an input."""

    name: str
    run: Callable[[bytes], None]
    dictionary: str
    longest: int
    module: str


TARGETS: dict[str, Target] = {}
_failures: list[Any] = []


def _observe(event: dict[str, Any]) -> None:
    if "log_failure" in event:
        _failures.append(event["log_failure"])


def nothing_failed() -> None:
    """For a target: nothing that nobody foresaw has been logged since it began."""
    if _failures:
        failure = _failures.pop()
        raise AssertionError(failure.getTraceback()) from failure.value


def _watched(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Only while it runs: a failure holds on to all that its frames had, such as files."""

    def watched(data: bytes) -> None:
        globalLogPublisher.addObserver(_observe)
        try:
            run(data)
        finally:
            globalLogPublisher.removeObserver(_observe)
            _failures.clear()

    return watched


def target(
    dictionary: str = "", longest: int = 4096
) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Make a function a target by its own name."""

    def known(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
        assert run.__name__ not in TARGETS
        TARGETS[run.__name__] = Target(
            run.__name__, _watched(run), dictionary, longest, run.__module__
        )
        return run

    return known


def cut(stream: bytes, seed: int) -> Iterator[bytes]:
    """The stream in pieces, none empty: at each octet for seed 0, else in sizes that the seed chooses."""
    at = 0
    state = seed
    while at < len(stream):
        size = 1
        if seed:
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF
            size = 1 + (state >> 16) % (4 if seed & 1 else 61)
        yield stream[at : at + size]
        at += size


def several(data: bytes, most: int) -> list[bytes]:
    """The input as `most` values, cut at its first octets 0xFF; those that are missing are empty."""
    parts = data.split(b"\xff", most - 1)
    return parts + [b""] * (most - len(parts))


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("it waits")
