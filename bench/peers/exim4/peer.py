"""Debian's Exim, which writes Maildirs itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import DOMAIN, Peer, fill, free_port, program

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from certificate import make_certificate  # noqa: E402  (a neighbour of the folder, whose name no import can spell)
from debian import inside, unpacked  # noqa: E402

_NOBODY = 65534
_EXIM = 64903


class Server(Peer):
    name = "exim4"
    durable = "the spool's two files; the Maildir file (synced too) comes after 250"

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(users)
        self._files = Path()
        self._base = Path()

    def prepare(self, directory: Path) -> None:
        self._files = unpacked("exim4-daemon-light", "exim4-base")
        program("openssl")
        make_certificate(directory, self.key)
        self._base = directory

    def start(self, directory: Path) -> None:
        places = {}
        for path, owner in (("spool/exim4", _EXIM), ("log/exim4", _EXIM), ("mailboxes", _NOBODY)):
            made = directory / path
            made.mkdir(parents=True, exist_ok=True)
            os.chown(made, owner, owner)
            places[f"/var/{path}"] = made
        (directory / "run").mkdir(exist_ok=True)
        places["/run/exim4"] = directory / "run"
        os.chown(directory / "run", _EXIM, _EXIM)
        self.smtp, self.smtps = free_port(), free_port()
        ports = {"port": self.smtp, "smtps": self.smtps}
        fill(_HERE / "exim4.conf", directory / "exim4.conf", domain=DOMAIN, **ports)
        etc = {
            "exim4/exim4.conf": (directory / "exim4.conf").read_text(),
            "exim4/users": "".join(f"{user}: {user}\n" for user in self.users),
            "mailname": f"mx.{DOMAIN}\n",
        }
        for name in ("cert.pem", "key.pem"):
            etc[f"exim4/{name}"] = (self._base / name).read_text()
        command = inside(self._files, directory, etc, places, "exec /usr/sbin/exim4 -bdf -q30m")
        self._run(command, directory / "exim.log", self.smtp)

    def inboxes(self, directory: Path) -> Sequence[Path]:
        return [directory / "mailboxes" / user for user in self.users]
