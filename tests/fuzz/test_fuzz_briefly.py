"""All targets for some seconds, guided by coverage: minutes in CI where atheris is installed. Hours: nox -s fuzz."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fuzz_targets import TARGETS
from fuzzing import HERE
from run import MODULES

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None, reason="needs atheris: pip install .[fuzz]"
    ),
]
SECONDS = 8
"""Of one module, after it was loaded and has read its corpus; each input goes to all its targets."""


def _fuzz(name: str, crashes: Path) -> tuple[str, int, str]:
    done = subprocess.run(
        [
            *(sys.executable, str(HERE / "run.py"), name),
            # Not a matter of speed or of luck, here: other tests may be running.
            *("--seconds", str(SECONDS), "--slow", "120", "--seed", "1", "--crashes", str(crashes)),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return name, done.returncode, done.stdout + done.stderr


def test_each_module_for_some_seconds(tmp_path: Path) -> None:
    assert set(MODULES) == set(TARGETS)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        done = list(pool.map(lambda name: _fuzz(name, tmp_path), sorted(set(MODULES.values()))))
    failed = [said for _, status, said in done if status]
    assert not failed, "\n\n".join(failed)
    # It was the fuzzer that ran, and it saw our code.
    for name, _, said in done:
        assert "runs, cov: " in said, f"{name}: {said}"
