"""Postfix in a directory of its own, for the two peers that use it.

Postfix writes the message to its queue and syncs it before it answers 250; delivery follows. Its
settings are those of Debian, apart from places and ports, and from what each peer's main.cf says.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from certificate import make_certificate
from harness import DOMAIN, fill, free_port, program, wait_for
from measure import pause, tree

__all__ = ["Postfix"]

_HERE = Path(__file__).resolve().parent
_STOP = 20.0


class Postfix:
    """One instance, started with `postfix -c`; its master process is known by its pid file."""

    def __init__(self) -> None:
        self.port = 0
        self.smtps = 0
        self.key = "rsa:2048"
        self.pid = 0
        self._config: Path | None = None

    def start(self, directory: Path, main: Path, users: Sequence[str], **values: object) -> None:
        """Serve `users` from `directory`; `main` is what the peer adds to the common main.cf."""
        command = program("postfix")
        self.port, self.smtps = free_port(), free_port()
        root = directory / "postfix"
        config = root / "config"
        config.mkdir(parents=True, exist_ok=True)
        data = root / "data"
        data.mkdir(exist_ok=True)
        os.chown(data, pwd.getpwnam("postfix").pw_uid, -1)
        (root / "queue").mkdir(exist_ok=True)
        (root / "users").write_text("".join(f"{u}@{DOMAIN} {u}/\n" for u in users))
        if not (config / "cert.pem").exists():
            make_certificate(config, self.key)
        common = {"root": root, "directory": directory, "port": self.port, "domain": DOMAIN}
        common["smtps"] = self.smtps
        fill(_HERE / "postfix.master.cf", config / "master.cf", **common)
        fill(_HERE / "postfix.main.cf", config / "main.cf", **common)
        own = root / "own.cf"
        fill(main, own, **common, **values)
        with open(config / "main.cf", "a") as file:
            file.write(own.read_text())
        self._config = config
        done = subprocess.run(
            [command, "-c", str(config), "start"], capture_output=True, text=True, timeout=60
        )
        log = root / "mail.log"
        if done.returncode:
            raise RuntimeError(f"postfix start: {done.stdout}{done.stderr}")
        wait_for(self.port, None, log)
        self.pid = int((root / "queue/pid/master.pid").read_text())

    def stop(self) -> None:
        """End the instance: `postfix stop`, then by id what is left of it."""
        if self._config is None:
            return
        pid_file = self._config.parent / "queue/pid/master.pid"
        pids: set[int] = set()
        with contextlib.suppress(OSError, ValueError):
            pids = tree([int(pid_file.read_text())])
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [program("postfix"), "-c", str(self._config), "stop"],
                capture_output=True,
                timeout=_STOP,
            )
        limit = time.monotonic() + _STOP
        while (left := _living(pids)) and time.monotonic() < limit:
            pause(0.1)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._config = None
        self.pid = 0


def _living(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}
