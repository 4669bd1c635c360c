"""`workers.fleet`: the service's view of its workers; no process is started here."""

from __future__ import annotations

import os

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_mail.config import Config
from twisted_mail.service import StartError
from twisted_mail.workers import fleet
from twisted_mail.workers.fleet import Workers
from twisted_mail.workers.orders import LogPlace


class Store:
    def __init__(self):
        self.settling = []

    async def settle(self):
        self.settling.append(Deferred())
        return await self.settling[-1]


class Rooms:
    def __init__(self):
        self.store = Store()


class Child:
    pid = 1

    def __init__(self, told, ended):
        self.told, self.ended = told, ended
        self.sent = []

    def send(self, frame):
        self.sent.append(frame[0])
        if frame[0] == "drain":
            self.ended("")

    def kill(self):
        pass


class Spawner:
    """Its processes are ready at once, and leave when they are asked to."""

    def __init__(self, reactor, descriptors, output, zygote):
        self.clock = reactor
        self.children = []

    def spawn(self, slot, first, told, ended):
        child = Child(told, ended)
        self.children.append(child)
        self.clock.callLater(0, told, ["ready"])
        return child

    def stop(self):
        self.stopped = True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def workers(clock, monkeypatch):
    monkeypatch.setattr(fleet, "ProcessSpawner", Spawner)
    return Workers(clock, 1, lambda: (LogPlace(), None), os.urandom)


def outcome_of(coroutine):
    found = []
    Deferred.fromCoroutine(coroutine).addBoth(found.append)
    return found


@pytest.fixture
def config(tmp_path):
    return Config.model_validate({}, context={"directory": tmp_path})


def started(workers, clock, config):
    rooms = Rooms()
    begun = outcome_of(workers.start([], [], config, {}, rooms))
    clock.advance(0)
    assert begun == [None]
    return rooms


def test_a_store_that_is_at_work_for_a_dead_worker_is_not_closed_before(workers, clock, config):
    rooms = started(workers, clock, config)
    workers._spawner.children[0].ended("was ended by SIGKILL")
    (settling,) = rooms.store.settling
    clock.advance(0)
    stopped = outcome_of(workers.stop())
    assert not stopped
    settling.callback(True)
    assert stopped == [None]


def test_nor_when_another_configuration_has_another_store(workers, clock, config):
    rooms = started(workers, clock, config)
    workers._spawner.children[0].ended("was ended by SIGKILL")
    changed = outcome_of(workers.change(config, {}, Rooms()))
    clock.advance(0)
    assert not changed
    rooms.store.settling[0].errback(OSError(5, "Input/output error"))
    assert changed == [None]


def test_a_change_that_comes_after_the_end_is_refused(workers, clock, config):
    started(workers, clock, config)
    assert outcome_of(workers.stop()) == [None]
    (failure,) = outcome_of(workers.change(config, {}, Rooms()))
    assert failure.check(StartError)


def test_the_user_that_counts_is_the_effective_one(workers, monkeypatch):
    asked = []

    def access(path, mode, *, effective_ids=False):
        asked.append(effective_ids)
        return False

    monkeypatch.setattr(os, "access", access)
    assert "may not read" in workers.impossible() and asked == [True]


class Zygote:
    ended = 0

    def end(self):
        self.ended += 1


def test_a_zygote_that_was_started_early_is_the_spawners(clock, monkeypatch, config):
    found = []
    monkeypatch.setattr(
        fleet, "ProcessSpawner", lambda *given: found.append(given) or Spawner(*given)
    )
    early = Zygote()
    workers = Workers(clock, 1, lambda: (LogPlace(), None), os.urandom, early)
    workers.prepare()
    started(workers, clock, config)
    assert found[0][3] is early
    assert outcome_of(workers.stop()) == [None]
    assert not early.ended  # that is the spawner's part


def test_a_zygote_that_nobody_has_come_to_need_is_ended(clock):
    early = Zygote()
    workers = Workers(clock, 1, lambda: (LogPlace(), None), os.urandom, early)
    assert outcome_of(workers.stop()) == [None]
    assert outcome_of(workers.stop()) == [None]
    assert early.ended == 1


def test_who_has_no_pidfd_starts_no_workers(workers, monkeypatch):
    def pidfd_open(pid):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    assert "Linux 5.3" in workers.impossible()
