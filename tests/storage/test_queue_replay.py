"""The queue after a stop that was not clean: at every operation of the disk, failing or the last one there was.

What was answered yes is there, exactly once; an outcome and the bounce it causes are there together or not at all.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from random import Random

import pytest
from store_site import Site

from twisted_mail.status import MailError
from twisted_mail.storage.queued import Attempt, Change, State, Verdict
from twisted_mail.storage.record import Kind, Record
from twisted_mail.storage.segments import Loaded
from twisted_mail.storage.story import Story
from twisted_mail.testing.disk import FaultyDisk, PowerCutDisk

ATTEMPT = (Attempt(1.0, "", "", "", "held by hand"),)
BOUNCE = b"Subject: undelivered\n\nno such user\n"


def message(number, size=20):
    return b"Subject: %d\n\n" % number + b"x" * size + b"\n"


def verdict(site, id_, number, state, due=0.0):
    attempt = Attempt(site.world.now(), "mx", "192.0.2.1", "", state.name)
    return Change(id_, (Verdict(number, state, due, 0),), (attempt,))


class Ledger:
    """What was answered yes while the power was on (`sure`), and what may have happened (`tried`)."""

    def __init__(self, disk):
        self._disk = disk
        self._alive = lambda: getattr(disk, "alive", True)
        self.content = {}
        self.added = {}
        self.final = {}
        self.local = {}

    def _do(self, work, *args, **kwargs):
        try:
            work(*args, **kwargs)
        except (MailError, OSError):
            return None
        return self._alive()

    def add(self, site, id_, content, *to, accounts=(), changes=()):
        done = self._do(site.enqueue, content, id_, *to, accounts=accounts, changes=changes)
        self.content[id_] = content
        for one in to:
            self.added[id_, one] = bool(done)
        for account in accounts:
            self.local[account, content] = bool(done)
        return done

    def end(self, site, id_, number, to, state):
        if (id_, to) not in site.states():
            return  # parked: nobody can have taken it
        self.ended(id_, to, state, self._do(site.change, verdict(site, id_, number, state)))

    def ended(self, id_, to, state, done):
        self.final[id_, to] = (state, bool(done))

    def check(self, site):
        states = site.states()
        assert states.keys() <= self.added.keys(), "came from nowhere"
        for key, sure in self.added.items():
            assert key in states or not sure, "lost"
        by_message = {}
        for key, state in states.items():
            by_message.setdefault(key[0], []).append(state)
            expected, sure = self.final.get(key, (None, False))
            if sure:
                assert state is expected, "went back"
            if state.final:
                assert state is expected, "ended by itself"
        for id_, found in by_message.items():
            unfinished = [state for state in found if not state.final]
            if unfinished:
                assert site.queued_file(id_) == self.content[id_]
            elif site.queued_file(id_) is not None:
                # It could not be deleted; it goes when the story is forgotten.
                assert "unlink" in self._disk.failed
        for account in ("d/a", "d/b"):
            found = site.contents(account)
            assert len(set(found)) == len(found), "doubled"
            for (name, content), sure in self.local.items():
                assert name != account or content in found or not sure, "lost"
        # An outcome and its bounce.
        bounced = states.get(("bb00", "nobody@b.example")) is State.BOUNCED
        assert bounced == (BOUNCE in site.contents("d/a"))
        # All recipients or none.
        both = {key in states for key in self.added if key[0] == "aa00"}
        both.add(message(0) in site.contents("d/b"))
        assert len(both) == 1


def bounce(site, ledger):
    change = verdict(site, "bb00", 0, State.BOUNCED)

    def run():
        site.run(site.accept(BOUNCE, ["d/a"], changes=[change]))

    if ("bb00", "nobody@b.example") not in site.states():
        return
    ledger.ended("bb00", "nobody@b.example", State.BOUNCED, ledger._do(run))


def scenario(site, ledger):
    site.start()
    site.run(site.store.queue.acquire())
    ledger.add(site, "aa00", message(0), "x@a.example", "y@b.example", accounts=["d/b"])
    ledger.add(site, "aa01", message(1, 300_000), "x@a.example")
    ledger.add(site, "bb00", message(2), "nobody@b.example")
    site.take()
    ledger.end(site, "aa00", 0, "x@a.example", State.DELIVERED)
    bounce(site, ledger)
    site.run(site.world.threads.call(site.store._journal.checkpoint))
    ledger.add(site, "aa02", message(3), "x@a.example")
    site.take()
    ledger.end(site, "aa01", 0, "x@a.example", State.DELIVERED)
    ledger._do(site.change, verdict(site, "aa02", 0, State.DEFERRED, site.world.now() + 300))
    ledger.end(site, "aa00", 1, "y@b.example", State.REMOVED)


def operations(run):
    number = 1
    while run(number):
        number += 1
    assert number > 60


def test_every_operation_failing_once_loses_nothing(tmp_path):
    def run(number):
        disk = FaultyDisk(number)
        site = Site(str(tmp_path / str(number)), disk=disk)
        ledger = Ledger(disk)
        try:
            scenario(site, ledger)
        except (MailError, OSError, ValueError):
            if not site.store._upkeep.on:
                return bool(disk.failed)  # it did not start: said so, and nothing was promised
        disk.fail_at = 0
        if site.store._upkeep.on:
            site.world.reactor.advance(31)  # what was parked is tried again
            site.turn()
            ledger.check(site)
        site.kill()
        again = Site(site.data, seed=2).start()
        ledger.check(again)
        again.stop()
        shutil.rmtree(site.data)
        return bool(disk.failed)

    operations(run)


@pytest.mark.parametrize("luck", [None, 1, 2, 3, 4])
def test_a_power_cut_at_every_operation_loses_nothing(tmp_path, luck):
    def run(number):
        root, after = str(tmp_path / f"{number}"), str(tmp_path / f"{number}-after")
        os.mkdir(root)
        disk = PowerCutDisk(root, number)
        site = Site(os.path.join(root, "data"), disk=disk)
        ledger = Ledger(disk)
        try:
            scenario(site, ledger)
        except (MailError, OSError, ValueError):
            pass
        cut = not disk.alive
        disk.after_cut(after, luck=Random(luck * 1000 + number) if luck else None)
        disk.close_all()
        site.kill()
        again = Site(os.path.join(after, "data"), seed=2, boot="boot-2").start()
        ledger.check(again)
        again.kill()
        third = Site(os.path.join(after, "data"), seed=3, boot="boot-2").start()
        ledger.check(third)
        third.stop()
        shutil.rmtree(root)
        shutil.rmtree(after)
        return cut

    operations(run)


def test_a_kill_changes_nothing(tmp_path):
    site = Site(str(tmp_path / "data"))
    ledger = Ledger(site.disk)
    scenario(site, ledger)
    site.kill()
    again = Site(site.data, seed=2).start()
    ledger.check(again)
    assert again.run(again.store.queue.acquire())
    again.world.reactor.advance(300)
    taken, _ = again.take()
    assert [(one.message.id, one.number, one.tries) for one in taken] == [("aa02", 0, 1)]


def test_a_file_that_could_not_be_deleted_goes_with_the_story(tmp_path):
    disk = FaultyDisk(counted=["unlink"])
    site = Site(str(tmp_path / "data"), disk=disk).start()
    site.enqueue(message(1), "aa00", "x@a.example")
    disk.fail_at = disk.count + 1
    site.change(verdict(site, "aa00", 0, State.REMOVED))
    assert site.queued_file("aa00") is not None
    site.run(site.store.queue.prune(site.world.now() + 1, 0))
    assert site.queued_file("aa00") is None


def test_what_was_forgotten_meanwhile_is_not_added_again_for_a_dead_process(tmp_path):
    """One process accepts and is killed; the other has sent it and forgotten it before that is settled."""
    runner = Site(str(tmp_path / "data")).start()
    door = Site(runner.data, seed=2).start()
    runner.run(runner.store.queue.acquire())
    door.enqueue(message(1), "aa00", "x@a.example")
    assert runner.take()[0]
    runner.change(verdict(runner, "aa00", 0, State.DELIVERED))
    runner.run(runner.store.queue.prune(runner.world.now() + 1, 0))
    door.kill()
    runner.run(runner.world.threads.call(runner.store._journal.checkpoint))
    assert runner.states() == {}
    assert runner.take()[0] == []


# -- what a dead process had done is not done to those who have it in hand since


@pytest.fixture
def two(tmp_path):
    """The process that runs the queue, with one message that waits, and another one."""
    runner = Site(str(tmp_path / "data")).start()
    other = Site(runner.data, seed=2).start()
    assert runner.run(runner.store.queue.acquire())
    runner.enqueue(message(1), "aa00", "x@a.example")
    return runner, other


def checkpoint(site):
    site.run(site.world.threads.call(site.store._journal.checkpoint))


def later(*sites):
    for site in sites:
        site.world.reactor.advance(10)
        site.turn()


def taken(site):
    return [(one.message.id, one.number) for one in site.take()[0]]


def state(site):
    (found,) = site.states().values()
    return found


@pytest.mark.parametrize("holder", ["it", "another", "a dead one"])
def test_what_a_dead_process_released_is_not_given_out_twice(two, holder):
    """`mailctl queue release`, killed when it had done its work: the message is being sent already."""
    runner, dead = two
    one = {"it": dead, "another": runner}.get(holder) or Site(runner.data, seed=3).start()
    one.change(verdict(one, "aa00", 0, State.HELD))
    if holder == "a dead one":
        one.kill()
    later(runner, dead)
    dead.change(verdict(dead, "aa00", 0, State.WAITING))
    dead.kill()
    assert taken(runner) == [("aa00", 0)]
    checkpoint(runner)
    assert state(runner) is State.ACTIVE
    assert taken(runner) == []


def test_what_a_dead_process_held_and_another_one_released_is_not_given_out_twice(two):
    runner, dead = two
    dead.change(verdict(dead, "aa00", 0, State.HELD))
    dead.kill()
    later(runner)
    runner.change(verdict(runner, "aa00", 0, State.WAITING))
    assert taken(runner) == [("aa00", 0)]
    checkpoint(runner)
    assert state(runner) is State.ACTIVE
    assert taken(runner) == []


def test_what_a_dead_process_held_in_vain_before_another_one_retried_it(two):
    """Its row never said that it was held."""
    runner, dead = two
    dead.store._spool.fill = lambda items: None
    dead.change(verdict(dead, "aa00", 0, State.HELD))
    dead.kill()
    later(runner)
    runner.change(verdict(runner, "aa00", 0, State.WAITING))
    assert taken(runner) == [("aa00", 0)]
    checkpoint(runner)
    assert state(runner) is State.ACTIVE


def test_what_a_dead_process_had_retried_is_not_given_out_twice(two):
    runner, dead = two
    assert taken(runner)
    runner.change(verdict(runner, "aa00", 0, State.DEFERRED, runner.world.now() + 1000))
    later(runner, dead)
    dead.change(verdict(dead, "aa00", 0, State.WAITING, dead.world.now()))
    dead.kill()
    assert taken(runner) == [("aa00", 0)]
    checkpoint(runner)
    assert state(runner) is State.ACTIVE


def test_what_was_deferred_by_the_runner_before_is_not_given_out_twice(two):
    """It let the other one run the queue, and was killed then."""
    before, runner = two
    assert taken(before)
    before.change(verdict(before, "aa00", 0, State.DEFERRED, before.world.now() + 5))
    before.run(before.store.queue.release())
    assert runner.run(runner.store.queue.acquire())
    later(runner)
    assert taken(runner) == [("aa00", 0)]
    before.kill()
    checkpoint(runner)
    assert state(runner) is State.ACTIVE
    assert taken(runner) == []


@pytest.mark.parametrize("to", [State.HELD, State.REMOVED, State.DELIVERED])
def test_what_a_dead_process_could_not_write_down_comes_to_those_in_hand(two, to):
    runner, dead = two
    dead.store._spool.fill = lambda items: None
    dead.change(verdict(dead, "aa00", 0, to))
    dead.kill()
    assert taken(runner)
    checkpoint(runner)
    assert state(runner) is to


def test_a_release_that_a_dead_process_could_not_write_down_is_done(two):
    runner, dead = two
    dead.change(verdict(dead, "aa00", 0, State.HELD))
    later(dead, runner)
    dead.store._spool.fill = lambda items: None
    dead.change(verdict(dead, "aa00", 0, State.WAITING, dead.world.now()))
    dead.kill()
    assert taken(runner) == []
    checkpoint(runner)
    assert taken(runner) == [("aa00", 0)]


def test_a_try_that_a_dead_runner_could_not_write_down_counts_and_waits(two):
    dead, runner = two
    assert taken(dead)
    later(dead, runner)
    dead.store._spool.fill = lambda items: None
    dead.change(verdict(dead, "aa00", 0, State.DEFERRED, dead.world.now() + 300))
    dead.kill()
    checkpoint(runner)
    assert state(runner) is State.DEFERRED
    assert runner.run(runner.store.queue.acquire())
    assert taken(runner) == []
    runner.world.reactor.advance(300)
    assert [one.tries for one in runner.take()[0]] == [1]


def test_what_the_runner_put_off_without_a_try_does_not_stay_in_hand_when_it_was_parked(two):
    """Nobody would take it again: it was never written down before, and who had it has let go of it."""
    runner, _ = two
    assert taken(runner)
    real = runner.store._spool.transaction

    def full():
        raise sqlite3.OperationalError("database or disk is full")

    runner.store._spool.transaction = full
    runner.change(Change("aa00", (Verdict(0, State.DEFERRED, runner.world.now() + 100),)))
    runner.store._spool.transaction = real
    assert state(runner) is State.ACTIVE
    runner.world.reactor.advance(31)
    runner.turn()
    assert state(runner) is State.DEFERRED


def test_of_holds_and_releases_only_the_last_one_is_told():
    first = Change("aa00", (Verdict(0, State.HELD), Verdict(1, State.HELD)), ATTEMPT)
    between = Change("aa00", (Verdict(0, State.DEFERRED, 5.0),))
    last = Change("aa00", (Verdict(0, State.WAITING),))
    records = [
        Record(Kind.CHANGE, writer, number, {"changes": [change.to_json()]}, memoryview(b""))
        for number, (writer, change) in enumerate([(1, first), (1, between), (2, last)], 1)
    ]
    story = Story("2", [Loaded(1, "2", records)], frozenset({1}))
    assert [changes for _, _, changes in story.queue] == [
        [Change("aa00", (Verdict(1, State.HELD),), ATTEMPT)],
        [between],
        [last],
    ]
