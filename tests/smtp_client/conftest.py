"""What the client logs is part of what it does: no failure may be among it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import capturedLogs


@pytest.fixture(autouse=True)
def log() -> Iterator[list[dict[str, Any]]]:
    """All events of the test. A failure left in it fails the test."""
    with capturedLogs() as events:
        yield events
        gc.collect(1)  # a Deferred logs its unhandled error when it goes
    assert [event for event in events if "log_failure" in event] == []
