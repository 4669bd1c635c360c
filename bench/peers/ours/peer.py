"""This checkout's server: `twistd -n mailserver`, with the accounts made by mailctl."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import DOMAIN, Peer, fill, free_port

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from checkout import add_users, copied, mailserver  # noqa: E402  (a neighbour of the folder, whose name no import can spell)


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
        add_users(config, self.users)

    def start(self, directory: Path) -> None:
        copied(self._base, directory)
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
