"""The whole queue on a disk that fails, or that the power is cut from, at every one of its operations.

From the intake to the bounce everything is real but the peers. What was answered yes ends as it should: delivered, or
bounced, once; sent twice only when the crash lay between the peer's 250 and our next commit. What was answered no
leaves nothing.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, hash_password
from twisted_mail.address import Address
from twisted_mail.delivery.intake import IntakeSettings, MailIntake
from twisted_mail.delivery.interfaces import Client, Envelope, Recipient
from twisted_mail.disk import Disk
from twisted_mail.queue.interfaces import DestinationError, Result
from twisted_mail.queue.manager import QueueManager
from twisted_mail.queue.schedule import Settings
from twisted_mail.status import MailError
from twisted_mail.storage.queued import Change, State
from twisted_mail.storage.spool_view import Filter
from twisted_mail.storage.store import MailStore
from twisted_mail.testing import SimulatedWorld, simulated_world
from twisted_mail.testing.disk import FaultyDisk, PowerCutDisk
from twisted_mail.testing.queue import Host, MemoryCarrier

HOUR, DAY = 3600.0, 86400.0
ALICE, BOB = "alice@home.example", "bob@home.example"
FAR, BAD, LATER, DOWN = (f"x@{name}.example" for name in ("far", "bad", "later", "down"))


class Alice:
    """Logged in."""

    name = ALICE

    def may_send_as(self, address: Address) -> bool:
        return True


class Mail:
    """One message, from the sender's side. `answer`: True for 250, False for 4xx, None: he never heard."""

    def __init__(self, subject: str, to: tuple[str, ...], identity: str) -> None:
        self.subject = subject
        self.to = to
        self.identity = identity
        self.answer: bool | None = None


class Outside:
    """What is there whatever becomes of the process: the clock, the peers, what the sender knows."""

    def __init__(self, directory: Directory, seed: int) -> None:
        self.world = simulated_world(seed=seed)
        self.directory = directory
        self.mails: list[Mail] = []
        self.sent: list[tuple[float, str, str, int]] = []
        self.tries: Counter[tuple[str, int]] = Counter()
        self.committed: set[tuple[str, int]] = set()
        """Recipients of whom the queue knows for certain that it will never send to them again."""
        self.window: Counter[tuple[str, int]] = Counter()
        """In how many crashes a recipient had been sent to, and that was not yet committed."""
        self.hosts = {
            "bad.example": Host(result=Result.FAILED),
            "later.example": Host(
                judge=lambda _, tries: Result.DELIVERED if tries else Result.DEFERRED
            ),
            "down.example": Host(error=DestinationError("connection refused")),
        }


