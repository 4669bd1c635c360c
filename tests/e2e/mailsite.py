"""A whole site in a directory of its own: mail.toml, data, certificates, and the twistd process that serves it.

`Site` starts it, waits until it answers, talks to it through the standard library, and ends it: politely, or with
SIGKILL. What is waited for has a deadline, and a server that died meanwhile is said with its log.
"""

from __future__ import annotations

import importlib.util
import os
import poplib
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from email.message import EmailMessage
from pathlib import Path

SCRIPTS = Path(sysconfig.get_path("scripts"))
TWISTD = SCRIPTS / "twistd"
MAILCTL = SCRIPTS / "mailctl"
LISTENERS = ("smtp", "submission", "submissions", "pop3", "pop3s", "imap", "imaps")
DEADLINE = 120.0  # seconds: for whatever is waited for; only what hangs takes so long, on the slowest machine
PASSWORD = "correct horse battery staple"
ALICE = "alice@example.org"
BOB = "bob@example.org"


class NotInTime(AssertionError):
    """What was waited for did not happen."""


def until(
    condition: Callable[[], object], what: str | Callable[[], str], seconds: float = DEADLINE
) -> None:
    """Ask again and again until `condition()` is true. `what`: in words, or what gives them when time is over."""
    tick = threading.Event()
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            words = what if isinstance(what, str) else what()
            raise NotInTime(f"not within {seconds} seconds: {words}")
        tick.wait(0.02)


_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listened on a moment ago, and that this has not given to anybody before."""
    with ExitStack() as sockets:
        found: list[int] = []
        while len(found) < count:
            one = sockets.enter_context(closing(socket.socket()))
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port not in _given:
                _given.add(port)
                found.append(port)
        return found


def run(
    command: Sequence[str | Path],
    *,
    input: str | None = None,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    status: int | None = 0,
) -> subprocess.CompletedProcess[str]:
    """Run a client to its end; its status must be `status` (None: any)."""
    done = subprocess.run(
        [str(part) for part in command],
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=2 * DEADLINE,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )
    if status is not None and done.returncode != status:
        raise AssertionError(
            f"{command[0]} ended with {done.returncode}, not {status}\n{done.stdout}\n{done.stderr}"
        )
    return done


class Site:
    """A site for ``example.org`` with the users alice and bob, listening on free ports of 127.0.0.1."""

    def __init__(self, directory: Path, extra: str = "") -> None:
        self.directory = directory
        self.top = ""
        """What stands before the first table of mail.toml, besides hostname and data."""
        self.extra = extra
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        self.process: subprocess.Popen[bytes] | None = None
        self.others: list[subprocess.Popen[bytes]] = []
        directory.mkdir(parents=True, exist_ok=True)
        self.write_configuration()

    # What lies where

    @property
    def config(self) -> Path:
        return self.directory / "mail.toml"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def ca(self) -> Path:
        return self.directory / "certs" / "ca.pem"

    @property
    def log_file(self) -> Path:
        return self.directory / "server.log"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def maildir(self, user: str) -> Path:
        """Where `user`'s Maildir is."""
        local, _, domain = user.partition("@")
        found = [path for path in self.data.rglob("Maildir") if {local, domain} <= set(path.parts)]
        assert len(found) == 1, (user, sorted(self.data.rglob("Maildir")))
        return found[0]

    def write_configuration(self) -> None:
        listen = "".join(
            f'{name} = ["tcp:{port}:interface=127.0.0.1"]\n' for name, port in self.ports.items()
        )
        self.config.write_text(
            f'hostname = "localhost"\ndata = "data"\n{self.top}[listen]\n{listen}{self.extra}'
        )

    # Its accounts

    def mailctl(
        self, *words: str, input: str | None = None, status: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        return run([MAILCTL, "--config", self.config, *words], input=input, status=status)

    def add_users(self, *users: str) -> None:
        for domain in dict.fromkeys(user.partition("@")[2] for user in users):
            self.mailctl("domain", "add", domain)
        for user in users:
            self.mailctl("user", "add", user, "--password-stdin", input=PASSWORD + "\n")

    # Its life

    @property
    def command(self) -> list[str]:
        return [str(TWISTD), "-n", "--pidfile=", "mailserver", "--config", str(self.config)]

    def spawn(self, command: Sequence[str] | None = None) -> subprocess.Popen[bytes]:
        """Start the server (or `command`), its output going to the log, without waiting."""
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                command or self.command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def start(self, command: Sequence[str] | None = None) -> None:
        """Start the server and wait until it greets on every port."""
        self.process = self.spawn(command)
        self.wait_until_up(self.process)

    def wait_until_up(self, process: subprocess.Popen[bytes] | None = None) -> None:
        for name, port in self.ports.items():
            until(lambda port=port: self._listens(port, process), f"{name} listens\n{self.log}")
        until(self._greets, lambda: f"smtp greets\n{self.log}")  # listening comes before serving

    def _greets(self) -> bool:
        with self.connect("smtp") as plain:
            said = plain.recv(3)
        assert said, self.log
        return said != b"421"  # it still starts

    def _listens(self, port: int, process: subprocess.Popen[bytes] | None) -> bool:
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}\n{self.log}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=DEADLINE).close()
        except ConnectionRefusedError:
            return False
        return True

    def stop(self) -> None:
        """SIGTERM, and wait for an end in good order."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.wait_until_ended()

    def wait_until_ended(self) -> None:
        """Wait for the end that SIGTERM asked for."""
        assert self.process is not None
        # twistd settles everything, then ends by the signal it was sent
        assert self.process.wait(DEADLINE) == -signal.SIGTERM, self.log
        self.process = None

    def kill(self) -> None:
        """SIGKILL: as a power cut for the process, not for the disk."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(DEADLINE)
        self.process = None

    def close(self) -> None:
        """End whatever still runs."""
        for process in [self.process, *self.others]:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait(DEADLINE)

    def resident(self) -> int:
        """Bytes of memory that the server occupies."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    # Talking to it

    @property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def connect(self, listener: str) -> socket.socket:
        """A bare connection, in clear."""
        return socket.create_connection(("127.0.0.1", self.ports[listener]), timeout=DEADLINE)

    @contextmanager
    def smtp(
        self, user: str | None = None, *, ports: dict[str, int] | None = None
    ) -> Iterator[smtplib.SMTP]:
        """A session on ``submissions`` as `user`; on ``smtp``, with nobody logged in, without one."""
        ports = ports or self.ports
        if user is None:
            session = smtplib.SMTP("localhost", ports["smtp"], "client.example.net", DEADLINE)
        else:
            session = smtplib.SMTP_SSL(
                "localhost",
                ports["submissions"],
                "client.example.net",
                timeout=DEADLINE,
                context=self.tls,
            )
            session.login(user, PASSWORD)
        with session:
            yield session

    @contextmanager
    def pop(
        self, user: str, *, ports: dict[str, int] | None = None, utf8: bool = False
    ) -> Iterator[poplib.POP3_SSL]:
        """A session of `user` on ``pop3s``; QUIT at the end, unless something was raised."""
        session = poplib.POP3_SSL(
            "localhost", (ports or self.ports)["pop3s"], timeout=DEADLINE, context=self.tls
        )
        try:
            if utf8:
                session.utf8()
            session.user(user)
            session.pass_(PASSWORD)
            yield session
            session.quit()
        finally:
            session.close()

    def send(
        self, text: str, *, to: Sequence[str] = (ALICE,), sender: str = "carol@elsewhere.example"
    ) -> None:
        """Bring one message with this subject to ``smtp``; returns when it was answered 250."""
        with self.smtp() as session:
            session.sendmail(sender, list(to), letter(text))

    def subjects(self, user: str = ALICE) -> list[str]:
        """The subject of every message in `user`'s mailbox, in its order, through POP3."""
        with self.pop(user) as session:
            return [subject_of(session, number) for number in range(1, session.stat()[0] + 1)]

    def uidls(self, user: str = ALICE) -> dict[str, str]:
        """Subject → UIDL."""
        with self.pop(user) as session:
            lines = [line.decode().split() for line in session.uidl()[1]]
            return {subject_of(session, int(number)): uidl for number, uidl in lines}


