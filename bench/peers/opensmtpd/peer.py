"""Debian's OpenSMTPD, which writes Maildirs by its mail.maildir."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import DOMAIN, Peer, fill, free_port, program

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from debian import inside, unpacked  # noqa: E402  (a neighbour of the folder, whose name no import can spell)

_NOBODY = 65534


class Server(Peer):
    name = "opensmtpd"
    # "500 5.5.1 Invalid command: Pipelining not supported" to what comes with DATA
    pipelining = False
    # Debian's answers no handshake here ("missing private key"), so its configuration has no certificate
    starttls = False
    durable = (
        "the spool's two files, by the file system (chattr +S), because it syncs nothing itself"
    )

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(users)
        self._files = Path()

    def prepare(self, directory: Path) -> None:
        self._files = unpacked("opensmtpd")

    def start(self, directory: Path) -> None:
        mailboxes = directory / "mailboxes"
        mailboxes.mkdir(exist_ok=True)
        os.chown(mailboxes, _NOBODY, _NOBODY)
        spool = directory / "spool"
        spool.mkdir(exist_ok=True)
        spool.chmod(0o711)
        # inherited by what is made in it: each write is on the disk when it returns, and so is each change of a folder
        subprocess.run([program("chattr"), "+S", spool], check=True, timeout=10)
        self.smtp = free_port()
        written = directory / "smtpd.conf"
        fill(_HERE / "smtpd.conf", written, domain=DOMAIN, port=self.smtp)
        etc = {
            "smtpd.conf": written.read_text(),
            "mailboxes": "".join(f"{user}@{DOMAIN} nobody\n" for user in self.users),
            "mailname": f"mx.{DOMAIN}\n",
            # each client's name is looked up: in this file, and nowhere else
            "resolv.conf": "lookup file\n",
            "hosts": "127.0.0.1 localhost\n",
        }
        places = {"/var/spool/smtpd": spool, "/var/lib/mailboxes": mailboxes}
        serve = "mkdir -p /var/lib/opensmtpd/empty; exec /usr/sbin/smtpd -F"
        command = inside(self._files, directory, etc, places, serve)
        self._run(command, directory / "smtpd.log", self.smtp)

    def inboxes(self, directory: Path) -> Sequence[Path]:
        return [directory / "mailboxes" / user for user in self.users]
