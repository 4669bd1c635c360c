"""A site on a simulated world that keeps a certificate of a CA in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from twisted_mail.acme.challenges import Challenges
from twisted_mail.acme.files import AcmeFiles
from twisted_mail.acme.interfaces import Connect
from twisted_mail.acme.renewal import Renewal, RenewalSettings
from twisted_mail.disk import Disk
from twisted_mail.testing.authority import FakeAuthority
from twisted_mail.testing.disk import FaultyDisk
from twisted_mail.testing.world import simulated_world

DAY = 86_400.0
NAMES = ("mail.example.org", "imap.example.org")
LIFETIME = 90 * DAY


class Site:
    """Everything that `Renewal` wants; `ca` is who is asked."""

    def __init__(self, directory: Path, *, disk: Disk | None = None, **settings: Any) -> None:
        self.disk = disk or FaultyDisk()
        self.world = simulated_world(disk=self.disk)
        self.world.watcher.every = None  # type: ignore[attr-defined]
        self.data = directory
        self.files = AcmeFiles(self.disk, directory)
        challenges = Challenges(self.disk, self.files.challenges)
        self.ca = FakeAuthority(self.world.now, challenges.page, LIFETIME)
        self.settings = RenewalSettings(
            **{"directory": "https://ca.example/", "names": NAMES, **settings}
        )
        self.renewed = 0
        self.log: list[tuple[str, str]] = []
        globalLogPublisher.addObserver(self._hear)
        self.renewal: Renewal | None = None

    def _hear(self, event: dict[str, Any]) -> None:
        if event["log_level"] >= LogLevel.info:
            self.log.append((event["log_level"].name, formatEvent(event)))

    def lines(self, level: str) -> list[str]:
        return [text for one, text in self.log if one == level]

    def start(self, connect: Connect | None = None) -> None:
        def renewed() -> None:
            self.renewed += 1

        self.renewal = Renewal(
            self.world, self.settings, self.files, connect or self.ca.connect, renewed
        )
        self.renewal.start()
        self.advance(60)

    def stop(self) -> None:
        assert self.renewal is not None
        self.world.run(self.renewal.stop())
        self.renewal = None

    def close(self) -> None:
        if self.renewal is not None:
            self.stop()
        globalLogPublisher.removeObserver(self._hear)

    def advance(self, seconds: float) -> None:
        self.world.reactor.advance(seconds)

    def ask(self) -> None:
        """What ``mailctl certs renew`` does."""
        self.world.watcher.look()  # type: ignore[attr-defined]
        self.files.ask()
        self.world.watcher.look()  # type: ignore[attr-defined]

    @property
    def served(self) -> x509.Certificate:
        """Raises OSError or ValueError when there is none."""
        return x509.load_pem_x509_certificates(self.files.certificate_path.read_bytes())[0]

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "acme/state.json").read_text())
        return found
