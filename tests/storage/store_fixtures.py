"""Fixtures of tests that have a `store_site.Site`: it ends with its test, and lies in memory where that can be had."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_site import made, running, scratch

__all__ = ["nothing_is_left_open", "tmp_path"]


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    yield
    while running:
        running.pop().kill()
    while made:
        shutil.rmtree(made.pop(), ignore_errors=True)


@pytest.fixture
def tmp_path() -> Path:
    return Path(scratch())
