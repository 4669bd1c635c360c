"""What all tests share: how hypothesis runs, and the seed of a storm that is to be run again."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="the storm to run, in place of the usual ones")
    parser.addoption("--happenings", type=int, default=40, help="how many in each storm")
