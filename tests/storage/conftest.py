"""Stores of tests lie in memory where that can be had: what they sync is simulated, or counted, not waited for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_site import made, running, scratch


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
