"""Stores of tests lie in memory where that can be had: what they sync is simulated, or counted, not waited for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_site import running, scratch


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    yield
    while running:
        running.pop().kill()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    path = scratch()
    yield Path(path)
    shutil.rmtree(path, ignore_errors=True)
