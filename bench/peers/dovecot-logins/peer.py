"""Debian's Dovecot in its high-performance mode, read by POP3 and IMAP in Maildirs that are put there before."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import PASSWORD, Missing, Peer, fill, free_port, need_root, program
from imap_peer import OWNER

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from certificate import make_certificate  # noqa: E402  (a neighbour of the folder, whose name no import can spell)


class Server(Peer):
    name = "dovecot-logins"
    durable = "nothing: it is only read"

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(users)
        self._certificate = Path()

    def prepare(self, directory: Path) -> None:
        need_root()
        program("dovecot")
        for part in ("imap", "pop3"):
            if not Path("/usr/lib/dovecot", part).exists():
                raise Missing(f"dovecot-{part}d is not installed")
        self._certificate = directory
        make_certificate(directory, self.key)

    def inboxes(self, directory: Path) -> Sequence[Path]:
        return [directory / "mail" / user / "Maildir" for user in self.users]

    def start(self, directory: Path) -> None:
        for path in (directory / "mail", *(directory / "mail" / user for user in self.users)):
            path.mkdir(parents=True, exist_ok=True)
            os.chown(path, OWNER, OWNER)
        for name in ("cert.pem", "key.pem"):
            shutil.copy(self._certificate / name, directory / name)
        ports = {name: free_port() for name in ("pop3", "pop3s", "imap", "imaps")}
        for name, port in ports.items():
            setattr(self, name, port)
        values = {"uid": OWNER, "gid": OWNER, "password": PASSWORD, "root": directory}
        config = directory / "dovecot.conf"
        fill(_HERE / "dovecot.conf", config, cores=os.cpu_count() or 1, **ports, **values)
        self._run([program("dovecot"), "-F", "-c", config], directory / "out.log", self.pop3)
