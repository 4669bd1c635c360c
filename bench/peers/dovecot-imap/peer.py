"""Debian's Dovecot, read by IMAP; mail comes in by its LMTP."""

from __future__ import annotations

import os
import shutil
import smtplib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness import PASSWORD, Missing, fill, free_port, need_root, program
from imap_peer import OWNER, ImapPeer

_HERE = Path(__file__).resolve().parent


class Server(ImapPeer):
    name = "dovecot-imap"
    durable = "the Maildir file and its directory (mail_fsync = optimized)"

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(users)
        self._certificate = Path()
        self._lmtp = ""

    def prepare(self, directory: Path) -> None:
        need_root()
        program("dovecot")
        for part in ("imap", "pop3", "lmtp"):
            if not Path("/usr/lib/dovecot", part).exists():
                raise Missing(f"dovecot-{part}d is not installed")
        self._certificate = directory
        command = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
        command += ["-subj", "/CN=localhost", "-days", "2"]
        command += ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def maildir(self, directory: Path, user: str) -> Path:
        return directory / "mail" / user / "Maildir"

    def start(self, directory: Path) -> None:
        for path in (directory / "mail", *(directory / "mail" / user for user in self.users)):
            path.mkdir(parents=True, exist_ok=True)
            os.chown(path, OWNER, OWNER)
        for name in ("cert.pem", "key.pem"):
            shutil.copy(self._certificate / name, directory / name)
        self.imap = free_port()
        self.imaps = free_port()
        self.pop3 = free_port()
        values = {"uid": OWNER, "gid": OWNER, "password": PASSWORD, "root": directory}
        config = directory / "dovecot.conf"
        fill(
            _HERE / "dovecot.conf",
            config,
            imap=self.imap,
            imaps=self.imaps,
            pop3=self.pop3,
            **values,
        )
        self._lmtp = str(directory / "run/lmtp")
        self._run([program("dovecot"), "-F", "-c", config], directory / "out.log", self.imap)

    def deliverer(self) -> smtplib.SMTP:
        return smtplib.LMTP(self._lmtp, timeout=30)
