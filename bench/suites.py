"""The suites that are made of `sessions.py` and `idle.py`: which peers, which mailboxes, which cases."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

import idle
import sessions
from handshakes import ceiling
from harness import Peer
from measure import cpu_seconds, memory, spread
from rounds import Group, Watch, all_rounds, ready, run_load
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
_STARTS = 3
_KEYS = {"RSA 2048": "rsa:2048", "P-256": "ec"}
_SHAKERS = ("bare-twisted", "postfix-maildir", "exim4", "aiosmtpd", "haraka", "ours")


def large(
    turns: Iterable[int], seconds: float, names: Sequence[str], directory: Path, rows: list[Row]
) -> bool:
    """10 MiB messages, each way."""
    order = [name for name in ("sink-large", *RECEIVERS) if name in names]

    def measured(one: Peer, place: Path) -> Iterable[Row]:
        return sessions.large(one, place, seconds)

    group = Group(order, ["u0"], directory / "large", measured, once=_ONCE)
    return all_rounds(turns, [group], rows)


def many(
    turns: Iterable[int], seconds: float, names: Sequence[str], directory: Path, rows: list[Row]
) -> bool:
    """Small messages from 1, 10, 100, 1000 kept connections."""
    users = [f"u{number}" for number in range(20)]

    def measured(one: Peer, place: Path) -> Iterable[Row]:
        run_load(one, place, ["--seconds", "0.5"])
        sessions.settled(one, place)
        for number in _MANY:
            options = ["--sessions", str(number), "--seconds", str(seconds)]
            yield sessions.small(one, place, f"{number} kept connections", options)

    order = [name for name in _OF_MANY if name in names]
    group = Group(order, users, directory / "many", measured, once=("aiosmtpd",))
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
            one: Peer, place: Path, options: list[str] = options, number: int = number
        ) -> Iterable[Row]:
            # the second is of mailboxes that are there already
            for what in ("first seconds", "next seconds"):
                yield sessions.small(one, place, f"of {number} accounts by chance, {what}", options)
            if one.name == "ours":
                yield _starts(one, place, f"start to the first 220, {number} accounts")

        order = ["ours"] if number > _OWN_ALONE else list(_OF_ACCOUNTS)
        users = [f"u{n}" for n in range(number)]
        place = directory / f"accounts-{number}"
        order = [name for name in order if name in names]
        once = order if number > _OWN_ALONE else ("sink", "aiosmtpd")
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
    """TLS sessions by kind of key, beside what OpenSSL needs at least."""
    order = [name for name in _SHAKERS if name in names]
    groups = []
    for name, kind in _KEYS.items():

        def measured(one: Peer, place: Path, name: str = name) -> Iterable[Row]:
            return sessions.handshakes(one, place, name, count)

        place = directory / f"tls-{kind.replace(':', '-')}"
        once = ("exim4", "aiosmtpd")
        groups.append(Group(order, ["u0"], place, measured, kind, once=once))
    failed = all_rounds(turns, groups, rows)
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


def idle_connections(
    turns: Iterable[int], count: int, names: Sequence[str], directory: Path, rows: list[Row]
) -> bool:
    """Memory of idle connections; each figure is of a server of its own, all of which run at once: memory does not
    depend on what else the machine does.
    """
    failed = False
    directory = directory / "idle"
    directory.mkdir()
    spread(directory)
    directory.chmod(0o755)
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
