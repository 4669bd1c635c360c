"""All targets for some thousand runs, guided by coverage, in CI where atheris is installed. Hours: nox -s fuzz.

The same runs each time: what CI says of a commit is not a matter of luck. New inputs are looked for by nox -s fuzz."""

from __future__ import annotations

import importlib.util
import os
import shutil
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
RUNS = 2000
"""Of one module, its corpus among them; each input goes to all its targets. Some ten seconds on a quiet machine."""


def _fuzz(name: str, crashes: Path) -> tuple[str, int, str]:
    done = subprocess.run(
        [
            # Where the code lies in memory is a part of what guides it.
            *(("setarch", "-R") if shutil.which("setarch") else ()),
            *(sys.executable, str(HERE / "run.py"), name, "--runs", str(RUNS), "--seed", "1"),
            # Not a matter of speed, here: other tests may be running.
            *("--seconds", "600", "--slow", "120", "--crashes", str(crashes)),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return name, done.returncode, done.stdout + done.stderr


def test_each_module_for_some_thousand_runs(tmp_path: Path) -> None:
    assert set(MODULES) == set(TARGETS)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        done = list(pool.map(lambda name: _fuzz(name, tmp_path), sorted(set(MODULES.values()))))
    failed = [said for _, status, said in done if status]
    assert not failed, "\n\n".join(failed)
    # It was the fuzzer that ran, and it saw our code.
    for name, _, said in done:
        assert "runs, cov: " in said, f"{name}: {said}"
