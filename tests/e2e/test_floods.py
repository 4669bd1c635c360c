"""Floods of a real server, in short: `bench/floods.py` with some hundred connections.

Nothing here depends on speed: every legitimate session succeeds, what was answered 250 is there, memory stays under the
bound that the bench states, and the server is up.
"""

from __future__ import annotations

import json
import os
import resource
import smtplib
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from mailsite import DEADLINE, Site, until

pytestmark = pytest.mark.e2e

BENCH = Path(__file__).resolve().parents[2] / "bench" / "floods.py"


def test_legitimate_sessions_go_on_in_every_flood(tmp_path: Path) -> None:
    report = tmp_path / "floods.json"
    command = [sys.executable, str(BENCH), "--seconds", "2", "--ramp", "1", "--parts", "1"]
    done = subprocess.run(
        [*command, "--connections", "400", "--json", str(report)],
        capture_output=True,
        text=True,
        timeout=10 * DEADLINE,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
    )
    assert report.exists(), done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["alive"]
    assert {row["case"] for row in found["rows"]} == {
        *("nothing", "open", "slow", "connects", "never-reading", "harvesting", "guessing"),
    }
    for row in found["rows"]:
        assert row["failed"] == 0, row
        assert row["sessions"] > 0, row
        assert row["memory_mb"] <= found["bound_mb"], row
    assert 0 < found["answered"] <= found["there"]


def test_a_process_that_has_no_file_left_serves_again_when_it_has(
    make_site: Callable[..., Site],
) -> None:
    """More come than it may have files open: they are sent away, and nobody of those who were in is lost."""
    site = make_site(extra="[limits]\nconnections_per_address = 1000\n")
    site.start()
    assert site.process is not None
    pid = site.process.pid
    inside = smtplib.SMTP("127.0.0.1", site.ports["smtp"], timeout=DEADLINE)
    open_now = len(os.listdir(f"/proc/{pid}/fd"))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now + 20, before[1]))
    with ExitStack() as stack:
        for _ in range(100):
            one = stack.enter_context(socket.socket())
            one.settimeout(DEADLINE)
            one.connect(("127.0.0.1", site.ports["smtp"]))
        assert inside.noop()[0] == 250
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

    def greeted() -> bool:
        try:
            with smtplib.SMTP("127.0.0.1", site.ports["smtp"], timeout=DEADLINE) as session:
                return session.noop()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False

    until(greeted, lambda: site.log[-2000:])
    assert inside.noop()[0] == 250
    inside.close()
