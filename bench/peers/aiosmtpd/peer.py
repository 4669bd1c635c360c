"""PyPI's aiosmtpd, on the Python that runs the benchmark, in a virtual environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import DOMAIN, Missing, Peer, free_port, program

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from certificate import make_certificate  # noqa: E402  (a neighbour of the folder, whose name no import can spell)
from debian import cache  # noqa: E402

_FETCH = 180


class Server(Peer):
    name = "aiosmtpd"
    durable = "the Maildir file and its folder (by the handler beside its peer.py)"

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(users)
        self._python = ""
        self._base = Path()

    def prepare(self, directory: Path) -> None:
        self._python = _installed()
        program("openssl")
        make_certificate(directory, self.key)
        self._base = directory

    def start(self, directory: Path) -> None:
        self.smtp, self.smtps = free_port(), free_port()
        site = {
            "port": self.smtp,
            "smtps": self.smtps,
            "domain": DOMAIN,
            "root": str(directory / "mail"),
            "users": self.users,
            "certificate": str(self._base / "cert.pem"),
            "key": str(self._base / "key.pem"),
        }
        (directory / "site.json").write_text(json.dumps(site))
        command = [self._python, _HERE / "server.py", directory / "site.json"]
        self._run(command, directory / "aiosmtpd.log", self.smtp)

    def inboxes(self, directory: Path) -> Sequence[Path]:
        return [directory / "mail" / user for user in self.users]


def _installed() -> str:
    """The interpreter that has it."""
    place = cache(f"aiosmtpd-{sys.version_info[0]}.{sys.version_info[1]}")
    python = place / "bin/python"
    done = place / "installed.txt"
    wanted = _HERE / "requirements.txt"
    if done.exists() and done.read_bytes() == wanted.read_bytes():
        return str(python)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(place)],
        [str(python), "-m", "pip", "install", "-q", "-r", str(wanted)],
    ):
        try:
            ended = subprocess.run(command, capture_output=True, timeout=_FETCH)
        except subprocess.TimeoutExpired:
            raise Missing(f"{command[2]} took more than {_FETCH} seconds") from None
        if ended.returncode:
            # what it prints names hosts
            raise Missing(f"{' '.join(command[1:4])} ended with {ended.returncode}")
    done.write_bytes(wanted.read_bytes())
    return str(python)
