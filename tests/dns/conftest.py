from __future__ import annotations

import pytest

from twisted_mail.testing.dns import Zone
from twisted_mail.testing.nameserver import running_nameserver


@pytest.fixture(scope="session")
def server():
    """A name server in a process of its own, and where it can be asked."""
    with running_nameserver(Zone()) as server:
        yield server
