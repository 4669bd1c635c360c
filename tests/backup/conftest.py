"""Sites as the tests of storage have them, and their directories in memory."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "storage"))
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
