"""Several sites in one simulated world: one clock, and each a process that can be killed."""

from __future__ import annotations

import fcntl
import gc
import os

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol

from twisted_mail.testing import MailServer, simulated_world
from twisted_mail.testing.disk import FaultyDisk

HERE, THERE = "192.0.2.10", "192.0.2.20"
LETTER = b"Subject: simulated\r\n\r\nhello\r\n.\r\n"


def listening(address):
    """Where a site takes mail and gives it back, on the ports of the real ones."""
    return {"listen": {"smtp": [f"tcp:25:interface={address}"], "pop3s": ["tcp:995"]}}


@pytest.fixture
def world():
    return simulated_world(start=1000.0)


def open_files(directory):
    """What this program has open there."""
    names = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    places = [os.readlink(name) for name in names if os.path.lexists(name)]
    return [place for place in places if place.startswith(str(directory))]


def send(site, recipient, port=25):
    client = site.reactor.connect(port)
    client.ask(b"EHLO client.example.net\r\nMAIL FROM:<>\r\n")
    replies = client.ask(b"RCPT TO:<" + recipient + b">\r\nDATA\r\n")
    return replies + client.ask(LETTER) if b"354" in replies else replies


# The clock


def test_each_call_runs_at_its_own_time(world):
    seen = []

    def tick(left):
        seen.append(world.now())
        if left:
            world.reactor.callLater(10, tick, left - 1)

    world.reactor.callLater(5, tick, 3)
    world.reactor.advance(30)
    assert (seen, world.now()) == ([1005, 1015, 1025], 1030)
    world.reactor.advance(5)
    assert seen[-1] == 1035


def test_calls_that_are_moved_and_cancelled(world):
    seen = []
    late, early, never = (
        world.reactor.callLater(delay, seen.append, name)
        for delay, name in ((10, "late"), (20, "early"), (5, "never"))
    )
    late.reset(30)
    early.reset(1)
    never.cancel()
    assert sorted(call.getTime() for call in world.reactor.getDelayedCalls()) == [1001, 1030]
    world.reactor.advance(29)
    assert seen == ["early"]
    late.delay(-20)
    world.reactor.advance(0)
    assert seen == ["early", "late"] and world.reactor.getDelayedCalls() == []


def test_a_call_that_is_moved_to_and_fro(world):
    seen = []
    call = world.reactor.callLater(10, lambda: seen.append(world.now()))
    call.reset(1)
    call.reset(30)
    world.reactor.advance(60)
    assert seen == [1030]


def test_step_runs_one_call(world):
    seen = []
    for delay in (0, 0, 60):
        world.reactor.callLater(delay, seen.append, delay)
    assert world.reactor.step() and seen == [0]
    assert world.reactor.step(30) and seen == [0, 0]
    assert not world.reactor.step(30) and world.now() == 1000
    assert world.reactor.step() and world.now() == 1060
    assert not world.reactor.step()


def test_nothing_is_in_the_past(world):
    with pytest.raises(ValueError, match="-1"):
        world.reactor.callLater(-1, print)


def test_run_gives_what_a_coroutine_returns_when_it_does(world):
    async def after(seconds, outcome):
        await _pause(world, seconds)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert world.run(after(100, 42)) == 42 and world.now() == 1100
    with pytest.raises(KeyError):
        world.run(after(0, KeyError()))
    with pytest.raises(RuntimeError, match="30"):
        world.run(after(40, 42), within=30)


def _pause(world, seconds):
    done = Deferred()
    world.reactor.callLater(seconds, done.callback, None)
    return done


# Processes


def test_sites_share_clock_network_and_randomness(world):
    one, two = world.at(HERE), world.at(THERE)
    assert one.network is two.network is world.network
    one.reactor.advance(10)
    assert two.now() == world.now() == 1010
    assert one.entropy(8) != two.entropy(8)
    assert one.reactor.getDelayedCalls() == []
    call = two.reactor.callLater(1, print)
    assert one.reactor.getDelayedCalls() == [] and two.reactor.getDelayedCalls() == [call]


def test_of_a_killed_process_nothing_runs_any_more(world):
    site, seen = world.at(HERE), []
    site.reactor.callLater(1, seen.append, "call")
    site.threads.call(seen.append, "thread")
    site.threads.lane("lane").submit(lambda: seen.append("lane"))
    world.reactor.callLater(1, seen.append, "another's")
    site.kill()
    site.reactor.callLater(0, seen.append, "later")
    world.reactor.advance(10)
    assert seen == ["another's"]


class Silent(Protocol):
    lost = None

    def connectionMade(self):
        self.factory.made.append(self)

    def connectionLost(self, reason):
        self.lost = reason.value


def silent():
    factory = Factory.forProtocol(Silent)
    factory.made = []
    return factory


def test_the_peer_of_a_killed_process_gets_what_was_written_and_the_end(world):
    site, factory = world.at(HERE), silent()
    site.reactor.listenTCP(25, factory)
    client = site.reactor.connect(25)
    factory.made[0].transport.write(b"last words")
    site.kill()
    factory.made[0].transport.write(b"a ghost's")
    assert client.ask(b"are you there?") == b"last words"
    assert isinstance(client.closed, ConnectionDone)
    assert factory.made[0].lost is None
    with pytest.raises(ConnectionRefusedError):
        site.reactor.connect(25)


