"""The relay suite: mail that is taken, queued and handed on to a sink, by each peer in turn.

Whole way: load.py sends for some seconds, the watch stops when the sink has as many messages as were answered 250.
The two halves alone: the queue takes while nothing is sent (the peer is started so), and it is drained after a new
start, while nothing comes in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import sessions
from harness import SINK_DOMAIN, Peer, Relay, free_port
from measure import cpu_seconds, fresh, memory, pause
from receiver import Receiver
from rounds import Job, Watch, opened, ready, repeated, run_load, running
from table import Row

__all__ = ["PEERS", "rounds"]

PEERS = ("sink", "postfix-relay", "ours-relay")
WHOLE = "whole way, kept connections"
PIPELINED = "whole way, kept and pipelined"
TAKE = "queue takes, nothing is sent"
DRAIN = "queue drains, nothing comes in"
_WAIT = 120.0
_SETTLE = 0.5
_STEP = 0.02
_SAMPLE = 0.5


def rounds(
    turns: Iterable[int], seconds: float, names: Sequence[str], directory: Path, rows: list[Row]
) -> bool:
    """All rounds into `rows`; True when a peer failed."""
    place = opened(directory / "relay")
    jobs = []
    for one in ready(names, (), place):
        measured = _one_round if isinstance(one, Relay) else _ceiling
        jobs.append(Job(one, partial(_in_a_fresh_place, measured, one, seconds, place)))
    return repeated(turns, jobs, rows)


def _in_a_fresh_place(
    measured: Callable[[Any, float, Path], Iterator[Row]],
    one: Peer,
    seconds: float,
    directory: Path,
    turn: int,
) -> Iterator[Row]:
    return measured(one, seconds, fresh(directory, f"{one.name}.{turn}"))


def _one_round(one: Relay, seconds: float, place: Path) -> Iterator[Row]:
    one.next_hop = free_port()
    sink = Receiver(place / "sink.log", one.next_hop)
    sink.start()
    try:
        one.sending = True
        with running(one, place):
            _load(one, place, ["--seconds", "0.5"], sink)
            for case, options in ((WHOLE, ()), (PIPELINED, ("--pipelined",))):
                with Watch(one, place) as watch:
                    watch.not_others -= cpu_seconds([sink.pid])
                    load = ["--seconds", str(seconds), *options]
                    result, mb, lag = _load(one, place, load, sink)
                    # what follows a message (queue files removed, logs) belongs to its cost
                    pause(_SETTLE)
                    watch.not_others += result["cpu"] + cpu_seconds([sink.pid])
                yield Row(one.name, case, _values(result, lag, watch, mb), watch.noise())
        one.sending = False
        with running(one, place):
            with Watch(one, place) as watch:
                load = ["--seconds", str(seconds)]
                result, mb, _ = _load(one, place, load)
                watch.not_others += result["cpu"]
            yield Row(one.name, TAKE, _values(result, 0.0, watch, mb), watch.noise())
        queued = int(result["accepted"])
        one.sending = True
        sink.hold()
        with running(one, place):
            yield _drained(one, place, sink, queued)
    finally:
        sink.stop()


def _ceiling(sink: Peer, seconds: float, place: Path) -> Iterator[Row]:
    """The load sent to the sink itself: what it and the load generator can do at most."""
    with running(sink, place):
        for case, options in ((WHOLE, ()), (PIPELINED, ("--pipelined",))):
            yield sessions.small(sink, place, case, ["--seconds", str(seconds), *options])


def _load(
    one: Relay, place: Path, options: Sequence[str], sink: Receiver | None = None
) -> tuple[dict[str, float], float, float]:
    """Run the load, and wait until the sink has all of it: the result, memory, and how long that was."""
    before = sink.count() if sink is not None else 0
    result, mb = run_load(one, place, options, SINK_DOMAIN)
    if sink is None:
        return result, max(mb, memory(one.roots)), 0.0
    mb = max(mb, _wait(one, sink, before + int(result["accepted"])))
    return result, mb, max(0.0, time.monotonic() - result["end"])


def _wait(one: Relay, sink: Receiver, wanted: int) -> float:
    """Until the sink has `wanted` messages; the server's memory meanwhile. RuntimeError when it gets more, or
    fewer within the limit.
    """
    limit = time.monotonic() + _WAIT
    looked = mb = 0.0
    while (count := sink.count()) < wanted:
        now = time.monotonic()
        if now > limit:
            raise RuntimeError(f"{wanted - count} messages answered 250 have not arrived")
        if now > looked + _SAMPLE:
            looked = now
            mb = max(mb, memory(one.roots))
        pause(_STEP)
    if count > wanted:
        raise RuntimeError(f"{count - wanted} more messages arrived than were answered 250")
    return mb


def _values(result: dict[str, float], lag: float, watch: Watch, mb: float) -> dict[str, float]:
    accepted = result["accepted"]
    return {
        "rate": accepted / (result["end"] - result["begin"] + lag),
        "cpu": watch.cpu * 1000 / accepted,
        "memory": mb,
        "p50": result["p50"],
        "p99": result["p99"],
        "lag": lag,
        "refused": result["refused"],
        "messages": accepted,
    }


def _drained(one: Relay, place: Path, sink: Receiver, queued: int) -> Row:
    """The sink holds; the peer has just been started with `queued` messages in its queue."""
    before = sink.count()
    with Watch(one, place) as watch:
        watch.not_others -= cpu_seconds([sink.pid])
        began = time.monotonic()
        sink.go_on()
        mb = _wait(one, sink, before + queued)
        took = time.monotonic() - began
        pause(_SETTLE)
        watch.not_others += cpu_seconds([sink.pid])
    values = {
        "rate": queued / took,
        "cpu": watch.cpu * 1000 / queued,
        "memory": mb,
        "messages": float(queued),
    }
    return Row(one.name, DRAIN, values, watch.noise())
