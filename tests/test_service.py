"""`service.MailService` on a simulated world: start, serving, refusals, drain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from settling import settled
from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, hash_password
from twisted_mail.address import Address
from twisted_mail.certs import make_development_certificates
from twisted_mail.config import Config
from twisted_mail.interfaces import IAccount, ILocalDelivery
from twisted_mail.service import MailService, StartError
from twisted_mail.siblings import Alone
from twisted_mail.testing.siblings import SharedSite
from twisted_mail.testing.world import simulated_world
from twisted_mail.world import World

ALICE = Address("alice", "example.org")
CHEAP = Cost(memory=8, passes=1, scram_iterations=4096)
LISTEN = {"smtp": ["tcp:25"], "pop3": ["tcp:110"], "pop3s": ["tcp:995:interface=127.0.0.1"]}


def configured(tmp_path: Path, **sections: Any) -> Config:
    values = {"hostname": "mail.example.org", "listen": LISTEN, **sections}
    return Config.model_validate(values, context={"directory": tmp_path})


def with_alice(world: World) -> Callable[[Directory], Awaitable[None]]:
    async def prepare(directory: Directory) -> None:
        if not directory.users():
            directory.add_domain(ALICE.domain)
            directory.add_user(ALICE, hash_password("secret", world.entropy, CHEAP))

    return prepare


@pytest.fixture
def world() -> World:
    return simulated_world()


@pytest.fixture
def running(tmp_path, world):
    service = MailService(
        configured(tmp_path, pop3={"allow_plaintext_loopback": True}),
        world,
        prepare=with_alice(world),
    )
    service.startService()
    settled(world, service.when_serving())
    yield service
    if service.running:
        settled(world, service.stopService())


def begin_message(world):
    client = world.reactor.connect(25)
    client.ask(b"EHLO client.example\r\n")
    answers = client.ask(
        b"MAIL FROM:<bob@elsewhere.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"
    )
    assert answers.splitlines()[-1].startswith(b"354")
    return client


def pop3_list(world):
    client = world.reactor.connect(110, address="127.0.0.1")
    client.ask(b"USER alice@example.org\r\n")
    assert client.ask(b"PASS secret\r\n").startswith(b"+OK")
    answer = client.ask(b"LIST\r\n")
    client.ask(b"QUIT\r\n")
    return answer


def test_it_listens_where_the_configuration_says(running, world):
    assert running.listeners == [
        ("smtp", "0.0.0.0:25"), ("pop3", "0.0.0.0:110"), ("pop3s", "127.0.0.1:995"),
    ]  # fmt: skip
    assert world.reactor.connect(25).read() == b"220 mail.example.org ESMTP ready\r\n"
    assert world.reactor.connect(110).read().startswith(b"+OK mail.example.org ")


def test_nobody_is_answered_before_the_store_is_open(tmp_path, world):
    service = MailService(configured(tmp_path), world)
    service.privilegedStartService()
    assert [name for name, _ in service.listeners] == ["smtp", "pop3", "pop3s"]
    early = world.reactor.connect(25)
    assert early.read() == b"" and early.closed is None
    service.startService()
    settled(world, service.when_serving())
    assert early.read().startswith(b"220 ")
    settled(world, service.stopService())


def test_nothing_of_the_users_is_made_before_privileges_are_dropped(tmp_path, world):
    MailService(configured(tmp_path), world).privilegedStartService()
    assert list((tmp_path / "mail-data").iterdir()) == []
    assert (tmp_path / "mail-data").stat().st_mode & 0o777 == 0o700


def test_what_smtp_takes_pop3_gives(running, world):
    client = begin_message(world)
    assert client.ask(b"Subject: hello\r\n\r\nhello\r\n.\r\n").startswith(b"250 2.")
    assert pop3_list(world).splitlines()[1].startswith(b"1 ")


def test_a_development_certificate_is_served(running, world, tmp_path):
    client = world.reactor.connect(995, address="127.0.0.1")
    client.start_tls((tmp_path / "certs/ca.pem").read_bytes(), "mail.example.org")
    assert client.read().startswith(b"+OK ")


def test_reload_takes_the_certificates_as_they_are_now(running, world, tmp_path):
    for name in ("ca.pem", "ca.key", "mail.example.org.pem", "mail.example.org.key"):
        (tmp_path / "certs" / name).unlink()
    make_development_certificates(tmp_path / "certs", "mail.example.org", now=world.now())
    running.reload()
    client = world.reactor.connect(995, address="127.0.0.1")
    client.start_tls((tmp_path / "certs/ca.pem").read_bytes(), "mail.example.org")
    assert client.read().startswith(b"+OK ")


def test_a_port_that_is_taken_is_named(tmp_path, world):
    first = MailService(configured(tmp_path / "one"), world)
    first.privilegedStartService()
    second = MailService(
        configured(tmp_path / "two", listen={"smtp": ["tcp:2525"], "pop3": ["tcp:110"]}), world
    )
    with pytest.raises(StartError) as refused:
        second.privilegedStartService()
    assert str(refused.value) == "pop3: cannot listen on tcp:110: in use"
    assert 2525 not in world.reactor.listeners
    assert not (tmp_path / "two").exists()


def test_a_certificate_that_cannot_be_used_is_named(tmp_path, world):
    (tmp_path / "one.pem").write_text("no certificate")
    (tmp_path / "one.key").write_text("no key")
    tls = {"certificate": tmp_path / "one.pem", "key": tmp_path / "one.key"}
    service = MailService(configured(tmp_path, tls=tls), world)
    with pytest.raises(StartError, match=r"one\.pem"):
        service.startService()
    assert not world.reactor.listeners


def test_a_store_of_a_newer_version_is_left_alone(tmp_path, world):
    (tmp_path / "mail-data").mkdir(mode=0o700)
    (tmp_path / "mail-data/site.json").write_text('{"version": 99, "generation": 1}')
    service = MailService(configured(tmp_path), world)
    service.startService()
    with pytest.raises(StartError, match="newer program"):
        settled(world, service.when_serving())
    assert not world.reactor.listeners
    settled(world, service.stopService())


def test_a_start_that_failed_can_be_tried_again(tmp_path, world):
    (tmp_path / "mail-data").mkdir(mode=0o700)
    (tmp_path / "mail-data/site.json").write_text('{"version": 99, "generation": 1}')
    service = MailService(configured(tmp_path), world)
    service.startService()
    with pytest.raises(StartError):
        settled(world, service.when_serving())
    (tmp_path / "mail-data/site.json").unlink()
    service.startService()
    settled(world, service.when_serving())
    assert world.reactor.connect(25).read().startswith(b"220 ")
    settled(world, service.stopService())


def test_who_asked_before_a_start_that_is_refused_is_told(tmp_path, world):
    first = MailService(configured(tmp_path / "one"), world)
    first.privilegedStartService()
    second = MailService(configured(tmp_path / "two"), world)
    asked = second.when_serving()
    with pytest.raises(StartError):
        second.startService()
    with pytest.raises(StartError, match="in use"):
        settled(world, asked)
    assert not second.running
    settled(world, first.stopService())
    second.startService()
    settled(world, second.when_serving())
    settled(world, second.stopService())


def test_the_accounts_are_prepared_when_the_store_is_open(tmp_path, world):
    """What is made for a first start must not be lost with a start that fails."""
    (tmp_path / "mail-data").mkdir(mode=0o700)
    (tmp_path / "mail-data/site.json").write_text('{"version": 99, "generation": 1}')
    prepared = []

    async def prepare(directory):
        prepared.append(directory)

    service = MailService(configured(tmp_path), world, prepare=prepare)
    service.startService()
    with pytest.raises(StartError):
        settled(world, service.when_serving())
    assert prepared == []


@pytest.mark.parametrize("postmaster", ["", "nobody@two.example"])
def test_a_postmaster_who_is_not_there_is_missed(tmp_path, world, postmaster):
    with capturedLogs() as events:
        service = MailService(configured(tmp_path, postmaster=postmaster), world)
        service.startService()
        settled(world, service.when_serving())
        settled(world, service.stopService())
    said = [line for line in map(formatEvent, events) if "postmaster =" in line]
    assert len(said) == bool(postmaster)
    assert all("nobody@two.example" in line and "the first user" in line for line in said)


@pytest.mark.parametrize("content", [None, b"\n", b"\xff\n"])
def test_a_filters_password_that_cannot_be_read_now(tmp_path, world, content):
    if content is not None:
        (tmp_path / "password").write_bytes(content)
    table = {"kind": "rspamd", "endpoint": "unix:/r", "password_file": "password"}
    service = MailService(configured(tmp_path, filters=[table]), world)
    service.startService()
    with pytest.raises(StartError, match=rf"filter rspamd: password_file {tmp_path}/password must"):
        settled(world, service.when_serving())


def test_who_asks_late_is_told_too(running, world):
    assert settled(world, running.when_serving()) is None


def test_stopping_says_goodbye_to_idle_clients(running, world):
    smtp, pop3 = world.reactor.connect(25), world.reactor.connect(110)
    smtp.read(), pop3.read()
    settled(world, running.stopService())
    assert smtp.read().startswith(b"421 4.3.2 ")
    assert smtp.closed and pop3.closed
    assert not world.reactor.listeners


def test_stopping_lets_a_message_come_to_its_end(running, world):
    client = begin_message(world)
    client.send(b"Subject: the last one\r\n\r\n")
    stopped = running.stopService()
    world.reactor.advance(5)
    assert not stopped.called
    with pytest.raises(ConnectionRefusedError):
        world.reactor.connect(25)
    assert client.ask(b"hello\r\n.\r\n").startswith(b"250 2.")
    settled(world, stopped)
    assert client.closed


def test_stopping_does_not_wait_for_ever(running, world):
    client = begin_message(world)
    stopped = running.stopService()
    world.reactor.advance(9.9)
    assert not stopped.called
    world.reactor.advance(0.1)
    settled(world, stopped)
    assert client.closed and client.read() == b""


def test_what_was_taken_is_there_after_a_restart(tmp_path, running, world):
    begin_message(world).ask(b"Subject: hello\r\n\r\nhello\r\n.\r\n")
    before = pop3_list(world)
    settled(world, running.stopService())
    again = MailService(running.config, world)
    again.startService()
    settled(world, again.when_serving())
    assert pop3_list(world) == before
    settled(world, again.stopService())


def test_one_service_can_be_started_again(running, world):
    settled(world, running.stopService())
    asked = running.when_serving()
    assert not asked.called
    running.startService()
    settled(world, asked)
    assert world.reactor.connect(25).read().startswith(b"220 ")


def test_stopping_before_it_serves(tmp_path, world):
    service = MailService(configured(tmp_path), world)
    service.startService()
    settled(world, service.stopService())
    assert not world.reactor.listeners


@implementer(IRealm, ILocalDelivery)
class OwnRealm:
    """Keeps mail in a list."""

    delivered: ClassVar[list[bytes]] = []

    def requestAvatar(self, avatar_id, mind, *interfaces):
        return IAccount, None, lambda: None

    async def knows(self, address):
        return address.local == "anyone"

    async def deliver(self, sender, recipients, message):
        self.delivered.append(message)


def test_a_realm_of_the_sites_own_takes_the_mail(tmp_path, world):
    auth = {"realm": f"{__name__}:OwnRealm"}
    service = MailService(configured(tmp_path, auth=auth), world)
    service.startService()
    settled(world, service.when_serving())
    client = world.reactor.connect(25)
    client.ask(b"HELO client.example\r\nMAIL FROM:<>\r\nRCPT TO:<anyone@example.net>\r\nDATA\r\n")
    assert client.ask(b"Subject: hello\r\n\r\nhello\r\n.\r\n").startswith(b"250 2.")
    assert OwnRealm.delivered.pop().endswith(b"Subject: hello\n\nhello\n")
    settled(world, service.stopService())


def test_a_realm_that_cannot_be_had_is_named(tmp_path, world):
    service = MailService(configured(tmp_path, auth={"realm": "builtins:dict"}), world)
    service.startService()
    with pytest.raises(StartError, match="builtins:dict"):
        settled(world, service.when_serving())


def test_mail_programs_hear_where_the_listeners_are(tmp_path, world):
    listen = {"imaps": ["tcp:1993"], "submissions": ["tcp:465"], "http": ["tcp:80"]}
    service = MailService(configured(tmp_path, listen=listen), world, prepare=with_alice(world))
    service.privilegedStartService()
    service.startService()
    settled(world, service.when_serving())
    client = world.reactor.connect(80)
    said = client.ask(b"GET /mail/config-v1.1.xml HTTP/1.1\r\nHost: autoconfig.example.org\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"<port>1993</port>" in said and b"<hostname>mail.example.org</hostname>" in said
    settled(world, service.stopService())


# Another configuration while it runs


def other(service: MailService, tmp_path: Path, **sections: Any) -> Config:
    return configured(
        tmp_path,
        pop3={"allow_plaintext_loopback": True},
        smtp={"max_message_bytes": 70_000},
        **sections,
    )


def test_a_new_configuration_counts_for_who_comes(running, world, tmp_path):
    idle = world.reactor.connect(25)
    idle.read()
    busy = begin_message(world)
    changed = running.reconfigure(other(running, tmp_path))
    for _ in range(100):
        world.reactor.settle()
    new = world.reactor.connect(25)
    assert b"SIZE 70000" in new.ask(b"EHLO client\r\n")
    assert idle.read().startswith(b"421 4.3.2 ") and idle.closed
    assert not changed.called
    assert busy.ask(b"Subject: the old way\r\n\r\nhello\r\n.\r\n").startswith(b"250 2.")
    settled(world, changed)
    assert busy.closed and not new.closed
    assert begin_message(world).ask(b"Subject: the new way\r\n\r\n.\r\n").startswith(b"250 2.")
    assert len(pop3_list(world).splitlines()) == 4
    assert running.config.smtp.max_message_bytes == 70_000


def test_who_is_in_the_middle_of_something_has_so_much_time_only(running, world, tmp_path):
    busy = begin_message(world)
    changed = running.reconfigure(other(running, tmp_path))
    world.reactor.advance(9.9)
    assert not busy.closed
    world.reactor.advance(0.2)
    settled(world, changed)
    assert busy.closed


def test_a_configuration_that_cannot_be_used_changes_nothing(running, world, tmp_path):
    idle = world.reactor.connect(25)
    tls = {"certificate": tmp_path / "none.pem", "key": tmp_path / "none.key"}
    with capturedLogs() as events:
        settled(world, running.reconfigure(other(running, tmp_path, tls=tls)))
    assert any("the old one goes on" in formatEvent(one) for one in events)
    assert not idle.closed and idle.read().startswith(b"220 ")
    assert running.config.smtp.max_message_bytes != 70_000


def test_what_is_opened_for_a_configuration_that_then_fails_is_closed(running, world, tmp_path):
    checkers = {"checkers": ["nonsense:x"]}
    settled(world, running.reconfigure(other(running, tmp_path, auth=checkers)))
    assert begin_message(world).ask(b"Subject: x\r\n\r\n.\r\n").startswith(b"250 2.")
    settled(world, running.stopService())
    assert not list((tmp_path / "mail-data/journal/writers").iterdir())


def test_the_same_configuration_again_is_nothing(running, world):
    idle = world.reactor.connect(25)
    idle.read()
    settled(world, running.reconfigure(running.config))
    assert not idle.closed and idle.read() == b""


def test_what_cannot_change_while_it_runs_is_named_and_stays(running, world, tmp_path):
    wanted = other(
        running, tmp_path, listen={"smtp": ["tcp:2600"]}, data=tmp_path / "other", workers=1
    )
    with capturedLogs() as events:
        settled(world, running.reconfigure(wanted))
    said = [formatEvent(one) for one in events]
    assert (
        "listen, data, workers cannot be changed while it runs: restart the server for that" in said
    )
    assert list(world.reactor.listeners) == [25, 110, 995]
    assert not (tmp_path / "other").exists()
    assert b"SIZE 70000" in world.reactor.connect(25).ask(b"EHLO client\r\n")


def test_of_many_changes_at_once_the_last_one_counts(running, world, tmp_path):
    ends = [
        running.reconfigure(configured(tmp_path, smtp={"max_message_bytes": 70_000 + n}))
        for n in range(5)
    ]
    for end in ends:
        settled(world, end)
    assert b"SIZE 70004" in world.reactor.connect(25).ask(b"EHLO client\r\n")


def test_the_queue_goes_on_with_the_new_configuration(running, world, tmp_path):
    before = running.rooms.sending._manager
    assert before.acquired
    settled(world, running.reconfigure(other(running, tmp_path)))
    world.reactor.advance(60)
    after = running.rooms.sending._manager
    assert after is not before and after.acquired and not before.acquired


def test_a_stop_in_the_middle_of_a_change(running, world, tmp_path):
    busy = begin_message(world)
    running.reconfigure(other(running, tmp_path))
    for _ in range(100):
        world.reactor.settle()
    idle = world.reactor.connect(25)
    idle.read()
    stopped = running.stopService()
    assert busy.ask(b"Subject: x\r\n\r\n.\r\n").startswith(b"250 2.")
    settled(world, stopped)
    assert busy.closed and idle.closed
    assert not list((tmp_path / "mail-data/journal/writers").iterdir())


# With others who answer


class Others:
    """A `Fleet` without processes."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.refuses = ""

    async def start(self, sockets, addresses, config, files, rooms):
        self.log.append(f"start {[one.name for one in sockets]} {len(files)}")
        if self.refuses:
            raise StartError(self.refuses)

    def read_again(self, files):
        self.log.append(f"read again {len(files)}")

    async def change(self, config, files, rooms):
        if self.refuses:
            raise StartError(self.refuses)
        self.log.append(f"change {config.smtp.max_message_bytes}")

    async def stop(self):
        self.log.append("stop")


