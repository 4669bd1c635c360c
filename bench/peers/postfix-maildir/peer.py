"""Postfix that writes Maildirs itself, by its virtual(8); nothing reads them by POP3."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import Peer, need_root, program

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from postfix import Postfix  # noqa: E402  (a neighbour of the folder, whose name no import can spell)

_NOBODY = 65534


class Server(Peer):
    name = "postfix-maildir"
    durable = "Postfix's queue file; the Maildir file (synced too) comes after 250"

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(users)
        self._postfix = Postfix()

    def prepare(self, directory: Path) -> None:
        need_root()
        program("postfix")

    def start(self, directory: Path) -> None:
        mail = directory / "mail"
        mail.mkdir(exist_ok=True)
        os.chown(mail, _NOBODY, _NOBODY)
        self._postfix.key = self.key
        self._postfix.start(directory, _HERE / "main.cf", self.users)
        self.smtp, self.smtps = self._postfix.port, self._postfix.smtps
        self.roots.append(self._postfix.pid)

    def stop(self) -> None:
        self._postfix.stop()
        super().stop()

    def inboxes(self, directory: Path) -> Sequence[Path]:
        return [directory / "mail" / user for user in self.users]
