"""The suites that are made of `sessions.py` and `idle.py`: which peers, which mailboxes, which cases."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import idle
import sessions
from handshakes import ceiling
from harness import Peer
from measure import cpu_seconds, fresh, memory
from rounds import Group, Job, Watch, all_rounds, opened, ready, repeated, run_load, running
from table import Noise, Row

__all__ = ["RECEIVERS", "accounts", "idle_connections", "large", "many", "tls"]

RECEIVERS = (
    "postfix-dovecot",
    "postfix-maildir",
    "opensmtpd",
    "exim4",
    "aiosmtpd",
    "haraka",
    "ours",
)
_ONCE = ("opensmtpd", "exim4", "aiosmtpd")
_MANY = (1, 10, 100, 1000)
_OF_MANY = ("sink", "postfix-maildir", "aiosmtpd", "haraka", "ours", "ours-1")
"""Postfix answers a hundred at a time, as Debian has it: the others wait. OpenSMTPD and Exim refuse what is above their
own bounds, which are set by the memory of a process each."""
_OF_ACCOUNTS = ("sink", "postfix-dovecot", "postfix-maildir", "aiosmtpd", "haraka", "ours")
_OWN_ALONE = 100_000
"""With more accounts than that this server alone is measured, by itself: how it grows, not who is faster."""
_JUDGED = 10_000
_STARTS = 3
_KEYS = {"RSA 2048": "rsa:2048", "P-256": "ec"}
_SHAKERS_JUDGED = ("bare-twisted", "ours")
_FEWER = 6
"""So many times fewer sessions of those that no target is about."""
_SHAKERS = ("bare-twisted", "postfix-maildir", "exim4", "aiosmtpd", "haraka", "ours")


def large(
    turns: Iterable[int], seconds: float, names: Sequence[str], directory: Path, rows: list[Row]
) -> bool:
    """10 MiB messages, each way."""
    order = [name for name in ("sink-large", *RECEIVERS) if name in names]

    def measured(one: Peer, place: Path, _turn: int) -> Iterable[Row]:
        return sessions.large(one, place, seconds)

    once = ("sink-large", "haraka", *_ONCE)
    group = Group(order, ["u0"], directory / "large", measured, once=once)
    return all_rounds(turns, [group], rows)


def many(
    turns: Iterable[int], seconds: float, names: Sequence[str], directory: Path, rows: list[Row]
) -> bool:
    """Small messages from 1, 10, 100, 1000 kept connections."""
    users = [f"u{number}" for number in range(20)]

    def measured(one: Peer, place: Path, _turn: int) -> Iterable[Row]:
        run_load(one, place, ["--seconds", "0.5"])
        sessions.settled(one, place)
        for number in _MANY:
            options = ["--sessions", str(number), "--seconds", str(seconds)]
            yield sessions.small(one, place, f"{number} kept connections", options)

    order = [name for name in _OF_MANY if name in names]
    once = ("sink", "postfix-maildir", "aiosmtpd", "haraka")
    group = Group(order, users, directory / "many", measured, once=once)
    return all_rounds(turns, [group], rows)


def accounts(
    turns: Iterable[int],
    seconds: float,
    numbers: Sequence[int],
    names: Sequence[str],
    directory: Path,
    rows: list[Row],
) -> bool:
    """Small messages to accounts by chance, of so many; and how long this server takes to start with them."""
    groups = []
    for number in numbers:
        options = ["--users", str(number), "--random", "--seconds", str(seconds)]

        def measured(
            one: Peer, place: Path, _turn: int, options: list[str] = options, number: int = number
        ) -> Iterable[Row]:
            # the second is of mailboxes that are there already
            for what in ("first seconds", "next seconds"):
                yield sessions.small(one, place, f"of {number} accounts by chance, {what}", options)
            if one.name == "ours":
                case = f"start to the first 220, {number} accounts"
                yield _starts(one, place, case)
                # as `twistd -n mailserver` starts on loopback
                workers, one.workers = one.workers, 0
                try:
                    alone = _starts(one, place, case)
                finally:
                    one.workers = workers
                alone.peer = "ours-1"
                yield alone

        order = ["ours"] if number > _OWN_ALONE else list(_OF_ACCOUNTS)
        users = [f"u{n}" for n in range(number)]
        place = directory / f"accounts-{number}"
        order = [name for name in order if name in names]
        # what targets are about, and Haraka, is repeated
        once = ("sink", "aiosmtpd") if number == _JUDGED else order
        groups.append(Group(order, users, place, measured, once=once))
    return all_rounds(turns, groups, rows)


def _starts(one: Peer, place: Path, case: str) -> Row:
    """Stops the peer and starts it some times: from the making of the process to its greeting."""
    times = []
    with Watch(one, place) as watch:
        for _ in range(_STARTS):
            one.stop()
            began = time.monotonic()
            one.start(place)
            times.append(time.monotonic() - began)
        watch.not_others += cpu_seconds(one.roots) * _STARTS
    values = {"ms": median(times) * 1000, "cpu": cpu_seconds(one.roots) * 1000}
    values["memory"] = memory(one.roots)
    return Row(one.name, case, values, watch.noise())


def tls(
    turns: Iterable[int], count: int, names: Sequence[str], directory: Path, rows: list[Row]
) -> bool:
    """TLS sessions by kind of key, beside what OpenSSL needs at least. All peers of a kind run at once, and take turns
    of some sessions: what the machine's mood is meanwhile meets all of them alike.
    """
    failed = False
    jobs = []
    for name, kind in _KEYS.items():
        place = opened(directory / f"tls-{kind.replace(':', '-')}")
        peers = ready([one for one in _SHAKERS if one in names], ["u0"], place, kind)
        if peers:
            # named as the one that all is about
            jobs.append(Job(peers[-1], partial(_shaken, peers, place, name, count)))
    failed = repeated(turns, jobs, rows)
    # measured while nothing else of the run does anything
    noise = Noise(min((row.noise.spin for row in rows), default=1.0), 0.0, 0.0, 0.0)
    try:
        for turn in sorted({row.turn for row in rows}):
            for name, ms in ceiling().items():
                values = {"ms CPU": ms, "cpu": ms, "memory": 0.0, "resumed": 0.0}
                rows.append(Row("openssl speed", f"TLS session, {name}", values, noise, turn))
    except (OSError, subprocess.SubprocessError) as error:
        print(f"openssl speed: {error}", flush=True)
    return failed


def _shaken(
    peers: Sequence[Peer], directory: Path, key: str, count: int, turn: int
) -> Iterator[Row]:
    with contextlib.ExitStack() as servers:
        there = []
        for one in peers:
            judged = one.name in _SHAKERS_JUDGED
            if turn and not judged:
                continue
            place = fresh(directory, f"{one.name}.{turn}")
            servers.enter_context(running(one, place))
            there.append((one, place, count if judged else count // _FEWER))
        yield from sessions.handshakes(there, key)


def idle_connections(
    turns: Iterable[int], count: int, names: Sequence[str], directory: Path, rows: list[Row]
) -> bool:
    """Memory of idle connections; each figure is of a server of its own, all of which run at once: memory does not
    depend on what else the machine does.
    """
    failed = False
    directory = opened(directory / "idle")
    peers = ready([name for name in idle.PEERS if name in names], ["u0"], directory)
    there = []
    for protocol in idle.PROTOCOLS:
        place = directory / protocol
        place.mkdir()
        place.chmod(0o755)
        there += [(one.again(), protocol) for one in peers if protocol in idle.ways(one.name)]
    most = idle.at_once(count)
    for turn in turns:
        for at in range(0, len(there), most):
            found, wrong = idle.together(there[at : at + most], directory, turn, count)
            rows += found
            failed |= wrong
    return failed
