"""The load generator's own ceiling: Debian's smtp-sink, or bench/sink.py where that is not
installed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness import Missing, Peer, free_port, program

_SINK = Path(__file__).resolve().parents[2] / "sink.py"


class Server(Peer):
    name = "sink"
    durable = "nothing: it keeps no mail"

    def start(self, directory: Path) -> None:
        self.smtp = free_port()
        try:
            user = ["-u", "nobody"] if os.geteuid() == 0 else []
            command = [program("smtp-sink"), *user, f"127.0.0.1:{self.smtp}", "1024"]
        except Missing:
            command = [sys.executable, str(_SINK), "--port", str(self.smtp)]
        self._run(command, directory / "sink.log", self.smtp)
