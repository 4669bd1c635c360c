"""`workers.worker`: one worker's life, in a simulated world; its main process is the test."""

from __future__ import annotations

import os
import socket

import pytest
from twisted.internet.defer import Deferred

from twisted_mail.config import Config
from twisted_mail.listeners import Socket
from twisted_mail.site import make_data
from twisted_mail.testing.world import simulated_world
from twisted_mail.workers.orders import LogPlace, Order
from twisted_mail.workers.shared_counts import make_shared_counts
from twisted_mail.workers.worker import Worker


class Site:
    def __init__(self, directory):
        self.config = Config.model_validate(
            {"hostname": "mail.example.org", "checks": {"enabled": False}},
            context={"directory": directory},
        )
        self.world = simulated_world()
        make_data(self.config, self.world.disk)
        self.said = []
        self.over = []
        counts = make_shared_counts(3, os.urandom)
        order = Order(1, "", [], self.config, {}, [], [], counts, LogPlace())
        self.worker = Worker(order, self.world, self.said.append, self.over.append, lambda: None)

    def run(self, condition):
        for _ in range(2000):
            if condition():
                return
            self.world.reactor.settle()
        raise AssertionError("never")


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_ready_open_drain(site):
    site.worker.start()
    site.run(lambda: site.said)
    assert site.said == [["ready"]]
    site.worker.told(["open"])
    site.worker.told(["ping"])
    assert site.said[-1] == ["pong"]
    site.worker.told(["drain"])
    site.worker.leave()
    site.run(lambda: site.over)
    assert site.over == [0]


def test_one_that_is_to_leave_and_cannot_start_ends_once(site):
    waiting = Deferred()

    async def broken(*_, **__):
        await waiting
        raise OSError(28, "No space left on device")

    site.worker._rooms.open = broken
    site.worker.start()
    site.worker.leave()
    waiting.callback(None)
    site.run(lambda: site.over)
    site.world.reactor.settle()
    assert site.over == [1]
    assert site.said[0] == ["failed", "cannot start: [Errno 28] No space left on device"]


def test_who_has_left_before_it_was_ready_does_not_say_that_it_is(site):
    site.worker.start()
    site.worker.leave()
    site.run(lambda: site.over)
    assert site.over == [0] and ["ready"] not in site.said


def test_the_ports_are_given_up_before_the_start_is_over(site):
    """The main process is dead, perhaps, and the next one wants them."""
    waiting = Deferred()

    async def slow(*_, **__):
        await waiting

    class Port:
        listens = True

        def stopListening(self):
            self.listens = False

    port = Port()
    site.worker._rooms.open = slow
    site.worker.start()
    site.worker._listeners.adopt(
        Socket("smtp", "tcp:25", socket.AF_INET, -1), lambda one, factory: port
    )
    site.worker.leave()
    assert not port.listens
    waiting.callback(None)
