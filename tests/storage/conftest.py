"""Stores of tests lie in memory where that can be had: what they sync is simulated, or counted, not waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from store_fixtures import nothing_is_left_open, tmp_path
from twisted.logger import formatEvent, globalLogPublisher

__all__ = ["nothing_is_left_open", "tmp_path"]


@pytest.fixture
def told() -> Iterator[Callable[[str], list[str]]]:
    """What has been logged, the lines with a text in them."""
    lines: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lambda text: [line for line in lines if text in line]
    globalLogPublisher.removeObserver(observe)
