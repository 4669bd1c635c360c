"""Logins a second (`logins.py`): accounts of some messages each, a new connection for each login."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import imap_mail
from harness import PASSWORD, Peer
from measure import fresh, memory, spread
from rounds import Watch, ready, running
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
    failed = False
    directory = directory / "logins"
    directory.mkdir()
    spread(directory)
    letters = imap_mail.small(directory / "letters", _MESSAGES)
    peers = ready(
        [name for name in PEERS if name in names],
        [f"u{number}" for number in range(users)],
        directory,
        "ec",
    )
    for one in peers:
        accounts = directory / f"{one.name}.base" / "data/accounts.sqlite3"
        if accounts.exists():
            cheap_passwords(accounts)
    for turn in turns:
        for one in list(peers):
            place = fresh(directory, f"{one.name}.{turn}")
            try:
                # The Maildirs come when the rest of the server's directory is there.
                with running(one, place):
                    pass
                for inbox in one.inboxes(place):
                    if not inbox.exists():
                        imap_mail.maildir(inbox, letters)
                with running(one, place):
                    for row in _measured(one, place, seconds, clients):
                        row.turn = turn
                        rows.append(row)
                        print(f"round {turn + 1}: {row.brief()}", file=sys.stderr, flush=True)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                print(f"{one.name}: failed: {error}", flush=True)
                failed = True
                peers.remove(one)
    return failed


def _measured(one: Peer, place: Path, seconds: float, clients: int) -> Iterator[Row]:
    for case, options, listener in CASES:
        port = getattr(one, listener)
        user = one.login("u%d")
        command = [sys.executable, str(_HERE / "logins.py"), "--port", str(port), *options]
        command += ["--user", user, "--users", str(len(one.users)), "--clients", str(clients)]
        _run(command, len(one.users) * 2, 60.0)  # each account was seen, each password was right
        with Watch(one, place) as watch:
            result = _run([*command, "--warm", "0"], 10**9, seconds)
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
        yield Row(one.name, f"{case}, {len(one.users)} accounts", values, watch.noise())


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
