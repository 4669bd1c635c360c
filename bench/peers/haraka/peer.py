"""npm's Haraka on Node.js, with the Maildir plugin that stands beside this file: it has none of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import DOMAIN, Missing, Peer, fill, free_port, program

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from certificate import make_certificate  # noqa: E402  (a neighbour of the folder, whose name no import can spell)
from debian import cache  # noqa: E402

_FETCH = 300


class Server(Peer):
    name = "haraka"
    durable = "the Maildir file and its folder (by the plugin beside its peer.py)"

    def __init__(self, users: Sequence[str]) -> None:
        super().__init__(users)
        self._haraka = Path()
        self._node = ""
        self._base = Path()

    def prepare(self, directory: Path) -> None:
        self._node = program("node")
        self._haraka = _installed(program("npm")) / "node_modules/Haraka/bin/haraka"
        program("openssl")
        make_certificate(directory, self.key)
        # it would make some itself, for seconds, while it is measured (RFC 7919 appendix A.1)
        command = [program("openssl"), "genpkey", "-genparam", "-algorithm", "DH"]
        command += ["-pkeyopt", "group:ffdhe2048", "-out", str(directory / "dhparams.pem")]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        self._base = directory

    def start(self, directory: Path) -> None:
        site = directory / "site"
        shutil.copytree(_HERE / "plugins", site / "plugins", dirs_exist_ok=True)
        config = site / "config"
        shutil.copytree(_HERE / "config", config, dirs_exist_ok=True)
        self.smtp, self.smtps = free_port(), free_port()
        fill(_HERE / "config/smtp.ini", config / "smtp.ini", port=self.smtp, smtps=self.smtps)
        (config / "me").write_text(f"mx.{DOMAIN}\n")
        mailboxes = {"domain": DOMAIN, "root": str(directory / "mail"), "users": self.users}
        (config / "maildir.json").write_text(json.dumps(mailboxes))
        shutil.copy(self._base / "cert.pem", config / "tls_cert.pem")
        shutil.copy(self._base / "key.pem", config / "tls_key.pem")
        shutil.copy(self._base / "dhparams.pem", config / "dhparams.pem")
        command = [self._node, self._haraka, "-c", site]
        self._run(command, directory / "haraka.log", self.smtp)

    def inboxes(self, directory: Path) -> Sequence[Path]:
        return [directory / "mail" / user for user in self.users]


def _installed(npm: str) -> Path:
    """Where the packages of the lock are."""
    place = cache("haraka")
    lock = (_HERE / "package-lock.json").read_bytes()
    done = place / "installed.json"
    if done.exists() and done.read_bytes() == lock:
        return place
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_HERE / name, place / name)
    command = [npm, "ci", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        ended = subprocess.run(command, cwd=place, capture_output=True, timeout=_FETCH)
    except subprocess.TimeoutExpired:
        raise Missing(f"npm ci took more than {_FETCH} seconds") from None
    if ended.returncode:
        # what it prints names hosts
        raise Missing(f"npm ci ended with {ended.returncode}")
    done.write_bytes(lock)
    return place
