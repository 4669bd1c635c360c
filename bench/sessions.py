"""SMTP beyond small messages of twenty sessions: large ones, TLS sessions, many sessions, many accounts.

Each function measures one peer that runs, and gives rows for the table; `suites.py` starts and stops the peers.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from harness import PASSWORD, Peer, end
from large import SIZE, WAYS
from measure import memory, pause
from rounds import Watch, run_load
from table import Noise, Row

__all__ = ["handshakes", "large", "settled", "small"]

_HERE = Path(__file__).resolve().parent
_DRAIN = 120.0
_SETTLE = 0.5
_SAMPLE = 0.25
_TURNS = 4


def small(one: Peer, place: Path, case: str, options: Sequence[str]) -> Row:
    """One load of small messages (`options` are load.py's), to the moment that all lie in the mailboxes."""
    there = one.arrived(place)
    with Watch(one, place) as watch:
        result, mb = run_load(one, place, options)
        lag = _arrival(one, place, there, result)
        pause(_SETTLE)
        watch.not_others += result["cpu"]
    return _row(one, case, watch, result, max(mb, memory(one.roots)), lag)


def settled(one: Peer, place: Path) -> None:
    """Wait until no more mail arrives: what was sent before belongs to nothing that is measured."""
    before = -1
    limit = time.monotonic() + _DRAIN
    while (now := one.arrived(place)) != before and time.monotonic() < limit:
        before = now
        pause(_SETTLE)


def large(one: Peer, place: Path, seconds: float) -> Iterator[Row]:
    """10 MiB in each of the ways that the peer has; MB/s of message octets."""
    for way in WAYS:
        port = one.smtps if way == "tls" else one.smtp
        if not port or (way == "starttls" and not one.starttls):
            continue
        password = PASSWORD if way == "tls" and one.submits else ""
        there = one.arrived(place)
        options = ["--port", str(port), "--way", way, "--seconds", str(seconds)]
        with Watch(one, place) as watch:
            result, mb = _client(one, place, "large.py", options, password)
            lag = _arrival(one, place, there, result)
            pause(_SETTLE)
            watch.not_others += result["cpu"]
        row = _row(one, f"10 MiB, {_NAMES[way]}", watch, result, mb, lag)
        row.values["MB/s"] = row.values.pop("rate") * SIZE / 1e6
        yield row


_NAMES = {"clear": "clear", "starttls": "STARTTLS", "tls": "TLS from the first byte"}


def handshakes(there: Sequence[tuple[Peer, Path, int]], key: str) -> Iterator[Row]:
    """TLS sessions: each server's CPU for one, and how many were resumed. `there`: those that run, where, and how many
    sessions each gets, in `_TURNS` turns that they take one after the other. One that fails is said and left out.
    """
    going = list(there)
    for resumed in (False, True):
        case = f"TLS session, {key}{', resumed' if resumed else ''}"
        parts: dict[str, list[tuple[Row, dict[str, float]]]] = {}
        # the first turn is of what is made and loaded once, and not counted
        for part in range(_TURNS + 1):
            for one, place, count in list(going):
                number = max(10, count // _TURNS) if part else 10
                options = ["--port", str(one.smtp), "--count", str(number)]
                options += ["--resumed"] if resumed else []
                try:
                    with Watch(one, place) as watch:
                        result, mb = _client(one, place, "handshakes.py", options)
                        watch.not_others += result["cpu"]
                except (RuntimeError, OSError) as error:
                    if one.name.startswith("ours"):
                        raise
                    print(f"{one.name}: failed: {error}", flush=True)
                    going.remove((one, place, count))
                    continue
                if part:
                    row = _row(one, case, watch, result, mb, 0.0)
                    parts.setdefault(one.name, []).append((row, result))
        for one, _, _ in going:
            yield _together(parts[one.name])


def _together(parts: Sequence[tuple[Row, dict[str, float]]]) -> Row:
    """One row of all the turns: sums, and medians of what cannot be summed."""
    rows = [row for row, _ in parts]
    count = sum(row.values["messages"] for row in rows)

    def each(key: str) -> float:
        return sum(row.values[key] * row.values["messages"] for row in rows) / count

    took = sum(result["end"] - result["begin"] for _, result in parts)
    values = {
        "rate": count / took,
        "cpu": each("cpu"),
        "memory": max(row.values["memory"] for row in rows),
        "p50": median(row.values["p50"] for row in rows),
        "p99": median(row.values["p99"] for row in rows),
        "refused": sum(row.values["refused"] for row in rows),
        "messages": count,
        "client ms": each("client ms"),
        "ms CPU": each("cpu"),
        "resumed": sum(result["resumed"] for _, result in parts),
        # the first session of a turn has nothing to offer
        "offered": count - len(parts),
    }
    noise = {name: median(getattr(row.noise, name) for row in rows) for name in vars(rows[0].noise)}
    return Row(rows[0].peer, rows[0].case, values, Noise(**noise))


def _row(
    one: Peer, case: str, watch: Watch, result: dict[str, float], mb: float, lag: float
) -> Row:
    accepted = result["accepted"]
    values = {
        "rate": accepted / (result["end"] - result["begin"] + lag),
        "cpu": watch.cpu * 1000 / accepted,
        "memory": mb,
        "p50": result["p50"],
        "p99": result["p99"],
        "lag": lag,
        "refused": result["refused"],
        "messages": accepted,
        "client ms": result["cpu"] * 1000 / accepted,
    }
    return Row(one.name, case, values, watch.noise())


def _client(
    one: Peer, place: Path, program: str, options: Sequence[str], password: str = ""
) -> tuple[dict[str, float], float]:
    """Run a client of this folder: its result, and the server's memory in MB."""
    command = [sys.executable, str(_HERE / program), *options]
    with open(place / "client.log", "ab") as log:
        client = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert client.stdin is not None and client.stdout is not None
    mb = 0.0
    try:
        client.stdin.write(password.encode() + b"\n")
        client.stdin.close()
        while not select.select([client.stdout], [], [], _SAMPLE)[0]:
            mb = max(mb, memory(one.roots))
        text = client.stdout.read()
        client.wait(10)
    finally:
        end(client)
    result: dict[str, float] = json.loads(text) if text else {"accepted": 0}
    if not result["accepted"]:
        raise RuntimeError(f"nothing was accepted: {result.get('refusal', 'no result')}")
    return result, max(mb, memory(one.roots))


def _arrival(one: Peer, place: Path, there: int, result: dict[str, float]) -> float:
    """Wait until what was answered 250 lies in the mailboxes beside those `there`: how long after the end that was. A
    message whose answer the client did not wait for may have come, too.
    """
    if not one.inboxes(place):
        return 0.0
    wanted = there + result["accepted"]
    lag = 0.0
    while True:
        began = time.monotonic()
        found = one.arrived(place)
        if found > wanted + result["refused"]:
            raise RuntimeError(f"{found - wanted} more messages arrived than were answered 250")
        if found >= wanted:
            return lag
        if time.monotonic() > result["end"] + _DRAIN:
            raise RuntimeError(f"{wanted - found} messages answered 250 have not arrived")
        # looking through ten thousand mailboxes shall not be what the machine does
        pause(max(0.02, 2 * (time.monotonic() - began)))
        lag = time.monotonic() - result["end"]
