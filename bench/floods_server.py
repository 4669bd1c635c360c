"""The server that bench/floods.py floods: a site with some accounts, a real ``twistd``, and what its processes hold."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

__all__ = ["DOMAIN", "PASSWORD", "USERS", "Place", "Server"]

PASSWORD = "correct horse battery staple"
DOMAIN = "bench.test"
USERS = 8
"""Accounts: user0, user1 …"""
_SCRIPTS = Path(sys.executable).parent
_NAMES = ("smtp", "submission", "submissions", "pop3", "pop3s", "imap", "imaps")
_PAUSE = threading.Event()


class Place(NamedTuple):
    """What the processes of a run have to know."""

    ports: dict[str, int]
    connections: int


def free_ports(count: int) -> list[int]:
    """Not of those that the kernel gives to clients: thousands of connections begin while the server starts."""
    found: list[int] = []
    candidate = 12_000 + os.getpid() % 500 * 40
    while len(found) < count:
        candidate += 1
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", candidate))
            found.append(candidate)
    return found


class Server:
    """A site below `directory`. `workers` 0: one process."""

    def __init__(self, directory: Path, connections: int, workers: int) -> None:
        self.directory = directory
        ports = dict(zip(_NAMES, free_ports(len(_NAMES)), strict=True))
        self.place = Place(ports, connections)
        listen = "\n".join(f'{name} = ["tcp:{port}"]' for name, port in ports.items())
        (directory / "mail.toml").write_text(
            f"""
hostname = "mail.{DOMAIN}"
data = "{directory / "data"}"
workers = {workers}
[listen]
{listen}
[limits]
connections = {connections + 2000}
[dns]
servers = ["127.0.0.1:9"]
[checks]
exempt_networks = []
spf = false
dkim = false
arc = false
dmarc = "off"
[reputation]
names = false
[pop3]
allow_plaintext_loopback = true
[imap]
allow_plaintext_loopback = true
max_sessions = 10000
[stories]
days = 0
"""
        )
        self._ctl("domain", "add", DOMAIN)
        for n in range(USERS):
            self._ctl("user", "add", f"user{n}@{DOMAIN}", input=f"{PASSWORD}\n{PASSWORD}\n")
        log = (directory / "server.log").open("wb")
        command = [_SCRIPTS / "twistd", "-n", f"--pidfile={directory / 'pid'}", "mailserver"]
        self.process = subprocess.Popen(
            [*map(str, command), "--config", str(directory / "mail.toml")],
            stdout=log,
            stderr=log,
            cwd=directory,
            start_new_session=True,
        )
        end = time.monotonic() + 120
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", ports["imap"]), 30) as one,
            ):
                if one.recv(4) == b"* OK":  # not "* BYE": it listens before it serves
                    break
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit((directory / "server.log").read_text()[-2000:])
            _PAUSE.wait(0.1)

    def _ctl(self, *words: str, input: str | None = None) -> None:
        subprocess.run(
            [_SCRIPTS / "mailctl", "--config", self.directory / "mail.toml", *words],
            input=input,
            text=True,
            check=True,
            capture_output=True,
        )

    def processes(self) -> list[int]:
        found, waiting = [], [self.process.pid]
        while waiting:
            found.append(pid := waiting.pop())
            with contextlib.suppress(OSError, ValueError):
                waiting += [
                    int(child)
                    for thread in Path(f"/proc/{pid}/task").iterdir()
                    for child in (thread / "children").read_text().split()
                ]
        return found

    def memory(self) -> float:
        """MB, of all processes (PSS)."""
        found = 0.0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        found += int(line.split()[1]) / 1024
        return found

    def connections(self) -> int:
        """Open now, of all processes: their sockets, some of which are the server's own."""
        found = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                for one in os.scandir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        found += os.readlink(one.path).startswith("socket:")
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
