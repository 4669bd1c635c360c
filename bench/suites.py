"""The suites that are made of `sessions.py` and `idle.py`: which peers, which rounds, which mailboxes.

As in run.py each round starts every peer once, in turn, in a fresh directory, measures its cases and stops it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import sessions
from handshakes import ceiling
from harness import Peer
from idle import PEERS as IDLE_PEERS
from idle import idle
from measure import fresh, spread
from rounds import ready, run_load, running
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
_MANY = (1, 10, 100, 1000)
_OF_MANY = ("sink", "postfix-maildir", "aiosmtpd", "haraka", "ours")
"""Postfix answers a hundred at a time, as Debian has it: the others wait. OpenSMTPD and Exim refuse what is above their
own bounds, which are set by the memory of a process each."""
_OF_ACCOUNTS = ("postfix-dovecot", "postfix-maildir", "aiosmtpd", "haraka", "ours")
_KEYS = {"RSA 2048": "rsa:2048", "P-256": "ec"}
_SHAKERS = ("bare-twisted", "postfix-maildir", "exim4", "aiosmtpd", "haraka", "ours")

_Measured = Callable[[Peer, Path], Iterable[Row]]


def _rounds(
    turns: int,
    names: Sequence[str],
    users: Sequence[str],
    directory: Path,
    rows: list[Row],
    measured: _Measured,
    key: str = "",
) -> bool:
    """All rounds into `rows`; True when a peer failed. `directory` is made."""
    failed = False
    directory.mkdir()
    spread(directory)
    peers = ready(names, users, directory, key)
    for turn in range(turns):
        for one in list(peers):
            place = fresh(directory, f"{one.name}.{turn}")
            try:
                with running(one, place):
                    for row in measured(one, place):
                        row.turn = turn
                        rows.append(row)
                        print(f"round {turn + 1}: {row.brief()}", file=sys.stderr, flush=True)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                print(f"{one.name}: failed: {error}", flush=True)
                failed = True
                peers.remove(one)
    return failed


def large(
    turns: int, seconds: float, names: Sequence[str], directory: Path, rows: list[Row]
) -> bool:
    """10 MiB messages, each way."""
    order = [name for name in ("sink-large", *RECEIVERS) if name in names]

    def measured(one: Peer, place: Path) -> Iterable[Row]:
        return sessions.large(one, place, seconds)

    return _rounds(turns, order, ["u0"], directory / "large", rows, measured)


def many(
    turns: int, seconds: float, names: Sequence[str], directory: Path, rows: list[Row]
) -> bool:
    """Small messages from 1, 10, 100, 1000 kept connections."""
    users = [f"u{number}" for number in range(20)]

    def measured(one: Peer, place: Path) -> Iterable[Row]:
        run_load(one, place, ["--seconds", "0.5"])
        for number in _MANY:
            options = ["--sessions", str(number), "--seconds", str(seconds)]
            yield sessions.small(one, place, f"{number} kept connections", options)

    order = [name for name in _OF_MANY if name in names]
    return _rounds(turns, order, users, directory / "many", rows, measured)


def accounts(
    turns: int,
    seconds: float,
    numbers: Sequence[int],
    names: Sequence[str],
    directory: Path,
    rows: list[Row],
) -> bool:
    """Small messages to accounts by chance, of so many."""
    failed = False
    for number in numbers:
        users = [f"u{n}" for n in range(number)]
        options = ["--users", str(number), "--random", "--seconds", str(seconds)]

        def measured(
            one: Peer, place: Path, options: list[str] = options, number: int = number
        ) -> Iterable[Row]:
            # the second is of mailboxes that are there already
            for what in ("first seconds", "next seconds"):
                yield sessions.small(one, place, f"of {number} accounts by chance, {what}", options)

        order = [name for name in _OF_ACCOUNTS if name in names]
        place = directory / f"accounts-{number}"
        failed |= _rounds(turns, order, users, place, rows, measured)
    return failed


def tls(turns: int, count: int, names: Sequence[str], directory: Path, rows: list[Row]) -> bool:
    """TLS sessions by kind of key, beside what OpenSSL needs at least."""
    failed = False
    order = [name for name in _SHAKERS if name in names]
    for name, kind in _KEYS.items():

        def measured(one: Peer, place: Path, name: str = name) -> Iterable[Row]:
            return sessions.handshakes(one, place, name, count)

        place = directory / f"tls-{kind.replace(':', '-')}"
        failed |= _rounds(turns, order, ["u0"], place, rows, measured, kind)
    try:
        for turn in range(turns):
            for name, ms in ceiling().items():
                values = {"ms CPU": ms, "cpu": ms, "memory": 0.0, "resumed": 0.0}
                # measured while nothing else of the run does anything
                noise = Noise(min(row.noise.spin for row in rows), 0.0, 0.0, 0.0) if rows else None
                case = f"TLS session, {name}"
                rows.append(Row("openssl speed", case, values, noise or Noise(1, 0, 0, 0), turn))
    except (OSError, subprocess.SubprocessError) as error:
        print(f"openssl speed: {error}", flush=True)
    return failed


def idle_connections(
    turns: int, count: int, names: Sequence[str], directory: Path, rows: list[Row]
) -> bool:
    """Memory of idle connections; each figure is of a process of its own."""
    failed = False
    order = [name for name in IDLE_PEERS if name in names]
    directory = directory / "idle"
    directory.mkdir()
    for protocol in ("smtp", "smtps", "pop3", "pop3s", "imap", "imaps"):

        def measured(one: Peer, place: Path, protocol: str = protocol) -> Iterable[Row]:
            return idle(one, place, protocol, count)

        failed |= _rounds(turns, order, ["u0"], directory / protocol, rows, measured)
    return failed
