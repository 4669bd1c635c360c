"""This checkout's programs, on the Python that runs the benchmark: not what is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import DOMAIN, PASSWORD, Relay, fill, free_port, program

__all__ = ["CHECKOUT", "FROM_HERE", "Ours", "add_users", "copied", "mailctl", "mailserver"]

CHECKOUT = Path(os.environ.get("BENCH_CHECKOUT") or Path(__file__).resolve().parents[2])
"""Whose programs run: this one's, or another one's, to be measured in the same way."""
FROM_HERE = ("env", f"PYTHONPATH={CHECKOUT}{os.pathsep}{CHECKOUT / 'bench'}")
_BY_MAILCTL = 1
_MAILCTL = (*FROM_HERE, sys.executable, "-c", "from twisted_mail.cli import main; main()")


def mailserver(config: Path) -> list[str]:
    """The command that serves in the foreground. Raises `Missing`."""
    twistd = program("twistd", str(Path(sys.executable).parent))
    return [*FROM_HERE, twistd, "-n", "--pidfile=", "mailserver", "--config", str(config)]


def mailctl(config: Path, *command: str, typed: str = "") -> str:
    """What the command prints. RuntimeError when it fails."""
    done = subprocess.run(
        [*_MAILCTL, "--config", str(config), *command],
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
        # `python -c` looks in the current folder first, which may be another checkout's
        cwd=config.parent,
    )
    if done.returncode:
        raise RuntimeError(f"mailctl {' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def add_users(config: Path, users: Sequence[str]) -> None:
    """The domain of all benchmarks, and these in it."""
    mailctl(config, "domain", "add", DOMAIN)
    for user in users[:_BY_MAILCTL]:
        name = f"{user}@{DOMAIN}"
        mailctl(config, "user", "add", name, "--password-stdin", typed=PASSWORD + "\n")
    if more := users[_BY_MAILCTL:]:
        _add_rows(config.parent / "data/accounts.sqlite3", f"{users[0]}@{DOMAIN}", more)


def _add_rows(path: Path, like: str, users: Sequence[str]) -> None:
    """More accounts, with the password of the one they are `like`: ten thousand calls of mailctl would take an hour."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.executemany(
            "INSERT INTO users (key, local, domain, mailbox, password, created)"
            " SELECT ?, ?, domain, ?, password, created FROM users WHERE key = ?",
            ((f"{u}@{DOMAIN}", u, f"{DOMAIN}/{u}", like) for u in users),
        )
        db.executemany("INSERT INTO mailboxes_ever VALUES (?)", ((f"{DOMAIN}/{u}",) for u in users))


def copied(base: Path, directory: Path) -> None:
    """Put the data there that was made in `base`, if there is none."""
    if not (directory / "data").exists():
        shutil.copytree(base, directory, dirs_exist_ok=True)


class Ours(Relay):
    """This server, sending as the `template` of its configuration says; what that has in it is what `values` gives."""

    durable = "the journal record (one sync a group), which holds the message and its queue entry"
    scales = True
    template: Path
    _base = Path()

    def values(self) -> dict[str, object]:
        """What the template has besides the usual."""
        return {}

    def prepare(self, directory: Path) -> None:
        config = directory / "mail.toml"
        mailserver(config)
        self._base = directory
        self.configure(directory)
        mailctl(config, "domain", "add", DOMAIN)

    def place(self, directory: Path) -> None:
        """Put the data there that `prepare` made, if there is none."""
        copied(self._base, directory)

    def start(self, directory: Path) -> None:
        self.place(directory)
        self.configure(directory)
        self._run(mailserver(directory / "mail.toml"), directory / "twistd.log", self.smtp)

    def configure(self, directory: Path) -> None:
        """Write the configuration, with a new port."""
        self.smtp = free_port()
        fill(
            self.template,
            directory / "mail.toml",
            domain=DOMAIN,
            smtp=self.smtp,
            run="true" if self.sending else "false",
            next_hop=self.next_hop or 25,
            workers=self.workers,
            **self.values(),
        )
