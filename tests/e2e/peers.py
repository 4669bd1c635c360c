"""Other people's servers, each in a directory of its own: Debian's smtp-sink, Postfix and Dovecot."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

from mailsite import DEADLINE, NotInTime, run, until
from outside import Outside, common_port, parsed

NOBODY = pwd.getpwnam("nobody")


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that servers under other users may reach, with a short name, for sockets."""
    made = Path(tempfile.mkdtemp(prefix="peer-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def listens(address: str | Path, port: int) -> bool:
    with socket.socket(socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET) as one:
        one.settimeout(DEADLINE)
        return one.connect_ex(str(address) if isinstance(address, Path) else (address, port)) == 0


# smtp-sink


class Sink:
    """What a running smtp-sink got."""

    def __init__(self, directory: Path, address: str, port: int) -> None:
        self._directory = directory
        packed = socket.inet_aton(address)[::-1].hex().upper()
        self._socket = f"{packed}:{port:04X}"

    def files(self) -> list[Path]:
        """One a message; the last ones may not be whole yet."""
        return list(self._directory.glob("*.*"))

    def messages(self) -> list[bytes]:
        return [path.read_bytes() for path in self.files()]

    def subjects(self) -> list[str]:
        """Of the messages as `outside.written` makes them that came whole."""
        found = []
        for data in self.messages():
            subjects = [line[9:] for line in data.split(b"\n") if line[:9].lower() == b"subject: "]
            if subjects and b"\nThis is " + subjects[0] + b"." in data:
                found.append(subjects[0].decode())
        return found

    def settled(self) -> bool:
        """Whether nobody is connected."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        over = ("06", "0A")  # TIME_WAIT, LISTEN
        return not any(row[1] == self._socket and row[3] not in over for row in rows)


@contextmanager
def sink(address: str, port: int, *options: str) -> Iterator[Sink]:
    with open_directory() as directory:
        directory.chmod(0o777)
        # as root it wants to become somebody
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        running = subprocess.Popen(
            ["smtp-sink", *user, *options, "-d", str(directory / "%M."), f"{address}:{port}", "50"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: running.poll() is not None or listens(address, port), "smtp-sink listens")
            assert running.poll() is None
            yield Sink(directory, address, port)
        finally:
            running.kill()
            running.wait(DEADLINE)


# Postfix

_MASTER = """
pickup     unix n - n 60 1 pickup
cleanup    unix n - n - 0 cleanup
qmgr       unix n - n 300 1 qmgr
tlsmgr     unix - - n 1000? 1 tlsmgr
rewrite    unix - - n - - trivial-rewrite
bounce     unix - - n - 0 bounce
defer      unix - - n - 0 bounce
trace      unix - - n - 0 bounce
verify     unix - - n - 1 verify
proxymap   unix - - n - - proxymap
error      unix - - n - - error
retry      unix - - n - - error
virtual    unix - n n - - virtual
anvil      unix - - n - 1 anvil
scache     unix - - n - 1 scache
postlog    unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A Postfix that takes the mail of `domains` for anybody there, into one Maildir a domain.

    `listeners`: address → the smtpd options that hold there. The certificate is for `names`. Needs root.
    """

    def __init__(
        self,
        directory: Path,
        outside: Outside,
        names: Sequence[str],
        domains: Sequence[str],
        listeners: Mapping[str, Sequence[str]],
    ) -> None:
        self._root = root = directory
        self._port = outside.port
        self._addresses = list(listeners)
        config = root / "config"
        config.mkdir()
        user = pwd.getpwnam("postfix")
        for name, owner in (("queue", 0), ("data", user.pw_uid), ("mail", NOBODY.pw_uid)):
            (root / name).mkdir()
            os.chown(root / name, owner, -1)
        certificate, key = outside.certificate(root / "pair", *names)
        (root / "users").write_text("".join(f"@{domain} {domain}/\n" for domain in domains))
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": root / "queue",
            "data_directory": root / "data",
            "mail_owner": "postfix",
            "myhostname": names[0],
            "mydestination": "",
            "mynetworks": "127.255.255.255/32",  # nobody's mail is taken for being near
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject_unauth_destination",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "alias_maps": "",
            "biff": "no",
            "maillog_file": root / "mail.log",
            "maillog_file_prefixes": root,
            "virtual_mailbox_domains": ", ".join(domains),
            "virtual_mailbox_maps": f"texthash:{root}/users",
            "virtual_mailbox_base": root / "mail",
            "virtual_uid_maps": f"static:{NOBODY.pw_uid}",
            "virtual_gid_maps": f"static:{NOBODY.pw_gid}",
            "virtual_minimum_uid": "1",
            "smtpd_tls_chain_files": f"{key}, {certificate}",
            "smtpd_tls_security_level": "may",
            "smtpd_tls_received_header": "yes",
            "smtpd_peername_lookup": "no",
            "disable_dns_lookups": "yes",
        }
        (config / "main.cf").write_text("".join(f"{k} = {v}\n" for k, v in settings.items()))
        services = [
            f"{address}:{self._port} inet n - n - - smtpd"
            + "".join(f"\n  -o {{ {option} }}" for option in options)
            for address, options in listeners.items()
        ]
        (config / "master.cf").write_text("\n".join(services) + _MASTER)
        self._config = config
        self._pid = 0

    def start(self) -> None:
        done = run(["postfix", "-c", self._config, "start"], status=None)
        assert done.returncode == 0, f"{done.stderr}\n{self.log}"
        self._pid = int((self._root / "queue/pid/master.pid").read_text())
        try:
            for address in self._addresses:
                until(lambda address=address: listens(address, self._port), "postfix listens")
        except NotInTime as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.log}") from None

    def stop(self) -> None:
        run(["postfix", "-c", self._config, "stop"], status=None)
        with suppress(ProcessLookupError):
            until(lambda: not Path(f"/proc/{self._pid}").exists(), "postfix has ended")

    @property
    def log(self) -> str:
        log = self._root / "mail.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def messages(self, domain: str) -> list[EmailMessage]:
        """What was delivered to `domain`."""
        return [parsed(path.read_bytes()) for path in (self._root / "mail" / domain).glob("new/*")]


class Greylist:
    """Postfix's policy service: the first time a recipient with "grey" in it is named, he is put off."""

    def __init__(self) -> None:
        seen: set[str] = set()

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                values: dict[str, str] = {}
                for line in self.rfile:
                    if line.strip():
                        name, _, value = line.decode().strip().partition("=")
                        values[name] = value
                        continue
                    recipient = values.get("recipient", "")
                    known = "grey" not in recipient or recipient in seen
                    seen.add(recipient)
                    verdict = "DUNNO" if known else "450 4.7.1 Greylisted, come back later"
                    self.wfile.write(f"action={verdict}\n\n".encode())
                    values = {}

        ThreadingTCPServer.daemon_threads = True
        self._server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(DEADLINE)
        self._server.server_close()


# Dovecot

_DOVECOT = """
base_dir = {root}/run
state_dir = {root}/state
instance_name = {root.name}
log_path = {root}/dovecot.log
protocols = lmtp
ssl = no
first_valid_uid = 1
last_valid_uid = 0
mail_location = maildir:~/Maildir
auth_username_format = %Lu
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {root}/users
}}
userdb {{
  driver = passwd-file
  args = {root}/users
}}
service lmtp {{
  unix_listener {root}/lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
service auth {{
  unix_listener {root}/auth {{
    mode = 0666
  }}
}}
service stats {{
  client_limit = 100
}}
"""


class Dovecot:
    """A Dovecot that takes mail for `users` (addresses) by LMTP, at `socket` and at 127.0.0.1:`port`.

    `auth`: the socket at which Postfix asks for their passwords. Needs root.
    """

    def __init__(self, directory: Path, users: Sequence[str], password: str) -> None:
        self._root = directory
        self.port = port = common_port()
        self.socket = directory / "lmtp"
        self.auth = directory / "auth"
        mail = directory / "mail"
        mail.mkdir()
        os.chown(mail, NOBODY.pw_uid, NOBODY.pw_gid)
        ids = f"{NOBODY.pw_uid}:{NOBODY.pw_gid}"
        lines = [f"{user}:{{PLAIN}}{password}:{ids}::{mail}/{user}::" for user in users]
        (directory / "users").write_text("\n".join(lines) + "\n")
        self._config = directory / "dovecot.conf"
        self._config.write_text(_DOVECOT.format(root=directory, port=port))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._root / "out.log").open("ab") as log:
            self._process = running = subprocess.Popen(
                ["dovecot", "-F", "-c", str(self._config)], stdout=log, stderr=log
            )
        until(lambda: running.poll() is not None or self.auth.exists(), "dovecot runs")
        until(
            lambda: running.poll() is not None or listens("127.0.0.1", self.port), "dovecot listens"
        )
        assert running.poll() is None, self.log

    def stop(self) -> None:
        running, self._process = self._process, None
        if running is not None and running.poll() is None:
            running.send_signal(signal.SIGTERM)
            running.wait(DEADLINE)

    @property
    def log(self) -> str:
        logs = (self._root / "out.log", self._root / "dovecot.log")
        return "".join(path.read_text(errors="replace") for path in logs if path.exists())

    def messages(self, user: str) -> list[EmailMessage]:
        box = self._root / "mail" / user / "Maildir"
        return [parsed(path.read_bytes()) for path in box.glob("new/*")]
