"""Floods of a server on this machine, and what legitimate sessions see of them meanwhile.

    python bench/floods.py [--seconds 15] [--workers 0] [--connections 10000] [--case NAME …] [--json FILE]

A real ``twistd`` on loopback; 127.x.y.z stand for other addresses, and ``checks.exempt_networks`` is empty. Each case
is a flood, in processes of its own, and beside it sessions from addresses where their users have logged in before: mail
by SMTP in clear, a message read over POP3S, a login with SELECT and FETCH over IMAPS, each on a new connection. Told
are p50, p99 and the longest of them, how many failed, and the memory of all processes of the server (PSS) at its most.
At the end the messages that were answered 250 are counted in the mailbox. Client and server share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from floods_attacks import FLOODS, flood
from floods_server import DOMAIN, PASSWORD, USERS, Place, Server
from floods_sessions import TAKEN, Seen, Talk, ask_pop, deliver, legitimate

BASE_MB, EACH_KB = 220.0, 48.0
"""The bound of memory that is judged: of a process, two passwords that are hashed among it, and of each connection."""


class Row(NamedTuple):
    case: str
    sessions: int
    failed: int
    p50_ms: dict[str, float]
    p99_ms: dict[str, float]
    longest_ms: float
    memory_mb: float
    open: int
    errors: list[str]


def percentile(values: list[float], part: float) -> float:
    """0 of none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] * 1000 if values else 0.0


def run_case(server: Server, name: str, seconds: float, parts: int, ramp: float) -> Row:
    """The flood gets `ramp` seconds to grow; sessions go on all the while and count from the beginning."""
    place, seen = server.place, Seen()
    over = multiprocessing.Event()
    processes = [
        multiprocessing.Process(target=flood, args=(name, place, part, parts, over), daemon=True)
        for part in range(parts if FLOODS[name] else 0)
    ]
    for one in processes:
        one.start()
    end = time.monotonic() + (ramp if processes else 0) + seconds
    if name == "open":
        end += ramp  # ten thousand take their time
    peak, most = 0.0, 0

    async def watch() -> None:
        nonlocal peak, most
        while time.monotonic() < end:
            peak = max(peak, server.memory())
            most = max(most, server.connections())
            await asyncio.sleep(1)

    async def both() -> None:
        await asyncio.gather(watch(), legitimate(place, seen, lambda: time.monotonic() >= end))

    asyncio.run(both())
    over.set()
    for one in processes:
        one.join(5)
        if one.is_alive():
            one.kill()
    return Row(
        name,
        sum(map(len, seen.seconds.values())),
        len(seen.errors),
        {kind: round(percentile(values, 0.5), 1) for kind, values in seen.seconds.items()},
        {kind: round(percentile(values, 0.99), 1) for kind, values in seen.seconds.items()},
        round(max((max(v, default=0) for v in seen.seconds.values()), default=0) * 1000, 1),
        round(peak, 1),
        most,
        seen.errors[:5],
    )


def counted(server: Server) -> int:
    """Messages in the mailbox that the legitimate mail goes to."""

    async def stat() -> int:
        talk = await Talk.open(server.place.ports["pop3s"], "127.200.0.1", tls=True)
        await ask_pop(talk, b"")
        await ask_pop(talk, f"USER user0@{DOMAIN}\r\n".encode())
        await ask_pop(talk, f"PASS {PASSWORD}\r\n".encode())
        said = await ask_pop(talk, b"STAT\r\n")
        talk.close()
        return int(said.split()[1])

    return asyncio.run(stat())


def fill(server: Server) -> None:
    """Mail for those who read, and a login of each from where they are at home."""

    async def all_of_them() -> None:
        for n in range(1, USERS):
            for _ in range(20 if n == 6 else 1):
                await deliver(server.place, "127.200.0.1", f"user{n}@{DOMAIN}")
        for n in range(USERS):
            await fetch_imap_login(server.place, f"127.200.{n}.1", n)

    asyncio.run(all_of_them())


async def fetch_imap_login(place: Place, source: str, n: int) -> None:
    talk = await Talk.open(place.ports["imaps"], source, tls=True)
    await talk.line()
    await talk.tagged(f'a LOGIN user{n}@{DOMAIN} "{PASSWORD}"\r\n'.encode())
    talk.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="of each case, without its ramp"
    )
    parser.add_argument("--ramp", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--parts", type=int, default=2, help="processes of a flood")
    parser.add_argument("--case", action="append", choices=list(FLOODS), default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", action="store_true", help="the directory, with the log")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="floods", dir=os.environ.get("TMPDIR")))
    rows, delivered, there = [], 0, 0
    with ending(directory, arguments.keep):
        server = Server(directory, arguments.connections, arguments.workers)
        try:
            fill(server)
            for name in arguments.case or FLOODS:
                row = run_case(server, name, arguments.seconds, arguments.parts, arguments.ramp)
                rows.append(row)
                show(row)
            there = counted(server)
            alive = server.process.poll() is None
            delivered = TAKEN[0]
        finally:
            server.stop()
    bound = BASE_MB * (1 + 2 * arguments.workers) + EACH_KB * arguments.connections / 1024
    print(f"answered 250: {delivered}, in the mailbox: {there}; memory bound {bound:.0f} MB")
    if arguments.json:
        result = {
            "rows": [row._asdict() for row in rows],
            "answered": delivered,
            "there": there,
            "bound_mb": bound,
            "alive": alive,
        }
        arguments.json.write_text(json.dumps(result, indent=1))
    lost = delivered > there
    return int(lost or any(row.failed or row.memory_mb > bound for row in rows))


@contextlib.contextmanager
def ending(directory: Path, keep: bool) -> Iterator[None]:
    try:
        yield
    finally:
        if keep:
            print(directory)
        else:
            shutil.rmtree(directory, ignore_errors=True)


def show(row: Row) -> None:
    times = "  ".join(
        f"{kind} {row.p50_ms[kind]:.0f}/{row.p99_ms[kind]:.0f}" for kind in row.p50_ms
    )
    print(
        f"{row.case:14} {row.sessions:5} sessions, {row.failed} failed; p50/p99 ms: {times};"
        f" longest {row.longest_ms:.0f} ms; {row.memory_mb:.0f} MB, {row.open} open",
        flush=True,
    )
    for error in row.errors:
        print(f"               {error}")


if __name__ == "__main__":
    sys.exit(main())
