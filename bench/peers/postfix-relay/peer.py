"""Postfix that relays everything to the sink."""

from __future__ import annotations

import sys
from pathlib import Path

from harness import CONNECTIONS, Relay, need_root, program

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from postfix import Postfix  # noqa: E402  (a neighbour of the folder, whose name no import can spell)


class Server(Relay):
    name = "postfix-relay"
    durable = "Postfix's queue file"

    def __init__(self, users: tuple[str, ...] = ()) -> None:
        super().__init__(users)
        self._postfix = Postfix()

    def prepare(self, directory: Path) -> None:
        need_root()
        program("postfix")

    def start(self, directory: Path) -> None:
        self._postfix.key = self.key
        self._postfix.start(
            directory,
            _HERE / "main.cf",
            (),
            next_hop=self.next_hop,
            connections=CONNECTIONS,
            # without its queue manager it takes mail and sends none
            disabled="" if self.sending else "qmgr/unix",
        )
        self.smtp, self.smtps = self._postfix.port, self._postfix.smtps
        self.roots.append(self._postfix.pid)

    def stop(self) -> None:
        self._postfix.stop()
        super().stop()
