"""A site of three processes on one simulated machine: one with the duties, two that answer clients."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from twisted_mail.accounts.passwords import Cost, hash_password
from twisted_mail.address import Address
from twisted_mail.config import Config
from twisted_mail.connection.tls import ServerTls
from twisted_mail.duties import Duties
from twisted_mail.rooms import Rooms
from twisted_mail.serving import Serving
from twisted_mail.site import make_certificates, make_data
from twisted_mail.testing.siblings import SharedSite
from twisted_mail.testing.world import simulated_world

ALICE = Address("alice", "example.org")
CHEAP = Cost(memory=8, passes=1, scram_iterations=4096)


class Process:
    """One of the site's."""

    def __init__(self, config: Config, world: Any, *, duties: bool) -> None:
        self.world = world
        self.config = config
        self.rooms = Rooms(config, world)
        self._duties = duties

    async def open(self) -> None:
        pairs = make_certificates(self.config, self.world.now())
        files = [(one.certificate, one.key) for one in pairs]
        tls = ServerTls(files, self.world.reactor.seconds)
        await self.rooms.open([("smtp", "0.0.0.0:25")], prepare=self._prepare, duties=self._duties)
        if self._duties:
            self.duties = Duties(self.rooms, tls, None, [])
            self.duties.start(lambda: None)
        else:
            self.serving = Serving(self.rooms, tls)

    async def _prepare(self, directory: Any) -> None:
        if self._duties:
            directory.add_domain("example.org")
            directory.add_user(ALICE, hash_password("secret", self.world.entropy, CHEAP))

    def client(self, name: str) -> Any:
        return self.world.reactor.connect(self.serving.factories[name], address="127.0.0.1")

    async def close(self) -> None:
        if self._duties:
            for one in self.duties.stop():
                await one
        else:
            for one in self.serving.drain():
                await one
        await self.rooms.close()


class Site:
    def __init__(self, tmp_path: Any) -> None:
        self.config = Config.model_validate(
            {
                "hostname": "mail.example.org",
                "imap": {"allow_plaintext_loopback": True},
                "pop3": {"allow_plaintext_loopback": True},
                "checks": {"enabled": False},
            },
            context={"directory": tmp_path},
        )
        make_data(self.config, simulated_world().disk)
        shared = SharedSite()
        self.world = world = shared.join(simulated_world())
        self.main = Process(self.config, world, duties=True)
        self.one, self.two = (
            Process(self.config, shared.join(world.at("192.0.2.1")), duties=False) for _ in "12"
        )

    def run(self, work: Any) -> None:
        done = Deferred.fromCoroutine(work)
        for _ in range(2000):
            if done.called:
                break
            self.world.reactor.settle()
        results: list[Any] = []
        done.addBoth(results.append)
        assert results == [None]


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    for process in (made.main, made.one, made.two):
        made.run(process.open())
    yield made
    for process in (made.two, made.one, made.main):
        made.run(process.close())


def deliver(process, subject, recipient="alice@example.org", name="smtp"):
    client = process.client(name)
    client.ask(b"EHLO client.example\r\n")
    answers = client.ask(
        f"MAIL FROM:<bob@elsewhere.example>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
    )
    assert answers.splitlines()[-1].startswith(b"354"), answers
    assert client.ask(f"Subject: {subject}\r\n\r\nhello\r\n.\r\n".encode()).startswith(b"250 2.")
    client.ask(b"QUIT\r\n")


def imap(process):
    client = process.client("imap")
    client.read()
    assert b"a OK" in client.ask(b'a LOGIN alice@example.org "secret"\r\n')
    assert b"b OK" in client.ask(b"b SELECT INBOX\r\n")
    return client


def test_what_one_takes_the_other_gives(site):
    deliver(site.one, "hello")
    client = site.two.client("pop3")
    client.ask(b"USER alice@example.org\r\n")
    assert client.ask(b"PASS secret\r\n").startswith(b"+OK")
    assert client.ask(b"STAT\r\n").startswith(b"+OK 1 ")
    client.ask(b"QUIT\r\n")


def test_idle_hears_what_the_other_does(site):
    idle = imap(site.two)
    assert idle.ask(b"c IDLE\r\n").startswith(b"+")
    deliver(site.one, "hello")
    site.world.reactor.advance(0.1)
    assert b"* 1 EXISTS" in idle.read()
    busy = imap(site.one)
    busy.ask(b"c STORE 1 +FLAGS (\\Flagged)\r\n")
    site.world.reactor.advance(0.1)
    assert b"\\Flagged" in idle.read()
    busy.ask(b"d STORE 1 +FLAGS (\\Deleted)\r\n")
    busy.ask(b"e EXPUNGE\r\n")
    site.world.reactor.advance(0.1)
    assert b"* 1 EXPUNGE" in idle.read()


def test_mail_for_elsewhere_is_taken_by_who_runs_the_queue_at_once(site):
    site.world.reactor.advance(5)
    manager = site.main.rooms.sending._manager
    assert manager.acquired and not manager.taken
    submitted = site.one.client("submission")
    certificate = (site.config.certificates / "ca.pem").read_bytes()
    submitted.ask(b"EHLO client.example\r\n")
    submitted.ask(b"STARTTLS\r\n")
    submitted.start_tls(certificate, "mail.example.org")
    submitted.ask(b"EHLO client.example\r\n")
    submitted.ask(b"AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHNlY3JldA==\r\n")
    answers = submitted.ask(
        b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<carol@elsewhere.example>\r\nDATA\r\n"
    )
    assert answers.splitlines()[-1].startswith(b"354"), answers
    now = site.world.now()
    assert submitted.ask(b"Subject: out\r\n\r\n.\r\n").startswith(b"250 2.")
    for _ in range(200):
        site.world.reactor.settle()
    # No time has passed: the poll, twice a second, had no part in it.
    assert site.world.now() == now
    assert manager.taken == 1


def test_who_is_disabled_is_sent_away_by_all(site):
    clients = [imap(site.one), imap(site.two)]
    site.main.rooms.directory.set_enabled(ALICE, False)
    site.world.reactor.advance(3)
    assert all(one.closed for one in clients)
