"""Stores of tests lie in memory where that can be had: what they sync is simulated, or counted, not waited for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store_site import made, running, scratch
from twisted.logger import formatEvent, globalLogPublisher


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    yield
    while running:
        running.pop().kill()
    while made:
        shutil.rmtree(made.pop(), ignore_errors=True)


@pytest.fixture
def tmp_path() -> Path:
    return Path(scratch())


@pytest.fixture
def told() -> Iterator[Callable[[str], list[str]]]:
    """What has been logged, the lines with a text in them."""
    lines: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lambda text: [line for line in lines if text in line]
    globalLogPublisher.removeObserver(observe)
