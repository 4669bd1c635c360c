"""Sites that are closed again."""

from __future__ import annotations

import pytest
from mailroom import Site


@pytest.fixture
def open_site(tmp_path):
    opened = []

    def open_one(**options):
        opened.append(Site(str(tmp_path), **options))
        return opened[-1]

    yield open_one
    for site in opened:
        site.close()


@pytest.fixture
def site(open_site):
    return open_site()
