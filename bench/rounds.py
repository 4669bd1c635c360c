"""What every suite of run.py is made of: a directory, peers that can run here, one of them running, and a watch
around a measurement.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import harness
from harness import DOMAIN, Missing, Peer, end, spawn
from measure import Quiet, cpu_seconds, machine_busy, memory, spread
from table import Noise

__all__ = ["Watch", "ready", "run_load", "running", "work_directory"]

_HERE = Path(__file__).resolve().parent
_SAMPLE = 0.5


@contextlib.contextmanager
def work_directory(given: Path | None) -> Iterator[Path]:
    """A new directory on the checkout's file system, with a short path (sockets have 108 bytes),
    removed at the end.
    """
    where = given or Path("/var/tmp")
    if given is None and where.stat().st_dev != _HERE.stat().st_dev:
        where = _HERE
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=where)).resolve()
    spread(directory)
    # Postfix and Dovecot go in as users of their own
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def ready(names: Sequence[str], users: Sequence[str], directory: Path, key: str = "") -> list[Peer]:
    """The peers that can run here, with a `key` of that kind when one is given; why another cannot is printed."""
    found = []
    for name in names:
        base = directory / f"{name}.base"
        base.mkdir()
        try:
            one = harness.load(name, users)
            one.key = key or one.key
            one.prepare(base)
        except (Missing, RuntimeError, OSError, subprocess.SubprocessError) as error:
            print(f"{name}: missing: {error}", flush=True)
            continue
        print(f"{name}: at 250 is synced: {one.durable}", flush=True)
        found.append(one)
    return found


@contextlib.contextmanager
def running(one: Peer, directory: Path) -> Iterator[None]:
    directory.mkdir(exist_ok=True)
    # what the one before wrote is on the disk
    os.sync()
    try:
        one.start(directory)
        yield
    finally:
        one.stop()


def run_load(
    one: Peer, place: Path, options: Sequence[str], domain: str = DOMAIN
) -> tuple[dict[str, float], float]:
    """Run load.py against a peer: its result, and the server's memory in MB. RuntimeError when nothing was
    accepted.
    """
    command = [sys.executable, str(_HERE / "load.py"), "--port", str(one.smtp), "--domain", domain]
    load = spawn([*command, *options], place / "load.log", piped=True)
    assert load.stdout is not None
    mb = 0.0
    try:
        while not select.select([load.stdout], [], [], _SAMPLE)[0]:
            mb = max(mb, memory(one.roots))
        text = load.stdout.read()
    finally:
        end(load)
    result: dict[str, float] = json.loads(text) if text else {"accepted": 0}
    if not result["accepted"]:
        raise RuntimeError(f"nothing was accepted: {result.get('refusal', 'no result')}")
    return result, mb


class Watch:
    """Around one measurement: CPU of the server, and how quiet the machine was."""

    def __init__(self, one: Peer, place: Path) -> None:
        self._one = one
        self._place = place
        self.cpu = 0.0
        self.not_others = 0.0
        """CPU seconds of the client, to be set by who measures."""

    def __enter__(self) -> Watch:
        self._before = Quiet.look(self._place)
        self._began = time.monotonic()
        self._busy, self._server = machine_busy(), cpu_seconds(self._one.roots)
        return self

    def __exit__(self, *exception: object) -> None:
        self.cpu = cpu_seconds(self._one.roots) - self._server
        self._busy = machine_busy() - self._busy - self.cpu - self.not_others
        self._took = time.monotonic() - self._began
        self._after = Quiet.look(self._place)

    def noise(self) -> Noise:
        """Means of before and after; processors that others kept busy meanwhile."""
        before, after = self._before, self._after
        return Noise(
            spin=(before.spin + after.spin) / 2,
            sync=(before.sync + after.sync) / 2,
            make=(before.make + after.make) / 2,
            others=max(0.0, self._busy / self._took),
        )
