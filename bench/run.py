"""Measure this server beside others, in turn, in one run.

    bench/run [--quick]                 every suite but growth, drain, backlog: one table of all, and plots
    bench/run smtp|many|accounts|large|tls|idle|pop3|imap|growth|relay|drain|backlog|all [--quick]

Each round starts every peer once, on loopback and in a fresh directory, measures its cases, and
stops it; rounds are repeated (A B C, A B C, …), so that a change of the machine's mood meets all of
them. Tables give medians, and ratios taken round by round to Postfix→LMTP→Dovecot, to Postfix as a
relay, or to this server without dead destinations. What the figures mean stands in bench/README.md.

A run is bounded: every load by count and time, every wait by a limit, whatever it started is ended
by its id.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import backlog
import drain
import imap
import imap_growth
import plots
import pop3
import relay
import suites
from harness import PASSWORD, Peer
from measure import file_system, fresh, memory, pause, spread
from rounds import Watch, ready, run_load, running, work_directory
from table import Row, draining, overview, reading, receiving, relaying, standing

_ORDER = ("sink", *suites.RECEIVERS)
_MORE = ("sink-large", "bare-twisted")
_USUAL = ("smtp", "many", "accounts", "large", "tls", "idle", "pop3", "imap", "relay")
_READERS = ("postfix-dovecot", "ours")
_DRAIN = 60.0
_SETTLE = 0.5
_LARGE = 10 * 1024 * 1024
_RETRIEVALS = 5


@dataclass(frozen=True)
class Case:
    """One kind of load: its name in the table and what load.py is told."""

    name: str
    users: int
    options: tuple[str, ...] = ()


CASES = (
    Case("new connections, 20 users", 20, ("--new",)),
    Case("new connections, 1 user", 1, ("--new",)),
    Case("kept connections, 20 users", 20),
    Case("kept connections, 1 user", 1),
    Case("kept and pipelined, 20 users", 20, ("--pipelined",)),
)


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    rounds: int
    seconds: float
    mailbox: int
    sessions: int
    queue: int
    destinations: int
    backlog: int
    imap: imap.Sizes
    largest: int
    sessions_of_tls: int
    connections: int
    accounts: tuple[int, ...]
    cases: str = ""
    plot: Path | None = None


QUICK = Plan(
    2,
    1.5,
    mailbox=2000,
    sessions=5,
    queue=10_000,
    destinations=100,
    backlog=100_000,
    imap=imap.Sizes(huge=20_000, mail=2000, appended=300, times=5, idle=100),
    largest=100_000,
    sessions_of_tls=150,
    connections=200,
    accounts=(10, 10_000),
)
FULL = Plan(
    5,
    4.0,
    mailbox=10_000,
    sessions=11,
    queue=100_000,
    destinations=1000,
    backlog=10**6,
    imap=imap.Sizes(),
    largest=10**6,
    sessions_of_tls=1000,
    connections=1000,
    accounts=(10, 10_000),
)


_Suite = Callable[[Plan, Sequence[str], Path, list[Row]], bool]
"""Adds its rows to the list; True when a peer failed."""


def main(arguments: list[str]) -> int:
    """The command; 1 when a peer failed in the middle, 0 otherwise (a missing peer is said in the
    output).
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", default="usual", choices=(*_SUITES, "usual", "all"))
    parser.add_argument("--quick", action="store_true", help="a look, in about two minutes a suite")
    parser.add_argument("--rounds", type=int, help="in place of 5 (quick: 2)")
    parser.add_argument("--seconds", type=float, help="of one load, in place of 4 (quick: 1.5)")
    parser.add_argument("--mailbox", type=int, help="messages, in place of 10000 (quick: 2000)")
    parser.add_argument("--queue", type=int, help="drain: messages, in place of 100000 (10000)")
    parser.add_argument("--destinations", type=int, help="drain: domains, in place of 1000 (100)")
    parser.add_argument("--backlog", type=int, help="recipients, in place of 1000000 (100000)")
    peers = tuple(dict.fromkeys((*_ORDER, *_MORE, *imap.PEERS, *relay.PEERS)))
    parser.add_argument(
        "--accounts", help="comma-separated, in place of 10,10000; 1000000 is minutes"
    )
    parser.add_argument("--connections", type=int, help="idle: in place of 1000 (quick: 200)")
    parser.add_argument(
        "--plots", type=Path, metavar="FOLDER", help="write SVGs there, of what was measured"
    )
    parser.add_argument("--largest", type=int, help="growth: in place of 1000000 (100000)")
    parser.add_argument("--plot", type=Path, help="growth: write an SVG there")
    parser.add_argument(
        "--cases", default="", help="imap: some of them, comma-separated, see imap.py"
    )
    parser.add_argument("--peers", help=f"comma-separated, of {','.join(peers)}")
    parser.add_argument("--directory", type=Path, help="where the data goes; default: see README")
    parser.add_argument("--json", type=Path, help="write each single measurement there")
    options = parser.parse_args(arguments)
    base = QUICK if options.quick else FULL
    plan = Plan(
        options.rounds or base.rounds,
        options.seconds or base.seconds,
        options.mailbox or base.mailbox,
        base.sessions,
        options.queue or base.queue,
        options.destinations or base.destinations,
        options.backlog or base.backlog,
        base.imap,
        options.largest or base.largest,
        base.sessions_of_tls,
        options.connections or base.connections,
        tuple(map(int, options.accounts.split(","))) if options.accounts else base.accounts,
        options.cases,
        options.plot,
    )
    names = options.peers.split(",") if options.peers else list(peers)
    if unknown := [name for name in names if name not in peers]:
        parser.error(f"no such peer: {', '.join(unknown)}")
    # SIGTERM unwinds like an error, so that what runs is ended
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows: list[Row] = []
    failed = False
    with work_directory(options.directory) as directory:
        print(f"data on {file_system(directory)}; {os.cpu_count()} processors", flush=True)
        for what, (suite, table) in _SUITES.items():
            if options.what in (what, "all") or (options.what == "usual" and what in _USUAL):
                mine: list[Row] = []
                failed |= suite(plan, names, directory, mine)
                if mine:
                    print(table(mine), flush=True)
                rows += mine
    if options.what in ("usual", "all") and rows:
        print(
            f"Everything, in the order of measuring; {os.cpu_count()} processors.\n{overview(rows)}"
        )
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        for name, text in plots.all_of(rows).items():
            (options.plots / name).write_text(text)
    if options.json:
        options.json.write_text(json.dumps([row.flat() for row in rows], indent=1))
    return int(failed)


