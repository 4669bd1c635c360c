"""Floods of a real server, in short: `bench/floods.py` with some hundred connections.

Nothing here depends on speed: every legitimate session succeeds, what was answered 250 is there, memory stays under the
bound that the bench states, and the server is up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

BENCH = Path(__file__).resolve().parents[2] / "bench" / "floods.py"


def test_legitimate_sessions_go_on_in_every_flood(tmp_path: Path) -> None:
    report = tmp_path / "floods.json"
    command = [sys.executable, str(BENCH), "--seconds", "2", "--ramp", "1", "--parts", "1"]
    done = subprocess.run(
        [*command, "--connections", "400", "--json", str(report)],
        capture_output=True,
        text=True,
        timeout=240,
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
