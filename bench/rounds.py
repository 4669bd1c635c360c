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
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import harness
from harness import DOMAIN, Missing, Peer, end, spawn
from measure import Quiet, cpu_seconds, fresh, machine_busy, memory, pause, spread
from table import Noise, Row

__all__ = [
    "Group",
    "Job",
    "Settings",
    "Watch",
    "all_rounds",
    "at_rest",
    "opened",
    "ready",
    "repeated",
    "run_load",
    "running",
    "work_directory",
]


class Settings:
    """What the command line says of every peer, in every suite."""

    workers = 0
    """Processes of the servers that can be told."""


_HERE = Path(__file__).resolve().parent
_SAMPLE = 0.5
_LOOK = 0.25
_RESTING = 3
_BUSY = 0.02
"""Of a processor's seconds in a look: as much as a server at rest may use, and two ticks of the kernel's count."""
_LONGEST_REST = 10.0


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


def ready(
    names: Sequence[str],
    users: Sequence[str],
    directory: Path,
    key: str = "",
    *,
    quiet: bool = False,
) -> list[Peer]:
    """The peers that can run here, with a `key` of that kind when one is given; why another cannot is printed, and what
    each syncs, unless it shall be `quiet` about that.
    """
    found = []
    for name in names:
        base = directory / f"{name}.base"
        base.mkdir()
        try:
            one = harness.load(name, users)
            one.key = key or one.key
            if one.scales:
                one.workers = Settings.workers
            one.prepare(base)
        except (Missing, RuntimeError, OSError, subprocess.SubprocessError) as error:
            print(f"{name}: missing: {error}", flush=True)
            continue
        if not quiet:
            print(f"{name}: at 250 is synced: {one.durable}", flush=True)
        found.append(one)
    return found


@dataclass
class Job:
    """A peer, and what one round does with it: starts it, measures, stops it."""

    one: Peer
    measured: Callable[[int], Iterable[Row]]
    once: bool = False
    """Whether only the first round has it."""


def repeated(turns: Iterable[int], jobs: Sequence[Job], rows: list[Row]) -> bool:
    """Each round does every job once, in turn; into `rows`. True when this server failed. A peer that fails, in
    whatever way, is said and left out of what follows: the others are measured all the same.
    """
    failed = False
    jobs = list(jobs)
    for turn in turns:
        for job in list(jobs):
            if turn and job.once:
                continue
            try:
                for row in job.measured(turn):
                    row.turn = turn
                    rows.append(row)
                    print(f"round {turn + 1}: {row.brief()}", file=sys.stderr, flush=True)
            except Exception as error:
                print(f"{job.one.name}: failed: {error!r:.500}", flush=True)
                traceback.print_exc()
                failed |= job.one.name.startswith("ours")
                jobs.remove(job)
    return failed


@dataclass
class Group:
    """Peers that are measured in the same way: `users` are whom they serve, `key` the kind of their certificates,
    `place` a folder that is made, `measured` what a round does with each while it runs.
    """

    names: Sequence[str]
    users: Sequence[str]
    place: Path
    measured: Callable[[Peer, Path, int], Iterable[Row]]
    key: str = ""
    once: Sequence[str] = ()
    """Peers that the first round alone measures: those that no target is about."""


def all_rounds(turns: Iterable[int], groups: Sequence[Group], rows: list[Row]) -> bool:
    """Each round starts every peer of every group once, in turn, in a fresh directory, measures it and stops it; into
    `rows`. True when this server failed.
    """
    jobs = []
    for group in groups:
        opened(group.place)
        for one in ready(group.names, group.users, group.place, group.key):
            measured = partial(_in_a_fresh_place, group, one)
            jobs.append(Job(one, measured, one.name in group.once))
    return repeated(turns, jobs, rows)


def _in_a_fresh_place(group: Group, one: Peer, turn: int) -> Iterator[Row]:
    # Nothing is removed before the end of the run: see `measure.spread`.
    place = fresh(group.place, f"{one.name}.{turn}")
    with running(one, place):
        yield from group.measured(one, place, turn)


def opened(directory: Path) -> Path:
    """A new folder for a suite's peers."""
    directory.mkdir()
    # Postfix and Dovecot go in as users of their own
    directory.chmod(0o755)
    spread(directory)
    return directory


@contextlib.contextmanager
def running(one: Peer, directory: Path, *, rest: bool = True) -> Iterator[None]:
    """Start the peer, wait until it is at `rest`, and stop it in the end."""
    directory.mkdir(exist_ok=True)
    # what the one before wrote is on the disk
    os.sync()
    try:
        one.start(directory)
        if rest:
            at_rest(one)
        yield
    finally:
        one.stop()


def at_rest(one: Peer) -> None:
    """Wait until a server does nothing: what it does after its start (another process made ahead, say) belongs to none
    of the things that are measured. Ten seconds at most.
    """
    limit = time.monotonic() + _LONGEST_REST
    quiet, before = 0, cpu_seconds(one.roots)
    while quiet < _RESTING and time.monotonic() < limit:
        pause(_LOOK)
        now = cpu_seconds(one.roots)
        quiet = quiet + 1 if now - before <= _BUSY else 0
        before = now


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
