"""This checkout's server: `twistd -n mailserver`, with the accounts made by mailctl."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import DOMAIN, Peer, fill, free_port

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from certificate import make_certificate  # noqa: E402  (a neighbour of the folder, whose name no import can spell)
from checkout import add_users, copied, mailserver  # noqa: E402


class Server(Peer):
    name = "ours"
    submits = True
    key = ""
    scales = True
    durable = "the journal record (one sync a group); the message is in every mailbox by then"

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(users)
        self._base = Path()

    def prepare(self, directory: Path) -> None:
        config = directory / "mail.toml"
        mailserver(config)
        self._base = directory
        if self.key:
            make_certificate(directory, self.key)
        self._configure(directory)
        add_users(config, self.users)

    def start(self, directory: Path) -> None:
        copied(self._base, directory)
        self._configure(directory)
        self._run(mailserver(directory / "mail.toml"), directory / "twistd.log", self.smtp)

    def inboxes(self, directory: Path) -> Sequence[Path]:
        return [directory / "data/mail" / DOMAIN / user / "Maildir" for user in self.users]

    def arrived(self, directory: Path) -> int:
        """Of those that there are: a million accounts have few folders yet."""
        count = 0
        with (
            contextlib.suppress(FileNotFoundError),
            os.scandir(directory / "data/mail" / DOMAIN) as found,
        ):
            for one in found:
                for part in ("new", "cur"):
                    with contextlib.suppress(FileNotFoundError):
                        count += len(os.listdir(f"{one.path}/Maildir/{part}"))
        return count

    def _configure(self, directory: Path) -> None:
        names = ("smtp", "smtps", "pop3", "pop3s", "imap", "imaps")
        ports = {name: free_port() for name in names}
        for name, port in ports.items():
            setattr(self, name, port)
        tls = ""
        if self.key:
            pair = (self._base / "cert.pem", self._base / "key.pem")
            tls = '\n[tls]\ncertificate = "{}"\nkey = "{}"\n'.format(*pair)
        values = {"tls": tls, "workers": f"workers = {self.workers}\n"}
        fill(_HERE / "mail.toml", directory / "mail.toml", domain=DOMAIN, **ports, **values)
