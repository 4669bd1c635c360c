"""IMAP in the server: both listeners, what the configuration says of it, quotas as `mailctl` sets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from settling import settled
from twisted.logger import LogLevel, capturedLogs

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, hash_password
from twisted_mail.address import Address
from twisted_mail.config import Config
from twisted_mail.service import MailService
from twisted_mail.site import make_store, open_directory
from twisted_mail.testing.world import simulated_world

ALICE = Address("alice", "example.org")
LISTEN = {"smtp": ["tcp:25"], "imap": ["tcp:143"], "imaps": ["tcp:993"]}


@pytest.fixture
def world() -> Any:
    return simulated_world()


class Site:
    def __init__(self, world: Any, path: Path, **sections: Any) -> None:
        self.world = world
        self.path = path
        values = {
            "hostname": "mail.example.org",
            "listen": LISTEN,
            "imap": {"allow_plaintext_loopback": True},
            **sections,
        }
        config = Config.model_validate(values, context={"directory": path})
        self.service = MailService(config, world, prepare=self.prepare)

    async def prepare(self, directory: Directory) -> None:
        self.directory = directory
        directory.add_domain(ALICE.domain)
        cheap = Cost(memory=8, passes=1, scram_iterations=4096)
        directory.add_user(ALICE, hash_password("secret", self.world.entropy, cheap))

    def __enter__(self) -> Site:
        self.service.startService()
        settled(self.world, self.service.when_serving())
        return self

    def __exit__(self, *exc: object) -> None:
        settled(self.world, self.service.stopService())

    def client(self) -> Any:
        client = self.world.reactor.connect(143, address="127.0.0.1")
        client.read()
        return client

    def login(self) -> Any:
        client = self.client()
        said = self.ask(client, b"a LOGIN alice@example.org secret\r\n")
        assert b"a OK " in said, said
        return client

    def ask(self, client: Any, data: bytes) -> bytes:
        """The answer, which may take a thread or a batch of the journal."""
        said: bytes = client.ask(data)
        for _ in range(100):
            if said:
                break
            self.world.reactor.advance(0.01)
            said = client.read()
        return said


def test_both_listeners_answer(world: Any, tmp_path: Path) -> None:
    with Site(world, tmp_path) as site:
        names = [name for name, _ in site.service.listeners]
        assert names == ["smtp", "imap", "imaps"]
        greeting = world.reactor.connect(143).read()
        assert greeting.startswith(b"* OK [CAPABILITY IMAP4rev1 ") and b"LOGINDISABLED" in greeting
        assert b"] mail.example.org IMAP " in greeting and b" STARTTLS" in greeting
        tls = world.reactor.connect(993)
        tls.start_tls((tmp_path / "certs/ca.pem").read_bytes(), "mail.example.org")
        greeting = tls.read()
        assert greeting.startswith(b"* OK ") and b"LOGINDISABLED" not in greeting


def test_what_the_configuration_says(world: Any, tmp_path: Path) -> None:
    sections = {
        "imap": {"allow_plaintext_loopback": True, "separator": ".", "prefix": "INBOX.", "max_sessions": 1},
        "smtp": {"max_message_bytes": 100_000},
    }  # fmt: skip
    with Site(world, tmp_path, **sections) as site:
        client = site.login()
        assert b'(("INBOX." ".")) NIL NIL' in site.ask(client, b"b NAMESPACE\r\n")
        assert b" APPENDLIMIT=100000 " in site.ask(client, b"c CAPABILITY\r\n")
        with capturedLogs() as events:
            said = site.ask(site.client(), b"d LOGIN alice@example.org secret\r\n")
        assert said.startswith(b"d NO [LIMIT] ")
        told = [one for one in events if one["log_level"].name in ("warn", "error", "critical")]
        assert [(one["account"], one["limit"]) for one in told] == [("alice@example.org", 1)]


def test_quotas_of_the_site_and_of_a_user(world: Any, tmp_path: Path) -> None:
    with Site(world, tmp_path, quota={"storage": "1 MiB"}) as site:
        client = site.login()
        said = site.ask(client, b"b GETQUOTAROOT INBOX\r\n")
        assert b'* QUOTAROOT INBOX ""\r\n* QUOTA "" (STORAGE 0 1024)\r\n' in said
        site.directory.set_quota(ALICE, 2 << 20, 7)
        assert b"(STORAGE 0 2048 MESSAGE 0 7)" in site.ask(client, b'c GETQUOTA ""\r\n')
        site.directory.set_quota(ALICE, 10, None)
        for command in (
            b"d APPEND INBOX {100000}\r\n",
            b"d APPEND INBOX {21+}\r\n1234567890123456789\r\n\r\n",
        ):
            said = site.ask(client, command)
            assert said.startswith(b"d NO [OVERQUOTA] "), said
        sender = world.reactor.connect(25)
        sender.ask(
            b"EHLO client.example\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"
        )
        assert site.ask(sender, b"Subject: hello\r\n\r\n.\r\n").startswith(b"552 5.2.2 ")


def test_what_is_appended_is_there(world: Any, tmp_path: Path) -> None:
    with Site(world, tmp_path) as site:
        client = site.login()
        message = b"Subject: hello\r\n\r\nHello.\r\n"
        said = site.ask(
            client, b"b APPEND INBOX (\\Seen) {%d+}\r\n%s\r\n" % (len(message), message)
        )
        assert said.startswith(b"b OK [APPENDUID "), said
        said = site.ask(client, b"c STATUS INBOX (MESSAGES UNSEEN SIZE)\r\n")
        assert b"(MESSAGES 1 UNSEEN 0 SIZE %d)" % len(message) in said


def test_sessions_of_a_user_whom_another_process_removes(world: Any, tmp_path: Path) -> None:
    """As `mailctl user remove` does it."""
    with Site(world, tmp_path) as site:
        idle, working = site.login(), site.login()
        for client in (idle, working):
            assert b"b OK " in site.ask(client, b"b SELECT INBOX\r\n")
        assert site.ask(idle, b"c IDLE\r\n").startswith(b"+ ")
        home = site.service.config.data / "mail/example.org/alice"
        assert home.exists()
        with capturedLogs() as events:
            site.directory.remove_user(ALICE)
            elsewhere = simulated_world(seed=2)
            store = make_store(site.service.config, elsewhere)
            settled(elsewhere, store.start())
            settled(elsewhere, store.remove_account("example.org/alice"))
            settled(elsewhere, store.stop())
            # Before it has heard of that
            said = working.ask(b"d CREATE Work\r\n")
            world.reactor.advance(1)
        bye = b"* BYE [UNAVAILABLE] The account is closed\r\n"
        assert said + working.read() == b"d NO [UNAVAILABLE] The account is no more\r\n" + bye
        assert idle.read() == bye
        assert idle.closed and working.closed
        assert not home.exists()
        assert not [one for one in events if one["log_level"] >= LogLevel.error]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_sessions_of_a_user_who_is_disabled(world: Any, tmp_path: Path, elsewhere: bool) -> None:
    listen = LISTEN | {"pop3": ["tcp:110"]}
    pop3 = {"allow_plaintext_loopback": True}
    with Site(world, tmp_path, listen=listen, pop3=pop3) as site:
        idle = site.login()
        said = site.ask(idle, b"b APPEND INBOX {8+}\r\nA: b\r\n\r\n\r\n")
        assert said.startswith(b"b OK "), said
        site.ask(idle, b"c SELECT INBOX\r\nd IDLE\r\n")
        fetching = world.reactor.connect(110, address="127.0.0.1")
        fetching.read()
        assert site.ask(fetching, b"USER alice\r\n").startswith(b"+OK")
        assert site.ask(fetching, b"PASS secret\r\n").startswith(b"+OK 1 ")
        assert site.ask(fetching, b"DELE 1\r\n").startswith(b"+OK")
        directory = site.directory
        if elsewhere:
            config = site.service.config
            directory = open_directory(config, now=world.now, entropy=world.entropy)
        directory.set_enabled(ALICE, False)
        world.reactor.advance(1)
        assert idle.read() == b"* BYE [UNAVAILABLE] The account is closed\r\n"
        assert idle.closed
        assert site.ask(fetching, b"QUIT\r\n") == b"-ERR [SYS/PERM] The account is closed\r\n"
        assert fetching.closed
        directory.set_enabled(ALICE, True)
        if elsewhere:
            directory.close()
        # The lock was given back, and nothing is lost.
        assert b"(MESSAGES 1)" in site.ask(site.login(), b"b STATUS INBOX (MESSAGES)\r\n")