def test_another_process_takes_the_place_of_a_killed_one(world):
    site = world.at(HERE)
    site.reactor.listenTCP(25, silent())
    with pytest.raises(Exception, match="in use"):
        world.at(HERE).reactor.listenTCP(25, silent())
    site.kill()
    again = world.at(HERE)
    again.reactor.listenTCP(25, silent())
    assert site.reactor.listeners == again.reactor.listeners != {}


def test_files_of_a_killed_process_are_closed_and_their_locks_free(world, tmp_path):
    one, two = world.at(HERE), world.at(HERE)
    path = str(tmp_path / "lock")
    fd, other = (site.disk.open(path, os.O_RDWR | os.O_CREAT) for site in (one, two))
    one.disk.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(BlockingIOError):
        two.disk.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    one.kill()
    two.disk.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    again = two.disk.open(path, os.O_RDWR)
    assert again == fd  # the number is another's now, and the dead do not close it
    one.disk.close(fd)
    os.fstat(again)
    for ask in (
        lambda: one.disk.open(path, os.O_RDWR),
        lambda: one.disk.open_nameless(str(tmp_path)),
        lambda: one.disk.write(again, b"a ghost's"),
        lambda: one.disk.unlink(path),
    ):
        with pytest.raises(OSError, match="dead"):
            ask()
    two.kill()


def test_a_site_can_have_a_disk_of_its_own(world):
    broken = FaultyDisk(fail_at=1, lasting=True)
    with pytest.raises(OSError, match="error"):
        world.at(HERE, disk=broken).disk.mkdir("/nowhere")
    assert world.at(HERE).disk.exists("/")


def test_a_site_made_by_another_outlives_it(world, tmp_path):
    one = world.at(HERE)
    two = one.at(THERE)
    one.kill()
    two.disk.mkdir(str(tmp_path / "made"))
    assert two.mortal and two.disk.exists(str(tmp_path / "made"))


def test_the_first_world_is_not_killed(world):
    with pytest.raises(RuntimeError):
        world.kill()


# Servers


def test_two_sites_beside_each_other(world, tmp_path):
    servers = {}
    for address, name in ((HERE, "one.example"), (THERE, "two.example")):
        servers[name] = world.run(
            MailServer.start(
                world.at(address),
                users={f"alice@{name}": "secret"},
                hostname=f"mx.{name}",
                directory=tmp_path / name,
                configuration=listening(address),
            )
        )
    one, two = servers.values()
    assert one.ports == two.ports == {"smtp": 25, "pop3s": 995}
    assert send(world.at(HERE), b"alice@one.example").count(b"250 2.0.0") == 1
    assert (len(one.messages("alice@one.example")), two.messages("alice@two.example")) == (1, [])
    assert world.at(THERE).reactor.connect(25).read().startswith(b"220 mx.two.example ")
    with pytest.raises(KeyError):
        two.messages("alice@one.example")
    world.run(one.stop())
    assert send(world.at(THERE), b"alice@two.example").count(b"250 2.0.0") == 1
    world.run(two.stop())


def test_a_killed_server_comes_back_with_all_that_it_took(world, tmp_path):
    def start(users):
        site = world.at(HERE)
        return site, world.run(
            MailServer.start(site, users=users, directory=tmp_path, configuration=listening(HERE))
        )

    site, server = start({"alice@one.example": "secret"})
    for taken in range(1, 4):
        assert b"250 2.0.0" in send(site, b"alice@one.example")
        waiting = site.reactor.connect(995)
        server.kill()
        world.reactor.settle()
        assert waiting.closed and open_files(tmp_path) == []
        with pytest.raises(RuntimeError, match="not running"):
            server.messages("alice@one.example")
        site, server = start({})
        gc.collect()  # what the dead one has left behind does no harm
        assert len(server.messages("alice@one.example")) == taken
    world.run(server.stop())


def test_killed_at_any_turn_of_a_delivery(world, tmp_path):
    """What was answered with 250 is there after the next start, and nothing is there twice."""
    answered = []
    for turns in range(60):
        directory = tmp_path / str(turns)
        users = {"alice@one.example": "secret"}
        site = world.at(HERE)
        server = world.run(
            MailServer.start(site, users=users, directory=directory, configuration=listening(HERE))
        )
        client = site.reactor.connect(25)
        client.ask(b"EHLO client.example.net\r\nMAIL FROM:<>\r\nRCPT TO:<alice@one.example>\r\n")
        client.ask(b"DATA\r\n")
        client.transport.write(LETTER)
        for _ in range(turns):
            site.reactor.step(0)
        server.kill()
        accepted = b"250 2.0.0" in client.read()
        site = world.at(HERE)
        server = world.run(
            MailServer.start(site, directory=directory, configuration=listening(HERE))
        )
        found = len(server.messages("alice@one.example"))
        answered.append((accepted, found))
        assert accepted <= found <= 1
        world.run(server.stop())
    assert answered[0] == (False, 0) and answered[-1] == (True, 1)


def test_only_a_simulated_server_can_be_killed(world, tmp_path):
    server = world.run(MailServer.start(world, directory=tmp_path))
    with pytest.raises(RuntimeError):
        server.kill()
    world.run(server.stop())
