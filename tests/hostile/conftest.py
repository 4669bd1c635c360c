from __future__ import annotations

from collections.abc import Iterator

import pytest
from hostile import Site


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
