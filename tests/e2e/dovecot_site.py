"""A Dovecot that serves IMAP and POP3 over Maildirs, mbsync against whoever serves, and what passes between them."""

from __future__ import annotations

import os
import poplib
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailsite import DEADLINE, PASSWORD, free_ports, run, until
from peers import NOBODY, listens

_CONFIG = """
base_dir = {root}/run
state_dir = {root}/state
instance_name = {root.name}
log_path = {root}/dovecot.log
protocols = imap pop3
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
last_valid_uid = 0
mail_location = maildir:{root}/mail/%u/Maildir{more}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={root}/mail/%u
}}
namespace inbox {{
  inbox = yes
  separator = {separator}
  prefix = {prefix}
  mailbox Gesendet {{
    special_use = \\Sent
  }}
}}
service imap-login {{
  inet_listener imap {{
    address = 127.0.0.1
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    address = 127.0.0.1
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service stats {{
  client_limit = 100
}}
{extra}
"""
SECRET = "secret"


class DovecotImap:
    """It is in a directory that everybody may enter. Needs root."""

    def __init__(
        self, root: Path, *, separator: str = ".", prefix: str = "", more: str = "", extra: str = ""
    ) -> None:
        self.root = root
        self.ports = dict(zip(("imap", "pop3"), free_ports(2), strict=True))
        (root / "mail").mkdir()
        self.config = root / "dovecot.conf"
        self.config.write_text(
            _CONFIG.format(
                root=root,
                password=SECRET,
                separator=separator,
                prefix=prefix,
                more=more,
                extra=extra,
                **self.ports,
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def maildir(self, user: str) -> Path:
        return self.root / "mail" / user / "Maildir"

    def own(self) -> None:
        """What lies there is Dovecot's user's."""
        for path in (self.root / "mail", *(self.root / "mail").rglob("*")):
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid, follow_symlinks=False)

    def start(self) -> None:
        self.own()
        with (self.root / "out.log").open("ab") as log:
            self._process = running = subprocess.Popen(
                ["dovecot", "-F", "-c", str(self.config)], stdout=log, stderr=log
            )
        until(
            lambda: (
                running.poll() is not None
                or all(listens("127.0.0.1", port) for port in self.ports.values())
            ),
            "dovecot listens",
        )
        assert running.poll() is None, self.log

    def stop(self) -> None:
        running, self._process = self._process, None
        if running is not None and running.poll() is None:
            running.send_signal(signal.SIGTERM)
            running.wait(DEADLINE)

    @property
    def log(self) -> str:
        logs = (self.root / "out.log", self.root / "dovecot.log")
        return "".join(path.read_text(errors="replace") for path in logs if path.exists())

    def doveadm(self, *words: str) -> str:
        return run(["doveadm", "-c", self.config, *words]).stdout

    def save(self, user: str, mailbox: str, message: bytes) -> None:
        command = ["doveadm", "-c", str(self.config), "save", "-u", user, "-m", mailbox]
        subprocess.run(command, input=message, check=True, timeout=DEADLINE)

    def doveconf(self) -> str:
        return run(["doveconf", "-n", "-c", self.config]).stdout


def pop3_names(port: int, user: str, password: str) -> list[str]:
    """The UIDLs, in the order of the messages."""
    session = poplib.POP3("127.0.0.1", port, timeout=DEADLINE)
    session.user(user)
    session.pass_(password)
    names = [line.decode().split()[1] for line in session.uidl()[1]]
    session.quit()
    return names


class Meter:
    """A port that leads to another one of this machine, and counts the octets that come from there."""

    def __init__(self, to: int) -> None:
        self.octets = 0
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._threads: list[threading.Thread] = []
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to), timeout=DEADLINE)
            far.settimeout(None)  # a client that writes files is silent for long
            for one, other, counted in ((near, far, False), (far, near, True)):
                self._threads.append(
                    threading.Thread(target=self._carry, args=(one, other, counted))
                )
                self._threads[-1].start()

    def _carry(self, one: socket.socket, other: socket.socket, counted: bool) -> None:
        with one:
            while True:
                try:
                    data = one.recv(65536)
                    if not data:
                        other.shutdown(socket.SHUT_WR)
                        return
                    if counted:
                        self.octets += len(data)
                    other.sendall(data)
                except OSError:
                    return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(DEADLINE)
        for thread in self._threads:
            thread.join(DEADLINE)


@contextmanager
def metered(port: int) -> Iterator[Meter]:
    meter = Meter(port)
    try:
        yield meter
    finally:
        meter.close()


_RC = """
FSync no

IMAPAccount server
Host 127.0.0.1
Port {port}
User {user}
Pass "{password}"
SSLType None
AuthMechs LOGIN
Timeout 60

IMAPStore far
Account server
PathDelimiter {separator}

MaildirStore near
Path {mail}/
Inbox {mail}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
CopyArrivalDate yes
SyncState *
"""


class Client:
    """A client with a copy of all mail on its own disk, which goes from one server to another."""

    def __init__(self, root: Path, separator: str = ".") -> None:
        self._root = root
        self._separator = separator
        self.mail = root / "mail"
        self.mail.mkdir(parents=True)

    def sync(self, port: int, user: str, password: str) -> tuple[str, int]:
        """What it said, and the octets that the server sent."""
        rc = self._root / "mbsyncrc"
        with metered(port) as meter:
            rc.write_text(
                _RC.format(
                    port=meter.port,
                    user=user,
                    password=password,
                    mail=self.mail,
                    separator=self._separator,
                )
            )
            command = ["mbsync", "-V", "-c", rc, "-a"]
            done = subprocess.run(
                list(map(str, command)),
                capture_output=True,
                text=True,
                timeout=600,
                env={**os.environ, "HOME": str(self._root)},
            )
            assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr, meter.octets

    def state(self) -> dict[str, tuple[int, int]]:
        """Every message's file: inode and size. Nothing has moved when it is the same."""
        return {
            str(path.relative_to(self.mail)): (path.stat().st_ino, path.stat().st_size)
            for path in self.mail.rglob("*")
            if path.parent.name in ("new", "cur")
        }

    def validities(self) -> dict[str, str]:
        """UIDVALIDITY on the server, by mailbox."""
        return {
            str(path.parent.relative_to(self.mail)): found[1]
            for path in self.mail.rglob(".mbsyncstate")
            if (found := re.search(r"(?m)^FarUidValidity (\d+)$", path.read_text()))
        }


def copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


__all__ = [
    "PASSWORD",
    "SECRET",
    "Client",
    "DovecotImap",
    "Meter",
    "copy_tree",
    "metered",
    "pop3_names",
]