def _smtp(plan: Plan, names: Sequence[str], directory: Path, rows: list[Row]) -> bool:
    """All rounds of all cases into `rows`; True when a peer failed."""
    failed = False
    names = [name for name in names if name in _ORDER]
    peers = ready(names, [f"u{n}" for n in range(20)], directory)
    for turn in range(plan.rounds):
        for one in list(peers):
            # Nothing is removed before the end of the run: see `measure.spread`.
            place = fresh(directory, f"{one.name}.{turn}")
            try:
                with running(one, place):
                    # processes are started, code is loaded, caches are filled: not measured
                    _send(one, place, ["--seconds", "0.5"])
                    for case in CASES:
                        if "--pipelined" in case.options and not one.pipelining:
                            continue
                        row = _measure(one, case, place, plan.seconds)
                        row.turn = turn
                        rows.append(row)
                        print(f"round {turn + 1}: {row.brief()}", file=sys.stderr, flush=True)
                    _check_reading(one, place)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                print(f"{one.name}: failed: {error}", flush=True)
                failed = True
                peers.remove(one)
    return failed


def _check_reading(one: Peer, place: Path) -> None:
    """What lies in the mailboxes is what POP3 shows."""
    if one.pop3:
        shown = sum(pop3.session(one.pop3, one.login(user), PASSWORD)[1] for user in one.users)
        if shown != one.arrived(place):
            raise RuntimeError(f"{one.arrived(place)} messages arrived, POP3 shows {shown}")


def _measure(one: Peer, case: Case, place: Path, seconds: float) -> Row:
    """One load on one peer."""
    with Watch(one, place) as watch:
        options = ["--users", str(case.users), "--seconds", str(seconds), *case.options]
        result, mb, lag = _send(one, place, options)
        # what follows a message (queue files removed, indexes, logs) belongs to its cost
        pause(_SETTLE)
        watch.not_others += result["cpu"]
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
    }
    return Row(one.name, case.name, values, watch.noise())


def _send(one: Peer, place: Path, options: Sequence[str]) -> tuple[dict[str, float], float, float]:
    """Run the load and wait until all of it can be read: its result, the server's memory, and that
    wait.
    """
    there = one.arrived(place)
    result, mb = run_load(one, place, options)
    lag = 0.0
    if one.inboxes(place):
        wanted = there + result["accepted"]
        while (found := one.arrived(place)) < wanted:
            if time.monotonic() > result["end"] + _DRAIN:
                raise RuntimeError(f"{wanted - found} messages answered 250 have not arrived")
            pause(0.02)
            lag = time.monotonic() - result["end"]
        if found > wanted:
            raise RuntimeError(f"{found - wanted} more messages arrived than were answered 250")
    return result, max(mb, memory(one.roots)), lag


def _pop3(plan: Plan, names: Sequence[str], directory: Path, rows: list[Row]) -> bool:
    """All rounds of the reading cases into `rows`; True when a peer failed. The mailboxes are
    filled once.
    """
    failed = False
    names = [name for name in names if name in _READERS]
    # "all" has measured SMTP in `directory` before
    directory = directory / "pop3"
    directory.mkdir()
    spread(directory)
    peers = ready(names, ["reader0", "large0"], directory)
    for turn in range(plan.rounds):
        for one in list(peers):
            place = directory / one.name
            try:
                with running(one, place):
                    if turn == 0:
                        count = ["--count", str(plan.mailbox), "--seconds", "600"]
                        _send(one, place, ["--user", "reader", "--users", "1", *count])
                        size = ["--count", "1", "--size", str(_LARGE), "--sessions", "1"]
                        _send(one, place, ["--user", "large", "--users", "1", *size])
                if one.arrived(place) != plan.mailbox + 1:
                    raise RuntimeError("the mailboxes could not be filled")
                # a new process, so that the first session is the first
                with running(one, place):
                    for row in _read(one, plan, place):
                        row.turn = turn
                        rows.append(row)
                        print(f"round {turn + 1}: {row.brief()}", file=sys.stderr, flush=True)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                print(f"{one.name}: failed: {error}", flush=True)
                failed = True
                peers.remove(one)
    return failed