class Door:
    """The real one; it notes what was committed while the power was on."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def commit(self, changes: list[Change]) -> None:
        await self._process.intake.notices.commit(changes)
        self._note(changes)

    async def notify(
        self, changes: list[Change], recipient: str, content: bytes, *, requiretls: bool = False
    ) -> None:
        notices = self._process.intake.notices
        await notices.notify(changes, recipient, content, requiretls=requiretls)
        self._note(changes)

    def _note(self, changes: list[Change]) -> None:
        if self._process.world.reactor.process.alive:
            self._process.outside.committed.update(
                (change.message, one.number)
                for change in changes
                for one in change.verdicts
                if one.state.final
            )


class Process:
    """The server, as far as it has to do with the queue."""

    def __init__(self, outside: Outside, data: str, boot: str, disk: Disk | None = None) -> None:
        self.outside = outside
        self.data = data
        self.world: SimulatedWorld = outside.world.at("192.0.2.50", disk=disk)
        world = self.world
        self.store = MailStore(world, data, host="home", boot=boot, segment_size=1 << 20)
        self.intake = MailIntake(
            world, IntakeSettings("home.example"), self.store, outside.directory
        )
        self.carrier = MemoryCarrier(world)
        self.carrier.hosts, self.carrier.sent = outside.hosts, outside.sent
        self.carrier.tries = outside.tries
        for host in outside.hosts.values():
            host.open = 0
        self.manager = QueueManager(
            world,
            self.store.queue,
            self.carrier,
            Door(self),
            Settings(poll=20, look=600, idle=1, jitter=0),
            hostname="home.example",
        )
        self.up = False

    def start(self) -> Process:
        self.world.run(self.store.start(), within=60)
        self.up = True
        self.manager.start()
        self.world.reactor.advance(0.1)
        return self

    def send(self, subject: str, *to: str, size: int = 20) -> None:
        """The sender waits for the answer, for at most a minute."""
        client = Client("192.0.2.7", "laptop.example", "ESMTPSA", None, Alice(), "c1")  # type: ignore[arg-type]
        envelope = Envelope(Address.parse(ALICE))
        outside, world = self.outside, self.world

        async def dialogue() -> None:
            for one in to:
                recipient = Recipient(Address.parse(one))
                await self.intake.route(client, envelope, recipient.address)
                envelope.recipients.append(recipient)
            message = self.intake.begin(client, envelope)
            mail = Mail(subject, to, message.message_id)
            outside.mails.append(mail)
            try:
                content = f"Subject: {subject}\r\n\r\n".encode() + b"x" * 70 + b"\r\n"
                for _ in range(0, size, 60_000):
                    await message.write(content)
                    content = (b"y" * 70 + b"\r\n") * 833
                await message.commit()
            except MailError as error:
                assert error.temporary
                if world.reactor.process.alive:
                    mail.answer = False
            else:
                if world.reactor.process.alive:
                    mail.answer = True

        if world.reactor.process.alive:
            with suppress(RuntimeError):  # it died
                world.run(dialogue(), within=60)

    def checkpoint(self) -> None:
        if self.world.reactor.process.alive:
            with suppress(RuntimeError, OSError, MailError):
                self.world.run(self._checkpoint(), within=60)

    async def _checkpoint(self) -> None:
        await self.world.threads.call(self.store._journal.checkpoint)

    def die(self) -> None:
        """What is left of it in memory goes on no more, not even when it is collected as garbage."""
        if not self.world.reactor.process.alive:
            return
        outside = self.outside
        for key in {(identity, number) for _, _, identity, number in outside.sent}:
            if key not in outside.committed:
                outside.window[key] += 1
        self.carrier.dead = True
        self.manager.running = self.manager.dispatcher.running = self.manager.window.open = False
        self.world.kill()

    def close(self) -> None:
        """SQLite's own files are the one thing that the disk of a dead process cannot close."""
        self.store._close_files()

    def stop(self) -> None:
        self.world.run(self.manager.stop())
        self.world.run(self.store.stop())
        self.die()

    # -- what is there

    def states(self) -> dict[str, list[State]]:
        found: dict[str, list[State]] = {}
        for row in self.store.queue.view.page(Filter(states=tuple(State)), limit=1000):
            found.setdefault(row.id, []).append(row.state)
        return found

    async def _inbox(self, name: str) -> list[bytes]:
        inbox = await self.store.open_inbox(f"home.example/{name}")
        found = []
        for index in range(len(inbox.messages)):
            content = await inbox.fetch(index)
            found.append(await content.read(65_536))
            content.close()
        await inbox.close()
        return found

    def inbox(self, name: str) -> list[bytes]:
        return self.world.run(self._inbox(name))

    def drain(self, most: float) -> None:
        """Until everything is over, then a while longer."""
        clock = self.world.reactor
        end = clock.seconds() + most
        while not all(state.final for states in self.states().values() for state in states):
            assert clock.seconds() < end, "it does not come to an end"
            clock.advance(100)
        clock.advance(650)

    def check(self, *, undeleted: bool = False) -> None:
        outside = self.outside
        states = self.states()
        sent = Counter((identity, number) for _, _, identity, number in outside.sent)
        for key, count in sent.items():
            assert count <= 1 + outside.window[key], f"{key} was sent {count} times"
        alice, bob = self.inbox("alice"), self.inbox("bob")
        for mail in outside.mails:
            copies = sum(f"Subject: {mail.subject}\n".encode() in one for one in bob)
            # By its id: when the original could not be read, its subject is not there.
            bounces = sum(mail.identity.encode() in one for one in alice)
            outcome = [sent[mail.identity, number] for number in range(len(mail.to))]
            if mail.answer is False or (mail.answer is None and mail.identity not in states):
                assert (copies, bounces, sum(outcome)) == (0, 0, 0), f"{mail.subject}: refused"
                assert mail.identity not in states
                continue
            remote = [one for one in mail.to if one != BOB]
            # All of it is there, or none: answered or not.
            assert copies == (BOB in mail.to), f"{mail.subject}: bob has it {copies} times"
            assert bounces == (BAD in mail.to), f"{mail.subject}: {bounces} bounces"
            for number, to in enumerate(remote):
                if to == BAD:
                    assert not sent[mail.identity, number]
                else:
                    assert sent[mail.identity, number], f"{mail.subject}: lost on its way to {to}"
            assert sorted(states[mail.identity]) == sorted(
                State.BOUNCED if to == BAD else State.DELIVERED for to in remote
            )
        # No bounce of anything else, no mail of nobody's.
        assert len(bob) == sum(BOB in mail.to for mail in outside.mails if mail.identity in states)
        known = {mail.identity for mail in outside.mails}
        assert {identity for _, _, identity, _ in outside.sent} | states.keys() <= known
        if not undeleted:
            # Of envelopes what is over goes at the next checkpoint.
            left = [
                names
                for path, _, names in os.walk(os.path.join(self.data, "queue"))
                if names and os.path.basename(path) != "envelopes"
            ]
            assert left == []
        manager = self.manager
        assert (manager.window.total, manager.committer.left) == (0, 0)
        assert manager._taking.active == set()


