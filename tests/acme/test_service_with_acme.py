"""`MailService` with a web port and certificates of a CA, on a simulated world."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from settling import settled

from twisted_mail.acme import site as acme_site
from twisted_mail.acme.challenges import Challenges
from twisted_mail.acme.interfaces import Connect
from twisted_mail.config import Config
from twisted_mail.service import MailService
from twisted_mail.testing.authority import FakeAuthority
from twisted_mail.testing.world import simulated_world

HOST = "mail.example.org"
VALUES: dict[str, Any] = {
    "hostname": HOST,
    "tls": {"acme": True},
    "mta_sts": {"domains": ["example.org"]},
    "listen": {
        "smtp": ["tcp:25"], "imaps": ["tcp:993"], "http": ["tcp:80"], "https": ["tcp:443"]
    },
}  # fmt: skip


class Site:
    """A service whose CA is in memory."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.world = simulated_world()
        self.world.watcher.every = None  # type: ignore[attr-defined]
        self.config = Config.model_validate(VALUES, context={"directory": directory})
        challenges = Challenges(self.world.disk, str(self.config.data / "acme/challenges"))
        self.ca = FakeAuthority(self.world.now, challenges.page, 90 * 86_400.0)

        def by_https(config: Config, now: Callable[[], float]) -> Connect:
            return self.ca.connect

        monkeypatch.setattr(acme_site, "_by_https", by_https)
        self.service = MailService(self.config, self.world)

    def start(self) -> None:
        self.service.startService()
        settled(self.world, self.service.when_serving())

    def stop(self) -> None:
        settled(self.world, self.service.stopService())

    def get(self, path: bytes, host: bytes = HOST.encode()) -> bytes:
        client = self.world.reactor.connect(80)
        return client.ask(b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")

    def tls_with(self, authorities: bytes, port: int = 993, name: str = HOST) -> Any:
        client = self.world.reactor.connect(port)
        client.start_tls(authorities, name)
        return client


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(tmp_path, monkeypatch)
    made.start()
    yield made
    if made.service.running:
        made.stop()


def root(site: Site) -> bytes:
    return site.ca.root.public_bytes(serialization.Encoding.PEM)


def test_the_development_certificate_is_served_until_the_first_one_comes(site: Site) -> None:
    assert {"http", "https"} < {name for name, _ in site.service.listeners}
    development = (site.directory / "certs/ca.pem").read_bytes()
    before = site.tls_with(development)
    assert before.read().startswith(b"* OK")
    site.world.reactor.advance(30)
    after = site.tls_with(root(site))
    assert after.read().startswith(b"* OK")
    assert site.tls_with(development).closed is not None
    # who was there stays
    assert b"a OK" in before.ask(b"a NOOP\r\n")


def test_the_web_port_answers_what_a_ca_asks(site: Site) -> None:
    directory = site.config.data / "acme/challenges"
    site.world.reactor.advance(60)
    (directory / "http-abc").write_text("abc.thumbprint")
    assert site.get(b"/.well-known/acme-challenge/abc").endswith(b"\r\n\r\nabc.thumbprint")
    assert site.get(b"/.well-known/acme-challenge/abcd").startswith(b"HTTP/1.1 404")


def test_policies_are_served_with_tls(site: Site) -> None:
    site.world.reactor.advance(60)
    client = site.tls_with(root(site), 443, "mta-sts.example.org")
    answer = client.ask(
        b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.example.org\r\n\r\n"
    )
    assert answer.endswith(
        b"version: STSv1\r\nmode: testing\r\nmx: mail.example.org\r\nmax_age: 604800\r\n"
    )


def test_it_stops_while_a_ca_lets_it_wait_and_while_web_clients_dawdle(site: Site) -> None:
    site.ca.polls = 10**9
    site.world.reactor.advance(10)
    client = site.world.reactor.connect(80)
    client.ask(b"GET / HT")
    stopped: list[Any] = []
    site.service.stopService().addBoth(stopped.append)
    site.world.reactor.advance(11)
    assert stopped == [None] and client.closed is not None
    site.world.reactor.advance(3600)
    assert site.ca.times_asked == 1


def test_it_starts_again_with_what_it_has(site: Site) -> None:
    site.world.reactor.advance(60)
    site.stop()
    site.start()
    assert site.tls_with(root(site)).read().startswith(b"* OK")
    site.world.reactor.advance(60)
    assert site.ca.times_asked == 1