def _read(one: Peer, plan: Plan, place: Path) -> Iterator[Row]:
    """The reading cases on one peer that has just been started."""
    many = f"login, STAT, UIDL, QUIT on {plan.mailbox}"
    reader, big = one.login("reader0"), one.login("large0")
    for name, times in ((f"{many}, first after start", 1), (f"{many}, warm", plan.sessions)):
        yield _timed(one, name, place, times, lambda: pop3.session(one.pop3, reader, PASSWORD)[0])
    for name, port, tls in (("clear", one.pop3, False), ("TLS", one.pop3s, True)):

        def large(port: int = port, tls: bool = tls) -> float:
            seconds, octets = pop3.large(port, big, PASSWORD, tls=tls)
            if octets < _LARGE:
                raise RuntimeError(f"RETR gave {octets} octets of {_LARGE}")
            return seconds * 1e6 / octets

        # the first shows what a later one can not: a login that has to be computed
        large()
        yield _timed(one, f"RETR of 10 MiB, {name}", place, _RETRIEVALS, large, rate="MB/s")

    def small() -> float:
        seconds, count = pop3.small(one.pop3, reader, PASSWORD)
        return seconds / count

    yield _timed(one, "RETR of 4 KiB, pipelined", place, _RETRIEVALS, small, rate="1/s")


def _timed(
    one: Peer,
    name: str,
    place: Path,
    times: int,
    work: Callable[[], float],
    rate: str | None = None,
) -> Row:
    """The median of `work`, which returns seconds a unit, as milliseconds or (with `rate`) as its
    inverse.
    """
    with Watch(one, place) as watch:
        own = time.process_time()
        seconds = median(work() for _ in range(times))
        watch.not_others += time.process_time() - own
    values = {"memory": memory(one.roots), "cpu": watch.cpu * 1000 / times}
    values[rate or "ms"] = 1 / seconds if rate else seconds * 1000
    return Row(one.name, name, values, watch.noise())


def _many(plan: Plan, names: Sequence[str], directory: Path, rows: list[Row]) -> bool:
    return suites.many(plan.rounds, plan.seconds, names, directory, rows)


def _accounts(plan: Plan, names: Sequence[str], directory: Path, rows: list[Row]) -> bool:
    return suites.accounts(plan.rounds, plan.seconds, plan.accounts, names, directory, rows)


def _large(plan: Plan, names: Sequence[str], directory: Path, rows: list[Row]) -> bool:
    return suites.large(plan.rounds, plan.seconds, names, directory, rows)


def _tls(plan: Plan, names: Sequence[str], directory: Path, rows: list[Row]) -> bool:
    return suites.tls(plan.rounds, plan.sessions_of_tls, names, directory, rows)


def _idle(plan: Plan, names: Sequence[str], directory: Path, rows: list[Row]) -> bool:
    # memory is the same in every round
    return suites.idle_connections(1, plan.connections, names, directory, rows)


def _relay(plan: Plan, names: Sequence[str], directory: Path, rows: list[Row]) -> bool:
    names = [name for name in names if name in relay.PEERS]
    return relay.rounds(plan.rounds, plan.seconds, names, directory, rows)


def _imap(plan: Plan, names: Sequence[str], directory: Path, rows: list[Row]) -> bool:
    names = [name for name in names if name in imap.PEERS]
    return imap.rounds(plan.rounds, plan.imap, names, directory, rows, plan.cases)


def _growth(plan: Plan, names: Sequence[str], _directory: Path, rows: list[Row]) -> bool:
    names = [name for name in names if name in imap.PEERS]
    failed = imap_growth.rounds(plan.largest, names, rows)
    if plan.plot is not None:
        plan.plot.write_text(imap_growth.plot(rows))
    return failed


def _drain(plan: Plan, _names: Sequence[str], directory: Path, rows: list[Row]) -> bool:
    return drain.rounds(plan.rounds, plan.queue, plan.destinations, directory, rows)


def _backlog(plan: Plan, _names: Sequence[str], directory: Path, rows: list[Row]) -> bool:
    return backlog.rounds(plan.rounds, plan.backlog, directory, rows)


_SUITES: dict[str, tuple[_Suite, Callable[[Sequence[Row]], str]]] = {
    "smtp": (_smtp, receiving),
    "many": (_many, overview),
    "accounts": (_accounts, overview),
    "large": (_large, overview),
    "tls": (_tls, overview),
    "idle": (_idle, overview),
    "pop3": (_pop3, reading),
    "imap": (_imap, reading),
    "growth": (_growth, reading),
    "relay": (_relay, relaying),
    "drain": (_drain, draining),
    "backlog": (_backlog, standing),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