def letter(subject: str, *, size: int = 0, sender: str = "carol@elsewhere.example") -> bytes:
    """A message with this subject, whose body has about `size` octets."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ALICE
    message["Subject"] = subject
    line = "." + "x" * 68 + "\n"
    message.set_content(f"This is {subject}.\n" + line * (size // len(line)))
    return message.as_bytes().replace(b"\n", b"\r\n")


def subject_of(session: poplib.POP3, number: int) -> str:
    for line in session.top(number, 0)[1]:
        if line.startswith(b"Subject: "):
            return line[9:].decode()
    raise AssertionError(f"message {number} has no subject")


def body_of(session: poplib.POP3, number: int) -> bytes:
    """What follows the header, with LF line ends."""
    lines = session.retr(number)[1]
    return b"\n".join(lines[lines.index(b"") + 1 :]) + b"\n"


# where CI, or whoever wants to, has run `npm ci`
NODE = Path(__file__).parent / "node"


def program(name: str) -> str | None:
    """Where it is: a program, ``python:`` and a module, or ``node:`` and a package of `NODE`."""
    kind, _, rest = name.rpartition(":")
    if kind == "python":
        found = importlib.util.find_spec(rest)
        return found.origin if found else None
    if kind == "node":
        package = NODE / "node_modules" / rest
        return str(package) if package.is_dir() and shutil.which("node") else None
    return shutil.which(rest)


def shared_material() -> Path:
    """The folder of shared material, if it is there: what TWISTED_MAIL_SHARED names, else ``shared``
    beside the checkout."""
    named = os.environ.get("TWISTED_MAIL_SHARED")
    return Path(named) if named else Path(__file__).parents[3] / "shared"
