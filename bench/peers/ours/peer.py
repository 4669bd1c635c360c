"""This checkout's server: `twistd -n mailserver`, with the accounts made by mailctl."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import DOMAIN, PASSWORD, Peer, fill, free_port

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from checkout import mailctl, mailserver  # noqa: E402  (a neighbour of the folder, whose name no import can spell)


class Server(Peer):
    name = "ours"
    durable = "the journal record (one sync a group); the message is in every mailbox by then"

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(users)
        self._base = Path()

    def prepare(self, directory: Path) -> None:
        config = directory / "mail.toml"
        mailserver(config)
        self._base = directory
        self._configure(directory)
        mailctl(config, "domain", "add", DOMAIN)
        for user in self.users:
            name = f"{user}@{DOMAIN}"
            mailctl(config, "user", "add", name, "--password-stdin", typed=PASSWORD + "\n")

    def start(self, directory: Path) -> None:
        if not (directory / "data").exists():
            shutil.copytree(self._base, directory, dirs_exist_ok=True)
        self._configure(directory)
        self._run(mailserver(directory / "mail.toml"), directory / "twistd.log", self.smtp)

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