class Sock:
    family = 2

    def fileno(self):
        return 7


@pytest.fixture
def sockets(monkeypatch):
    """The simulated ports look like sockets."""
    from twisted_mail.testing.network import Listener

    monkeypatch.setattr(Listener, "socket", Sock(), raising=False)


def test_others_answer_in_place_of_this_process(tmp_path, world, sockets):
    others = Others()
    service = MailService(configured(tmp_path), world, fleet=others)
    service.startService()
    settled(world, service.when_serving())
    assert others.log == ["start ['smtp', 'pop3', 'pop3s'] 2"]
    assert world.reactor.connect(25).read() == b""  # it waits for them
    assert service.rooms.sending._manager.acquired
    service.reload()
    settled(world, service.reconfigure(configured(tmp_path, smtp={"max_message_bytes": 70_000})))
    settled(world, service.stopService())
    assert others.log[1:] == ["read again 2", "change 70000", "stop"]


def test_others_who_cannot_start(tmp_path, world, sockets):
    others = Others()
    others.refuses = "no more processes"
    service = MailService(configured(tmp_path), world, fleet=others)
    service.startService()
    with pytest.raises(StartError, match="no more processes"):
        settled(world, service.when_serving())
    assert not world.reactor.listeners


def test_others_who_cannot_change(tmp_path, world, sockets):
    others = Others()
    service = MailService(configured(tmp_path), world, fleet=others)
    service.startService()
    settled(world, service.when_serving())
    before = service.rooms
    others.refuses = "no"
    settled(world, service.reconfigure(configured(tmp_path, smtp={"max_message_bytes": 70_000})))
    assert service.rooms is before and before.sending._manager.acquired
    settled(world, service.stopService())


