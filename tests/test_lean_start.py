"""What a server does not import before it needs it: its start, and that of a worker, is the sum of what they import."""

from __future__ import annotations

import subprocess
import sys

import pytest

NOT_AT_START = {
    # each for those who have it, or when it happens
    "click": "mailctl",
    "difflib": "a mistake in the configuration",
    "dns": "the first question to the DNS",
    "josepy": "tls.acme",
    "acme": "tls.acme",
    "publicsuffixlist": "DMARC",
    "rich": "mailctl",
    "jinja2": "web pages",
    "twisted.conch": "nobody",
    "twisted.names": "nobody",
    "twisted.web": "the web port",
    "twisted_mail.acme": "tls.acme",
    "twisted_mail.cli": "mailctl",
    "twisted_mail.filters.clamd": "a filter of that kind",
    "twisted_mail.filters.milter": "a filter of that kind",
    "twisted_mail.filters.rspamd": "a filter of that kind",
    "twisted_mail.filters.spamd": "a filter of that kind",
    "twisted_mail.testing": "tests",
    "twisted_mail.web": "the web port",
}
IN_NO_WORKER = {
    "pdb",
    "twisted_mail.carrying",
    "twisted_mail.cli",
    "twisted_mail.duties",
    "twisted_mail.queue",
    "twisted_mail.remote",
    "twisted_mail.reports.sending",
    "twisted_mail.server",
    "twisted_mail.service",
    "twisted_mail.smtp.client",
    "twisted_mail.tap",
    "twisted_mail.workers.supervisor",
}


def imported(*modules: str) -> set[str]:
    """What a new Python has imported then."""
    code = f"import sys, {', '.join(modules)}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def at_start() -> set[str]:
    return imported("twisted_mail.tap", "twisted_mail.server")


def test_the_server_is_there(at_start: set[str]) -> None:
    assert {"twisted_mail.tap", "twisted_mail.service", "twisted_mail.factories"} <= at_start


@pytest.mark.parametrize("module", NOT_AT_START)
def test_not_imported_at_start(at_start: set[str], module: str) -> None:
    assert module not in at_start, f"that is for: {NOT_AT_START[module]}"


def test_not_imported_by_a_worker() -> None:
    found = imported("twisted_mail.workers.worker")
    assert "twisted_mail.serving" in found
    assert not found & (NOT_AT_START.keys() | IN_NO_WORKER)
    assert {"twisted_mail.workers.supervisor", "twisted_mail.service"} <= imported(
        "twisted_mail.workers.fleet"
    )
