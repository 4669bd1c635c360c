"""Postfix that hands everything to Dovecot by LMTP, read by Dovecot's POP3: what many sites run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import PASSWORD, Missing, Peer, fill, free_port, need_root, program

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from postfix import Postfix  # noqa: E402  (a neighbour of the folder, whose name no import can spell)

_NOBODY = 65534


class Server(Peer):
    name = "postfix-dovecot"
    durable = "Postfix's queue file; the Maildir file (synced by Dovecot) comes after 250"

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(users)
        self._postfix = Postfix()
        self._certificate = Path()

    def prepare(self, directory: Path) -> None:
        need_root()
        program("postfix")
        program("dovecot")
        if not Path("/usr/lib/dovecot/lmtp").exists():
            raise Missing("dovecot-lmtpd is not installed")
        self._certificate = directory
        command = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
        command += ["-subj", "/CN=localhost", "-days", "2"]
        command += ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def start(self, directory: Path) -> None:
        root = directory / "dovecot"
        mail = root / "mail"
        mail.mkdir(parents=True, exist_ok=True)
        os.chown(mail, _NOBODY, _NOBODY)
        for name in ("cert.pem", "key.pem"):
            shutil.copy(self._certificate / name, root / name)
        self.pop3 = free_port()
        self.pop3s = free_port()
        values = {"uid": _NOBODY, "gid": _NOBODY, "password": PASSWORD, "root": root}
        config = root / "dovecot.conf"
        fill(_HERE / "dovecot.conf", config, pop3=self.pop3, pop3s=self.pop3s, **values)
        self._run([program("dovecot"), "-F", "-c", config], root / "out.log", self.pop3)
        self._postfix.key = self.key
        self._postfix.start(directory, _HERE / "main.cf", self.users, lmtp=root / "run/lmtp")
        self.smtp, self.smtps = self._postfix.port, self._postfix.smtps
        self.roots.append(self._postfix.pid)

    def stop(self) -> None:
        self._postfix.stop()
        super().stop()

    def inboxes(self, directory: Path) -> Sequence[Path]:
        return [directory / "dovecot/mail" / user / "Maildir" for user in self.users]
