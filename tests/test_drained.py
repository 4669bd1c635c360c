"""How long a server that stops waits for its clients."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from twisted_mail.serving import LATE_SECONDS, drained
from twisted_mail.testing import simulated_world


class Clients:
    def __init__(self, *, end: bool) -> None:
        self.gone: Deferred[None] = Deferred()
        self.cut = 0
        self._end = end

    def abort_all(self):
        self.cut += 1
        if self._end:
            self.gone.callback(None)


def waiting(clients):
    world = simulated_world()
    return world, Deferred.fromCoroutine(drained(world, [clients.gone], 30, [clients]))


def test_who_ends_by_himself_is_not_cut():
    clients = Clients(end=True)
    world, over = waiting(clients)
    world.reactor.advance(29)
    assert not over.called
    clients.gone.callback(None)
    assert over.called
    world.reactor.advance(100)
    assert clients.cut == 0 and not world.reactor.getDelayedCalls()


def test_who_takes_too_long_is_cut():
    clients = Clients(end=True)
    world, over = waiting(clients)
    world.reactor.advance(31)
    assert over.called and clients.cut == 1
    assert not world.reactor.getDelayedCalls()


def test_who_does_not_even_end_then_keeps_no_server_from_stopping():
    clients = Clients(end=False)
    world, over = waiting(clients)
    world.reactor.advance(30 + LATE_SECONDS - 1)
    assert clients.cut == 1 and not over.called
    world.reactor.advance(1)
    assert over.called
    clients.gone.callback(None)
    assert not world.reactor.getDelayedCalls()


def test_nothing_to_wait_for():
    world = simulated_world()
    over = Deferred.fromCoroutine(drained(world, [], 30, []))
    assert over.called and not world.reactor.getDelayedCalls()
