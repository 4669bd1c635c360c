"""One of two sites is killed at every moment of a message's way, and started again on what it left.

What was answered with 250 is delivered at least once, and its bounce comes exactly once.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest
from simulated_sites import BOB, Site, Sites

from twisted_mail.testing.disk import HookedDisk

NOBODY = "nobody@two.example"
AGAIN = 2
"""Copies at most."""
UNDER_WAY = 6
"""Turns that the content, once written, still takes to the peer's disk."""


class MortalSites(Sites):
    """`send_and_kill` writes one message, to bob and to nobody, and looks what has become of it."""

    recipients = (BOB, NOBODY)

    def send_and_kill(self, victim: Site, name: str, live: Callable[[], bool]) -> tuple[bool, int]:
        """`victim` is killed when `live`, which lets something happen, is false, and comes back a second later.

        Whether the message was answered with 250, and how often bob has got it.
        """
        client = self.one.begin(*self.recipients, subject=name)
        while live():
            pass
        victim.kill()
        self.advance(1)
        accepted = b"250 2.0.0 " in client.read()
        client.close()
        victim.start()
        self.until_all_is_sent()
        self.advance(10)  # the next one finds no connection that is open
        copies = self.two.subjects().count(name)
        bounces = self.one.subjects().count(f"Undelivered mail: {name}")
        assert accepted <= copies <= AGAIN, name
        # Not accepted, and there all the same: killed between the commitment and the 250.
        assert bounces == (1 if copies and NOBODY in self.recipients else 0), name
        return accepted, copies


@pytest.fixture
def sites(tmp_path):
    sites = MortalSites(tmp_path)
    yield sites
    sites.stop()


def way(sites):
    """After how many turns of the clock, from the last dot, a message is in the queue, with bob, and over."""
    sites.one.begin(BOB, NOBODY, subject="counted")
    turns = queued = there = 0
    while not there or sites.one.waiting():
        assert sites.world.reactor.step(60)
        turns += 1
        queued = queued or (turns if sites.one.waiting() else 0)
        there = there or (turns if sites.two.subjects() else 0)
    sites.advance(60)
    return queued, there, turns


@pytest.mark.parametrize("who", ["one", "two"])
def test_killed_between_any_two_turns(sites, who):
    queued, there, over = way(sites)
    doubles = []
    for turns in range(over + 5):
        left = [None] * turns

        def live(left=left):
            return bool(left) and (left.pop() or sites.world.reactor.step(1))

        accepted, copies = sites.send_and_kill(getattr(sites, who), f"turn {turns}", live)
        assert bool(copies) is (turns >= queued or who == "two")
        assert accepted or turns < there
        if copies > 1:
            doubles.append(turns)
    # The first site must send again when it did not hear that the second has it, or did not write that down.
    assert doubles and doubles[0] >= there - UNDER_WAY and doubles[-1] < over


class DyingDisk(HookedDisk):
    """Once it is armed, kills its process at operation number `at` (from 1), before it is done or after."""

    def __init__(self, at: int, *, done: bool) -> None:
        self.at = at
        self.done = done
        self.asked: list[str] = []
        self.armed = False
        self.kill: Callable[[], None] = lambda: None

    def before(self, name, args):
        if self.armed:
            self.asked.append(name)
            self._die(done=False)

    def after(self, name, args):
        if self.armed:
            self._die(done=True)

    def _die(self, *, done):
        if len(self.asked) == self.at and self.done is done:
            self.kill()
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    "who, recipients", [("one", (BOB, NOBODY)), ("one", (BOB,)), ("two", (BOB, NOBODY))]
)
def test_killed_at_any_operation_of_the_disk(sites, who, recipients, done):
    sites.recipients = recipients
    doubled = False
    for at in range(1, 200):
        victim = getattr(sites, who)
        victim.stop()
        disk = DyingDisk(at, done=done)
        process = victim.start(disk).world.reactor.process
        disk.kill, disk.armed = victim.world.kill, True
        end = sites.world.now() + 20

        def live(process=process, end=end):
            return process.alive and sites.world.reactor.step(end - sites.world.now())

        _, copies = sites.send_and_kill(victim, f"operation {at}", live)
        if copies > 1:
            # A record that was written whole counts: the machine has not lost its power.
            records = disk.asked[: at if done else at - 1].count("writev")
            # One: sent again when what has become of it was not written down. Two: when he who has it died before he
            # could say so.
            assert records == 1, at
            doubled = True
        if len(disk.asked) < at:
            break
    else:
        raise AssertionError("it does not come to an end")
    # Killed after an operation: without a bounce there is none between the peer's 250 and the record of it.
    assert doubled or (done and recipients == (BOB,))