class Slow(Others):
    """Their change takes as long as they are not stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.over: Deferred[None] = Deferred()

    async def change(self, config, files, rooms):
        await self.over
        raise StartError("the server stops")

    async def stop(self):
        await super().stop()
        self.over.callback(None)


def test_what_is_asked_for_while_it_starts_is_one_change(tmp_path, world, sockets):
    others = Others()
    service = MailService(configured(tmp_path), world, fleet=others)
    service.startService()
    for size in (70_000, 80_000, 90_000):
        changed = service.reconfigure(configured(tmp_path, smtp={"max_message_bytes": size}))
    settled(world, changed)
    settled(world, service.stopService())
    assert others.log[1:] == ["change 90000", "stop"]


def test_stop_does_not_wait_for_others_who_change(tmp_path, world, sockets):
    service = MailService(configured(tmp_path), world, fleet=Slow())
    service.startService()
    settled(world, service.when_serving())
    changed = service.reconfigure(configured(tmp_path, smtp={"max_message_bytes": 70_000}))
    for _ in range(50):
        world.reactor.settle()
    assert not changed.called
    with capturedLogs() as events:
        settled(world, service.stopService())
    assert changed.called
    assert not [one for one in events if one["log_level"].name in ("error", "critical")]


def test_who_serves_alone_after_all_tells_nobody(tmp_path):
    site = SharedSite()
    world = site.join(simulated_world())
    service = MailService(configured(tmp_path), world, fleet=Others())
    service.serve_alone()
    service.startService()
    settled(world, service.when_serving())
    assert isinstance(service.rooms.world.siblings, Alone)
    settled(world, service.stopService())


def test_ports_that_are_no_sockets_cannot_be_shared(tmp_path, world):
    service = MailService(configured(tmp_path), world, fleet=Others())
    service.startService()
    with pytest.raises(StartError, match="cannot be shared with workers: set workers = 0"):
        settled(world, service.when_serving())