def scenario(process: Process) -> None:
    """Some ten minutes; the process may die at any point of it."""
    clock = process.outside.world.reactor
    process.start()
    process.send("both", BOB, FAR)
    process.send("bad", BAD)
    process.send("later, large", LATER, size=300_000)
    clock.advance(20)
    process.send("all", FAR, BAD, LATER, DOWN)
    clock.advance(20)
    process.checkpoint()
    process.send("last", FAR)
    clock.advance(340)
    process.outside.hosts["down.example"].error = None
    clock.advance(400)


def _told(run: Callable[[int], bool], number: int) -> bool:
    """`run`, and at which operation it was when it went wrong."""
    try:
        return run(number)
    except BaseException as error:
        error.add_note(f"at operation {number}")
        raise


def operations(run: Callable[[int], bool]) -> None:
    number = 1
    while _told(run, number):
        number += 1
    assert number > 100


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    world = simulated_world()
    path = tmp_path_factory.mktemp("accounts") / "accounts.sqlite3"
    directory = Directory(str(path), now=world.now, entropy=world.entropy)
    directory.add_domain("home.example")
    cost = Cost(memory=8, passes=1, lanes=1, scram_iterations=4096)
    record = hash_password("secret", Random(1).randbytes, cost)
    for address in (ALICE, BOB):
        directory.add_user(Address.parse(address), record)
    yield directory
    directory.close()


def go_on(process: Process, number: int, **more: Any) -> None:
    """What was left is taken up, and comes to its end; now and then six days are waited for what may come after."""
    process.outside.hosts["down.example"].error = None
    process.start()
    process.drain(DAY)
    if number % 50 == 0:
        process.world.reactor.advance(6 * DAY)
    process.check(**more)


def test_every_operation_failing_once(tmp_path: Path, directory: Directory) -> None:
    def run(number: int) -> bool:
        outside = Outside(directory, number)
        data = str(tmp_path / str(number))
        disk = FaultyDisk(number)
        process = Process(outside, data, "boot-1", disk)
        with suppress(MailError, OSError, ValueError):
            scenario(process)
        if process.up:
            assert all(mail.answer is not None for mail in outside.mails)
            disk.fail_at = 0
            process.drain(DAY)
            process.check(undeleted="unlink" in disk.failed)
            assert not outside.window, "nothing has crashed"
        # What did not start said so, and promised nothing.
        process.die()
        process.close()
        again = Process(outside, data, "boot-1")
        go_on(again, number, undeleted="unlink" in disk.failed)
        again.stop()
        shutil.rmtree(data)
        return bool(disk.failed)

    operations(run)


class Cut(PowerCutDisk):
    """The process dies with the power: not one turn later."""

    process: Process

    def before(self, name: str, args: Any) -> None:
        try:
            super().before(name, args)
        except OSError:
            self.process.die()
            raise


@pytest.mark.parametrize("luck", [None, 1])
def test_a_power_cut_at_every_operation(
    tmp_path: Path, directory: Directory, luck: int | None
) -> None:
    doubled = 0

    def run(number: int) -> bool:
        nonlocal doubled
        outside = Outside(directory, number)
        root, after = str(tmp_path / f"{number}"), str(tmp_path / f"{number}-after")
        os.mkdir(root)
        disk = Cut(root, number)
        process = disk.process = Process(outside, os.path.join(root, "data"), "boot-1", disk)
        with suppress(MailError, OSError, ValueError, RuntimeError):
            scenario(process)
        cut = not disk.alive
        process.die()
        disk.after_cut(after, luck=Random(luck * 1000 + number) if luck else None)
        disk.close_all()
        process.close()
        again = Process(outside, os.path.join(after, "data"), "boot-2")
        go_on(again, number, undeleted=True)
        counts = Counter((identity, which) for _, _, identity, which in outside.sent)
        doubled += max(counts.values(), default=0) > 1
        again.stop()
        shutil.rmtree(root)
        shutil.rmtree(after)
        return cut

    operations(run)
    assert doubled, "the scenario has no cut between a peer's 250 and our commit"
