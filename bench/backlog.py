"""The backlog suite: what a queue of many recipients that wait costs the server that has it.

Filled once (`fill.py`), all of it deferred to later than the run. Each round starts the server, after a stop and after
a SIGKILL, and times its first greeting from the moment the process is made; memory is looked at when it has run for
some seconds; `mailctl` is timed as a user waits for it, with the start of its Python. `taking.py` times the queue's own
steps. The same with a thousand recipients stands beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from drain import checkout, fill
from harness import end, free_port, spawn
from measure import memory, pause
from rounds import Watch, ready
from table import Row

__all__ = ["rounds"]

_HERE = Path(__file__).resolve().parent
_FEW = 1000
_DOMAINS = 1000
_DEFERRED = 4 * 3600
_STEP = 0.002
_START = 60.0
_RUN = 8.0


def rounds(turns: Iterable[int], recipients: int, directory: Path, rows: list[Row]) -> bool:
    """All rounds into `rows`; True when one failed."""
    for one in ready(["ours-mx"], (), directory):
        for count in (_FEW, recipients):
            place = directory / f"backlog-{count}"
            place.mkdir()
            one.place(place)  # type: ignore[attr-defined]
            # ten or more to a domain, so that a take finds as much in both
            domains = min(_DOMAINS, count // 10)
            fill(place, count, domains, "--deferred", str(_DEFERRED), "--linked")
        for turn in turns:
            for count in (_FEW, recipients):
                try:
                    row = _one(one, count, directory / f"backlog-{count}")
                except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                    print(f"{count} recipients: failed: {error}", flush=True)
                    return True
                row.turn = turn
                rows.append(row)
                print(f"round {turn + 1}: {row.brief()}", file=sys.stderr, flush=True)
    return False


def _one(one: Any, count: int, place: Path) -> Row:
    # nobody is asked: nothing is due
    one.dns = free_port()
    one.configure(place)
    config = place / "mail.toml"
    values: dict[str, float] = {}
    os.sync()
    with Watch(one, place) as watch:
        with _started(one, place) as (process, seconds):
            values["first 220 after a stop, s"] = seconds
            pause(_RUN)
            values["MB after some seconds"] = memory([process.pid])
            for name, command in (
                ("mailctl queue list, s", ("list",)),
                ("mailctl queue list --domain, s", ("list", "--domain", "d7.test")),
                ("mailctl queue stats, s", ("stats",)),
            ):
                values[name] = _wall(lambda c=command: checkout().mailctl(config, "queue", *c))
            values["MB at the end"] = memory([process.pid])
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        with _started(one, place) as (process, seconds):
            values["first 220 after a SIGKILL, s"] = seconds
    values |= _steps(place)
    return Row("ours-mx", f"{count} deferred", values, watch.noise())


@contextlib.contextmanager
def _started(one: Any, place: Path) -> Any:
    """The server's process, and after how long it greeted; ended at the end."""
    began = time.monotonic()
    process = spawn(checkout().mailserver(place / "mail.toml"), place / "twistd.log")
    try:
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", one.smtp), 5) as client,
            ):
                if client.recv(4).startswith(b"220"):
                    break
            if process.poll() is not None or time.monotonic() > began + _START:
                raise RuntimeError("the server does not greet")
            pause(_STEP)
        yield process, time.monotonic() - began
    finally:
        end(process)


def _steps(place: Path) -> dict[str, float]:
    command = [*checkout().FROM_HERE, sys.executable, str(_HERE / "taking.py")]
    command += ["--data", str(place / "data")]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=300
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _wall(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
