"""Where outgoing mail of a benchmark ends: Debian's smtp-sink, which counts what it takes.

Its counters (option -c) go to a file, the last one is read. It takes no TLS, so nobody's is measured.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from harness import end, program, spawn, wait_for

__all__ = ["Receiver"]

_TAIL = 128
_SESSIONS = 1024


class Receiver:
    """A sink on `address`:`port`, from `start` to `stop`. Its `log` is emptied by each start."""

    def __init__(self, log: Path, port: int, address: str = "127.0.0.1") -> None:
        self.address = address
        self.port = port
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises `Missing`."""
        command = [program("smtp-sink"), "-4", "-c", "-m", str(_SESSIONS)]
        if os.geteuid() == 0:
            command += ["-u", "nobody"]
        self._log.write_bytes(b"")
        self._process = spawn([*command, f"{self.address}:{self.port}", "1024"], self._log)
        wait_for(self.port, self._process, self._log, self.address)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def count(self) -> int:
        """Messages answered 250 so far."""
        with open(self._log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            text = file.read()
        # "sess=1 quit=1 mesg=2\r", again and again; what comes after the last \r is not all there
        last = text.rpartition(b"\r")[0].rpartition(b"mesg=")[2]
        return int(last or 0)

    def hold(self) -> None:
        """Take nothing: the kernel takes connections, nobody greets."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            # who is stopped does not hear SIGTERM
            self.go_on()
            end(self._process)
            self._process = None
