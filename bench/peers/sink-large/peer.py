"""The ceiling of large.py: its own sink, in clear and with TLS."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from harness import Peer, free_port

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from certificate import make_certificate  # noqa: E402  (a neighbour of the folder, whose name no import can spell)


class Server(Peer):
    name = "sink-large"
    durable = "nothing: it keeps no mail"

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(users)
        self._base = Path()

    def prepare(self, directory: Path) -> None:
        make_certificate(directory, self.key)
        self._base = directory

    def start(self, directory: Path) -> None:
        self.smtp, self.smtps = free_port(), free_port()
        command = [sys.executable, _HERE.parents[1] / "large.py", "--sink", self._base]
        command += ["--port", str(self.smtp), "--tls-port", str(self.smtps)]
        self._run(command, directory / "sink.log", self.smtp)
