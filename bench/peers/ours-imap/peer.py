"""This checkout's server, read by IMAP: `twistd -n mailserver`."""

from __future__ import annotations

import smtplib
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import DOMAIN, fill, free_port
from imap_peer import ImapPeer

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from checkout import add_users, copied, mailserver  # noqa: E402  (a neighbour of the folder, whose name no import can spell)


class Server(ImapPeer):
    name = "ours-imap"
    scales = True
    durable = "the journal record of an APPEND (one sync a group)"

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(users)
        self._base = Path()

    def prepare(self, directory: Path) -> None:
        config = directory / "mail.toml"
        mailserver(config)
        self._base = directory
        self._configure(directory)
        add_users(config, self.users)

    def maildir(self, directory: Path, user: str) -> Path:
        copied(self._base, directory)
        return directory / "data/mail" / DOMAIN / user / "Maildir"

    def start(self, directory: Path) -> None:
        self.maildir(directory, "")
        self._configure(directory)
        self._run(mailserver(directory / "mail.toml"), directory / "twistd.log", self.imap)

    def deliverer(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.smtp, timeout=30)

    def _configure(self, directory: Path) -> None:
        ports = {name: free_port() for name in ("smtp", "pop3", "imap", "imaps")}
        for name, port in ports.items():
            setattr(self, name, port)
        values = {"domain": DOMAIN, "workers": self.workers}
        fill(_HERE / "mail.toml", directory / "mail.toml", **ports, **values)
