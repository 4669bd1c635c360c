from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import Site

# The inputs are those of bench/bounds.py, whose modules lie beside it.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.stop()


@pytest.fixture(scope="module")
def long_site(tmp_path_factory) -> Iterator[Site]:
    """One for all tests of a module."""
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.stop()
