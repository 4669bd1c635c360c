"""This checkout's server: `twistd -n mailserver`, with the accounts made by mailctl.

It runs from the checkout, not from what is installed, on the Python that runs the benchmark.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import DOMAIN, PASSWORD, Peer, fill, free_port, program

_HERE = Path(__file__).resolve().parent
_CHECKOUT = _HERE.parents[2]
_FROM_HERE = ("env", f"PYTHONPATH={_CHECKOUT}")
_MAILCTL = (*_FROM_HERE, sys.executable, "-c", "from twisted_mail.cli import main; main()")


class Server(Peer):
    name = "ours"
    durable = "the journal record (one sync a group); the message is in every mailbox by then"

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(users)
        self._base = Path()

    def prepare(self, directory: Path) -> None:
        _twistd()
        self._base = directory
        self._configure(directory)
        config = ["--config", str(directory / "mail.toml")]
        commands = [(["domain", "add", DOMAIN], "")]
        for user in self.users:
            name = f"{user}@{DOMAIN}"
            commands.append((["user", "add", name, "--password-stdin"], PASSWORD + "\n"))
        for command, typed in commands:
            done = subprocess.run(
                [*_MAILCTL, *config, *command],
                input=typed,
                capture_output=True,
                text=True,
                timeout=60,
            )
            if done.returncode:
                raise RuntimeError(f"mailctl {' '.join(command)}: {done.stdout}{done.stderr}")

    def start(self, directory: Path) -> None:
        if not (directory / "data").exists():
            shutil.copytree(self._base, directory, dirs_exist_ok=True)
        self._configure(directory)
        command = [*_FROM_HERE, _twistd(), "-n", "--pidfile=", "mailserver"]
        log = directory / "twistd.log"
        self._run([*command, "--config", str(directory / "mail.toml")], log, self.smtp)

    def inboxes(self, directory: Path) -> Sequence[Path]:
        found = []
        for path, folders, _files in os.walk(directory / "data"):
            if "Maildir" in folders:
                found.append(Path(path, "Maildir"))
                folders.clear()
        return found

    def _configure(self, directory: Path) -> None:
        self.smtp, self.pop3, self.pop3s = free_port(), free_port(), free_port()
        ports = {"smtp": self.smtp, "pop3": self.pop3, "pop3s": self.pop3s}
        fill(_HERE / "mail.toml", directory / "mail.toml", domain=DOMAIN, **ports)


def _twistd() -> str:
    return program("twistd", str(Path(sys.executable).parent))
