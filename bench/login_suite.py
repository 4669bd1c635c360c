"""Logins a second (`logins.py`): accounts of some messages each, a new connection for each login."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import imap_mail
from harness import PASSWORD, Peer
from measure import fresh, memory
from rounds import Job, Watch, at_rest, opened, ready, repeated, running
from table import Row

from twisted_mail.accounts.passwords import Cost, hash_password

__all__ = ["PEERS", "cheap_passwords", "logins"]

_HERE = Path(__file__).resolve().parent
PEERS = ("dovecot-logins", "ours")
_MESSAGES = 3
CASES = (
    ("POP3 logins", ("--protocol", "pop3"), "pop3"),
    ("POP3 logins, TLS", ("--protocol", "pop3", "--tls"), "pop3s"),
    ("IMAP logins", ("--protocol", "imap"), "imap"),
    ("IMAP logins, TLS", ("--protocol", "imap", "--tls"), "imaps"),
)


def cheap_passwords(accounts: Path) -> None:
    """Have the passwords of this server cost next to nothing, as Dovecot's ``{PLAIN}`` do: the rest is measured."""
    cost = Cost(memory=8, passes=1, scram_iterations=4096)
    record = hash_password(PASSWORD, os.urandom, cost).encode()
    with closing(sqlite3.connect(accounts)) as db, db:
        db.execute("UPDATE users SET password = ?", (record,))


def logins(
    turns: Iterable[int],
    seconds: float,
    users: int,
    names: Sequence[str],
    directory: Path,
    rows: list[Row],
    *,
    clients: int = 20,
) -> bool:
    """All rounds into `rows`; True when a peer failed. `directory` is there."""
    directory = opened(directory / "logins")
    letters = imap_mail.small(directory / "letters", _MESSAGES)
    accounts = [f"u{number}" for number in range(users)]
    jobs = []
    for one in ready([name for name in PEERS if name in names], accounts, directory, "ec"):
        passwords = directory / f"{one.name}.base" / "data/accounts.sqlite3"
        if passwords.exists():
            cheap_passwords(passwords)
        jobs.append(Job(one, partial(_round, one, directory, letters, seconds, clients)))
    return repeated(turns, jobs, rows)


def _round(
    one: Peer,
    directory: Path,
    letters: Sequence[imap_mail.Letter],
    seconds: float,
    clients: int,
    turn: int,
) -> Iterator[Row]:
    place = fresh(directory, f"{one.name}.{turn}")
    # The Maildirs come when the rest of the server's directory is there.
    with running(one, place, rest=False):
        pass
    for inbox in one.inboxes(place):
        if not inbox.exists():
            imap_mail.maildir(inbox, letters)
    with running(one, place):
        yield from _measured(one, place, seconds, clients)


def _measured(one: Peer, place: Path, seconds: float, clients: int) -> Iterator[Row]:
    """Every account once, which finds its Maildir and checks its password for the first time; then again, to warm up;
    then for some seconds.
    """
    users = len(one.users)
    for case, options, listener in CASES:
        port = getattr(one, listener)
        user = one.login("u%d")
        command = [sys.executable, str(_HERE / "logins.py"), "--port", str(port), *options]
        command += ["--user", user, "--users", str(users), "--clients", str(clients)]
        command += ["--warm", "0"]
        if "--tls" not in options:
            yield _load(one, place, f"{case}, the first of {users} accounts", command, users, 60.0)
            _run(command, users, 60.0)
        else:
            # each account is known; what TLS loads is loaded
            _run(command, clients, 60.0)
        at_rest(one)
        yield _load(one, place, f"{case}, {users} accounts", command, 10**9, seconds)


def _load(
    one: Peer, place: Path, case: str, command: Sequence[str], most: int, seconds: float
) -> Row:
    with Watch(one, place) as watch:
        result = _run(command, most, seconds)
        watch.not_others = float(result["cpu"])
    count = float(result["accepted"])
    values = {
        "rate": count / (float(result["end"]) - float(result["begin"])),
        "cpu": watch.cpu / count * 1000,
        "memory": memory(one.roots),
        "client ms": float(result["cpu"]) / count * 1000,
        "p50": float(result["p50"]),
        "p99": float(result["p99"]),
        "refused": float(result["refused"]),
    }
    return Row(one.name, case, values, watch.noise())


def _run(command: Sequence[str], most: int, seconds: float) -> dict[str, float | str]:
    done = subprocess.run(
        [*command, "--count", str(most), "--seconds", str(seconds)],
        input=PASSWORD + "\n",
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    result: dict[str, float | str] = json.loads(done.stdout) if done.stdout else {"accepted": 0}
    if not result["accepted"]:
        raise RuntimeError(f"nobody got in: {result.get('refusal') or done.stderr[-500:]}")
    return result
