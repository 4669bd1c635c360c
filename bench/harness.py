"""What a measured server is: something that starts in a directory, listens on loopback, and is
stopped by its ids.

A peer is a class `Server` in bench/peers/<name>/peer.py, made by `load(name)`. Nothing of it
touches the machine's own configuration: files are generated into the directory it is given, ports
are free ones above 1024.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import os
import shutil
import signal
import socket
import string
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from measure import pause, tree

__all__ = [
    "CONNECTIONS",
    "DOMAIN",
    "PASSWORD",
    "SINK_DOMAIN",
    "Missing",
    "Peer",
    "Relay",
    "end",
    "fill",
    "free_port",
    "load",
    "need_root",
    "peer_class",
    "program",
    "spawn",
    "wait_for",
]

DOMAIN = "bench.test"
PASSWORD = "correct-horse-battery-staple"
SINK_DOMAIN = "sink.test"
CONNECTIONS = 20
"""To the next hop, of every relay: the default of both."""
_HERE = Path(__file__).resolve().parent / "peers"
_START = 60.0
_LOOK = 0.01
_STOP = 20.0


class Missing(Exception):
    """This peer cannot run here; the text says what is not there."""


class Peer(ABC):
    """One server. `prepare` comes once, then any number of `start` and `stop`; what is not served
    is port 0.
    """

    name: ClassVar[str]
    durable: ClassVar[str]
    """What has been synced when the client reads 250."""
    key = "rsa:2048"
    """Of the certificate that it makes: `rsa:2048`, or `ec` for P-256; set before `prepare`. Empty: as it is."""
    smtp = 0
    smtps = 0
    """TLS from the first byte."""
    starttls = True
    pipelining = True
    submits = False
    """Whether `smtps` is for users only, who log in first."""
    scales = False
    """Whether it can be told how many `workers` to have."""
    workers = 0
    """Worker processes; 0: the process that was started serves alone."""
    pop3 = 0
    pop3s = 0
    imap = 0
    imaps = 0

    def __init__(self, users: Sequence[str]) -> None:
        self.users = tuple(users)
        self.roots: list[int] = []
        self._started: list[subprocess.Popen[bytes]] = []

    def prepare(self, directory: Path) -> None:
        """Raise `Missing`, or do once what is the same for every start (accounts, certificates)."""

    @abstractmethod
    def start(self, directory: Path) -> None:
        """Serve from `directory`, which may hold what an earlier start of this peer left there."""

    def stop(self) -> None:
        """End what was started, also when it was only half started."""
        while self._started:
            end(self._started.pop())
        self.roots = []

    def again(self) -> Self:
        """Another one of the same, prepared as this one is, to run beside it."""
        other = copy.copy(self)
        other.roots, other._started = [], []
        return other

    def inboxes(self, directory: Path) -> Sequence[Path]:
        """The Maildirs (folders with `new` and `cur`) where mail of the users arrives; none: it is
        not kept.
        """
        return ()

    def login(self, user: str) -> str:
        """What POP3's USER takes for one of `users`."""
        return f"{user}@{DOMAIN}"

    def arrived(self, directory: Path) -> int:
        """How many messages lie in the inboxes."""
        return sum(
            len(os.listdir(inbox / part))
            for inbox in self.inboxes(directory)
            for part in ("new", "cur")
            if (inbox / part).is_dir()
        )

    def _run(self, command: Sequence[str | Path], log: Path, port: int) -> None:
        """Start a server process that stays in the foreground; return when it listens on `port`."""
        process = spawn(command, log)
        self._started.append(process)
        self.roots.append(process.pid)
        wait_for(port, process, log)


class Relay(Peer):
    """A server that sends all mail for `SINK_DOMAIN`, which it takes from anybody on loopback, to port
    `next_hop` of 127.0.0.1, on `CONNECTIONS` connections at most, in clear.
    """

    next_hop = 0
    sending = True
    """Whether the next start sends anything, or only queues it."""

    def __init__(self, users: Sequence[str] = ()) -> None:
        super().__init__(users)


def load(name: str, users: Sequence[str]) -> Peer:
    """The peer of bench/peers/<name>/peer.py."""
    path = _HERE / name / "peer.py"
    spec = importlib.util.spec_from_file_location(f"peer_{name.replace('-', '_')}", path)
    if spec is None or spec.loader is None:
        raise Missing(f"no {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server: Peer = module.Server(users)
    return server


def peer_class(name: str) -> Any:
    """The class `Server` of bench/peers/<name>/peer.py, to be derived from by a peer that differs in little."""
    return type(load(name, ()))


def free_port() -> int:
    """A port on 127.0.0.1 that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def program(name: str, *more: str) -> str:
    """The path of an installed program, looked for in the usual system directories and `more`; else
    `Missing`.
    """
    path = os.pathsep.join([*more, os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def need_root() -> None:
    """`Missing` unless root: Postfix and Dovecot change to users of their own."""
    if os.geteuid() != 0:
        raise Missing("must be started as root, because it changes to users of its own")


def fill(template: Path, target: Path, **values: object) -> None:
    """Write `template` (string.Template) with `values` put in; `target` is readable to all."""
    text = string.Template(template.read_text()).substitute({k: str(v) for k, v in values.items()})
    target.write_text(text)
    target.chmod(0o644)


def spawn(
    command: Sequence[str | Path], log: Path, *, piped: bool = False
) -> subprocess.Popen[bytes]:
    """Start `command` in a process group of its own; what it prints goes to `log`, or with `piped`
    to `stdout`.
    """
    with open(log, "ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else output,
            stderr=output,
            cwd=log.parent,
            start_new_session=True,
        )


def wait_for(
    port: int, process: subprocess.Popen[bytes] | None, log: Path, address: str = "127.0.0.1"
) -> None:
    """Return when something greets on `port`; RuntimeError with the end of the log when nothing
    does.
    """
    limit = time.monotonic() + _START
    while time.monotonic() < limit:
        with contextlib.suppress(OSError), socket.create_connection((address, port), 5) as one:
            if one.recv(1):
                return
        if process is not None and process.poll() is not None:
            break
        pause(_LOOK)
    tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    raise RuntimeError(f"nothing listens on port {port}; {log.name} ends with:\n{tail}")


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and after a while SIGKILL to the process and the descendants it had."""
    children = tree([process.pid])
    process.terminate()
    try:
        process.wait(_STOP)
    except subprocess.TimeoutExpired:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(_STOP)
    if process.stdout is not None:
        process.stdout.close()
