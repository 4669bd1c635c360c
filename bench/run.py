"""Measure this server beside others, in turn, in one run.

    bench/run [--quick] [--json FILE] [--plots docs]      every usual suite; one table, and what is reached
    bench/run smtp|many|accounts|large|tls|idle|pop3|logins|imap|relay|growth|drain|backlog|all [--quick]

Each round starts every peer once, on loopback and in a fresh directory, measures its cases, and
stops it; rounds are repeated (A B C, A B C, …), so that a change of the machine's mood meets all of
them. The tables give medians, and ratios taken round by round. What the figures mean stands in bench/README.md.

A run is bounded: it says beforehand how long it takes at most, every load is bounded by count and
time, every wait by a limit, and whatever it started is ended by its id, also when it is interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import backlog
import drain
import growth
import imap
import install
import login_suite
import plots
import pop3_suite
import relay
import smtp_suite
import suites
from budget import Budget, Turns
from measure import file_system
from plan import FULL, QUICK, SHARES, Plan
from rounds import Settings, work_directory
from table import Row, draining, interpreter, overview, standing, written
from targets import judged, reached

_PEERS = tuple(
    dict.fromkeys(
        (
            *smtp_suite.PEERS,
            "sink-large",
            "bare-twisted",
            *login_suite.PEERS,
            *imap.PEERS,
            *relay.PEERS,
        )
    )
)

_Suite = Callable[[Plan, Iterable[int], Sequence[str], Path, list[Row]], bool]
"""Adds its rows to the list; True when this server failed."""


def main(arguments: list[str]) -> int:
    """The command; 1 when this server failed, 0 otherwise (a peer that is missing or fails is said in the output)."""
    options = _parser().parse_args(arguments)
    plan = _plan(options)
    names = options.peers.split(",") if options.peers else list(_PEERS)
    if unknown := [name for name in names if name not in _PEERS]:
        print(f"no such peer: {', '.join(unknown)}", file=sys.stderr)
        return 2
    Settings.workers = options.workers
    if options.install:
        install.install()
    if options.what in ("usual", "all"):
        chosen = [name for name in _SUITES if name in SHARES or options.what == "all"]
    else:
        chosen = [options.what]
    # what is not usual is asked for by name, and has the time it needs
    budget = Budget(plan.minutes * 60, {name: SHARES.get(name, 10.0) for name in chosen})
    said = f"{', '.join(chosen)}; {plan.rounds} rounds at most; {options.workers} workers; "
    said += f"{os.cpu_count()} processors; {interpreter()}"
    print(f"At most about {plan.minutes:.0f} minutes: {said}", flush=True)
    _unwinding()
    rows: list[Row] = []
    failed = False
    with work_directory(options.directory) as directory:
        print(f"data on {file_system(directory)}", flush=True)
        for what in chosen:
            mine: list[Row] = []
            turns = budget.turns(what, plan.rounds)
            began = time.monotonic()
            failed |= _SUITES[what](plan, turns, names, directory, mine)
            took = f"{time.monotonic() - began:.0f} s"
            cut = f"; no time for {plan.rounds}" if _was_cut(what, turns) else ""
            print(f"{what}: {took}, {turns.done or 1} rounds{cut}", flush=True)
            for row in mine:
                row.suite = what
            rows += mine
            if options.json:
                # whatever happens later, what was measured is there
                options.json.write_text(written(rows, options.workers))
            if what in _TABLES and mine:
                print(_TABLES[what](mine), flush=True)
    usual = [row for row in rows if row.suite not in _TABLES]
    if usual:
        print(f"\nAll of it, in the order of measuring.\n{overview(usual)}")
        if judged(usual):
            print(f"What is to be reached, as medians of ratios in this run.\n{reached(usual)}")
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        for name, text in plots.all_of(rows).items():
            (options.plots / name).write_text(text)
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", default="usual", choices=(*_SUITES, "usual", "all"))
    parser.add_argument("--quick", action="store_true", help="a look, in about 15 minutes")
    parser.add_argument("--workers", type=int, default=2, help="of this server (2); 0: one process")
    parser.add_argument("--json", type=Path, help="write each single measurement there")
    parser.add_argument(
        "--plots", type=Path, metavar="FOLDER", help="write SVGs there, of what was measured"
    )
    parser.add_argument(
        "--install", action="store_true", help="as root on Debian: install the peers that are not"
    )
    parser.add_argument("--peers", help=f"comma-separated, of {','.join(_PEERS)}")
    parser.add_argument("--minutes", type=float, help="in place of 45 (quick: 15)")
    parser.add_argument("--rounds", type=int, help="at most, in place of 3 (quick: 2)")
    parser.add_argument("--seconds", type=float, help="of one load, in place of 2.5 (quick: 1)")
    parser.add_argument("--mailbox", type=int, help="pop3: messages, in place of 10000 (2000)")
    parser.add_argument("--accounts", help="comma-separated, in place of 10,10000,1000000")
    parser.add_argument("--connections", type=int, help="idle: in place of 1000 (quick: 200)")
    parser.add_argument("--largest", type=int, help="growth: in place of 1000000 (100000)")
    parser.add_argument(
        "--cases", default="", help="imap: some of them, comma-separated, see imap.py"
    )
    parser.add_argument("--queue", type=int, help="drain: messages, in place of 100000 (10000)")
    parser.add_argument("--destinations", type=int, help="drain: domains, in place of 1000 (100)")
    parser.add_argument("--backlog", type=int, help="recipients, in place of 1000000 (100000)")
    parser.add_argument("--directory", type=Path, help="where the data goes; default: see README")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    """The usual or the quick one, but for what was given."""
    base = QUICK if options.quick else FULL
    given = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(Plan)
        if getattr(options, field.name, None)
    }
    if options.accounts:
        given["accounts"] = tuple(map(int, options.accounts.split(",")))
    base = dataclasses.replace(base, **given)
    if options.cases:
        return dataclasses.replace(base, imap=dataclasses.replace(base.imap, cases=options.cases))
    return base


def _was_cut(what: str, turns: Turns) -> bool:
    return what not in _ONCE and turns.cut


def _unwinding() -> None:
    """SIGTERM and SIGINT unwind like an error, once, so that what runs is ended; a second one does not stop that."""

    def stop(number: int, _frame: object) -> None:
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)
        print(f"\nended by {signal.Signals(number).name}: cleaning up", file=sys.stderr, flush=True)
        sys.exit(128 + number)

    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(one, stop)


def _growth(
    plan: Plan, _turns: Iterable[int], names: Sequence[str], _directory: Path, rows: list[Row]
) -> bool:
    return growth.rounds(plan.largest, [name for name in imap.PEERS if name in names], rows)


_SUITES: dict[str, _Suite] = {
    "smtp": lambda p, turns, names, d, rows: smtp_suite.rounds(turns, p.seconds, names, d, rows),
    "many": lambda p, turns, names, d, rows: suites.many(turns, p.seconds, names, d, rows),
    "accounts": lambda p, turns, names, d, rows: suites.accounts(
        turns, p.seconds, p.accounts, names, d, rows
    ),
    "large": lambda p, turns, names, d, rows: suites.large(turns, p.seconds, names, d, rows),
    "tls": lambda p, turns, names, d, rows: suites.tls(turns, p.sessions_of_tls, names, d, rows),
    # memory is the same in every round
    "idle": lambda p, turns, names, d, rows: suites.idle_connections(
        [0], p.connections, names, d, rows
    ),
    "pop3": lambda p, turns, names, d, rows: pop3_suite.rounds(
        turns, p.mailbox, p.sessions, names, d, rows
    ),
    "logins": lambda p, turns, names, d, rows: login_suite.logins(
        turns, p.seconds, p.with_accounts, names, d, rows
    ),
    "imap": lambda p, turns, names, d, rows: imap.rounds(
        turns, p.imap, [name for name in imap.PEERS if name in names], d, rows
    ),
    "relay": lambda p, turns, names, d, rows: relay.rounds(
        turns, p.seconds, [name for name in relay.PEERS if name in names], d, rows
    ),
    "growth": _growth,
    "drain": lambda p, turns, _names, d, rows: drain.rounds(
        turns, p.queue, p.destinations, d, rows
    ),
    "backlog": lambda p, turns, _names, d, rows: backlog.rounds(turns, p.backlog, d, rows),
}
_ONCE = ("idle", "growth")
_TABLES = {"drain": draining, "backlog": standing}
"""Suites with a table of their own: their figures are not of the kind of the others."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
