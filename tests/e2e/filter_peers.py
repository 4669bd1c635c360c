"""Filters that others have written, each in a directory of its own on ports of its own: Debian's rspamd, clamd, spamd
and opendkim; and one that never answers.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mailsite import DEADLINE, NotInTime, free_ports, until
from peers import open_directory

__all__ = ["EICAR", "GTUBE", "GTUBE_JUNK", "Hung", "clamd", "opendkim", "rspamd", "spamd"]

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
GTUBE_JUNK = "Y" + GTUBE[1:]
"""What rspamd wants to have marked."""
# in two pieces, so that nobody's scanner takes this file
EICAR = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
_START = 2 * DEADLINE
_NOBODY = pwd.getpwnam("nobody")


@contextmanager
def _running(
    command: Sequence[str | Path], directory: Path, address: tuple[str, int] | Path
) -> Iterator[None]:
    """A server in a process group of its own, once it listens."""
    log = directory / "out.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=directory,
            start_new_session=True,
        )
    try:
        try:
            until(lambda: process.poll() is not None or _accepts(address), f"{command[0]}", _START)
        except NotInTime as error:
            raise AssertionError(f"{error}\n{log.read_text(errors='replace')}") from None
        assert process.poll() is None, log.read_text(errors="replace")
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(DEADLINE)
        with suppress(ProcessLookupError):
            # its children are in its group; whoever ended in good order has none left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(DEADLINE)


def _accepts(address: tuple[str, int] | Path) -> bool:
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family) as one:
        one.settimeout(DEADLINE)
        return one.connect_ex(str(address) if isinstance(address, Path) else address) == 0


def _as(user: str, directory: Path) -> None:
    """Give the directory to `user`, if that can be."""
    if os.geteuid() == 0:
        os.chown(directory, pwd.getpwnam(user).pw_uid, -1)


_RSPAMD = """
options {{
  control_socket = "{root}/rspamd.sock mode=0600";
  cache_file = "{root}/symbols.cache";
  history_file = "{root}/history";
  stats_file = "{root}/stats.ucl";
  hs_cache_dir = "{root}/";
  tempdir = "{root}";
  url_tld = "{root}/suffixes";
  filters = "";
  local_addrs = [];
  enable_test_patterns = true;
  dns {{ nameserver = ["127.0.0.1:9"]; timeout = 1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "info"; color = false; }}
actions {{ reject = 15; add_header = 6; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{milter}";
  milter = yes;
  count = 1;
  upstream "local" {{ default = yes; hosts = "127.0.0.1:{port}"; }}
}}
"""


class Rspamd:
    """`http` and `milter`: endpoints."""

    def __init__(self, root: Path, http: int, milter: int) -> None:
        self._log = root / "out.log"
        self.http = f"tcp:127.0.0.1:{http}"
        self.milter = f"tcp:127.0.0.1:{milter}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")


@contextmanager
def rspamd() -> Iterator[Rspamd]:
    """Without rules: it knows GTUBE."""
    port, milter = free_ports(2)
    with open_directory() as root:
        _as("_rspamd", root)
        # its own list of public suffixes takes twenty seconds to compile
        (root / "suffixes").write_text("com\nexample\n")
        (root / "rspamd.conf").write_text(_RSPAMD.format(root=root, port=port, milter=milter))
        user = ["-u", "_rspamd", "-g", "_rspamd"] if os.geteuid() == 0 else []
        with _running(
            ["rspamd", "-f", "-c", root / "rspamd.conf", *user], root, ("127.0.0.1", port)
        ):
            until(lambda: _accepts(("127.0.0.1", milter)), "rspamd's proxy listens", _START)
            yield Rspamd(root, port, milter)


_CLAMD = """
DatabaseDirectory {root}/db
TemporaryDirectory {root}
LocalSocket {root}/clamd.ctl
TCPAddr 127.0.0.1
TCPSocket {port}
Foreground yes
LogFile {root}/clamd.log
StreamMaxLength 60M
"""


class Clamd:
    """`unix` and `tcp`: endpoints."""

    def __init__(self, socket_: Path, port: int) -> None:
        self.unix = f"unix:{socket_}"
        self.tcp = f"tcp:127.0.0.1:{port}"


@contextmanager
def clamd() -> Iterator[Clamd]:
    """It knows one virus, which is none."""
    (port,) = free_ports(1)
    with open_directory() as root:
        (root / "db").mkdir()
        (root / "db" / "own.ndb").write_text(f"Test.EICAR:0:*:{EICAR.encode().hex()}\n")
        text = _CLAMD.format(root=root, port=port)
        if os.geteuid() == 0:
            text += "User clamav\n"
        (root / "clamd.conf").write_text(text)
        _as("clamav", root)
        with _running(["clamd", "-c", root / "clamd.conf"], root, root / "clamd.ctl"):
            yield Clamd(root / "clamd.ctl", port)


_SPAMASSASSIN = """
use_bayes 0
dns_available no
required_score 5
body OURS_JUNK /buy these pills/
score OURS_JUNK 7
body OURS_SPAM /buy all these pills/
score OURS_SPAM 30
add_header all Status "_YESNO_, score=_SCORE_ required=_REQD_ tests=_TESTS_"
"""


@contextmanager
def spamd() -> Iterator[str]:
    """With two rules of ours; the endpoint."""
    (port,) = free_ports(1)
    with open_directory() as root:
        _as("nobody", root)
        (root / "init.pre").write_text("loadplugin Mail::SpamAssassin::Plugin::Check\n")
        (root / "local.cf").write_text(_SPAMASSASSIN)
        own = [f"--siteconfigpath={root}", f"--configpath={root}", f"--helper-home-dir={root}"]
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        command = ["spamd", "-L", "-x", "-i", "127.0.0.1", "-p", str(port), "-s", "stderr"]
        command += ["--min-children=1", "--max-children=3", *own, *user]
        with _running(command, root, ("127.0.0.1", port)):
            yield f"tcp:127.0.0.1:{port}"


@contextmanager
def opendkim(settings: Sequence[str], names_port: int) -> Iterator[str]:
    """A milter on a socket, which asks the DNS on `names_port` of 127.0.0.1; the endpoint."""
    with open_directory() as root:
        # libunbound's own configuration
        (root / "unbound.conf").write_text(
            "server:\n  do-not-query-localhost: no\n"
            f'forward-zone:\n  name: "."\n  forward-addr: 127.0.0.1@{names_port}\n'
        )
        lines = ["Syslog no", f"Socket local:{root}/opendkim.sock", "RequireSafeKeys no"]
        lines += [f"ResolverConfiguration {root}/unbound.conf", "AutoRestart no", "UMask 000"]
        (root / "opendkim.conf").write_text("\n".join([*lines, *settings]) + "\n")
        command = ["opendkim", "-f", "-x", root / "opendkim.conf"]
        with _running(command, root, root / "opendkim.sock"):
            yield f"unix:{root}/opendkim.sock"


class Hung:
    """Accepts, reads nothing and never says anything. `connections`: how many came."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp:127.0.0.1:{self._listening.getsockname()[1]}"
        self._accepted: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def connections(self) -> int:
        return len(self._accepted)

    def closed(self) -> int:
        """How many of them the other side has left."""
        return sum(1 for one in self._accepted if _left(one))

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._listening.accept()
            except OSError:
                return
            one.setblocking(False)
            self._accepted.append(one)

    def close(self) -> None:
        """Let go of all; may be done twice."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE)
        for one in (self._listening, *self._accepted):
            one.close()


def _left(connection: socket.socket) -> bool:
    try:
        while connection.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
