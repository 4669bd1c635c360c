"""Wrong and right passwords at one process of a site count at the others."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from awaiting import Started
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from zope.interface import implementer

from twisted_mail.accounts.authenticate import Authenticator
from twisted_mail.interfaces import IAccount
from twisted_mail.policy.limits import FailureDelays, client_network
from twisted_mail.status import MailError
from twisted_mail.testing import SimulatedWorld, simulated_world
from twisted_mail.testing.siblings import SharedSite

HOME, ELSEWHERE = "192.0.2.1", "198.51.100.1"


@implementer(IAccount)
class Nobody:
    name = "alice"


@implementer(IRealm)
class Everybody:
    def requestAvatar(self, avatar_id: Any, mind: Any, *interfaces: Any) -> Any:
        return IAccount, Nobody(), lambda: None


class Site:
    """Two processes, each with an authenticator of its own."""

    def __init__(self) -> None:
        self.shared = SharedSite()
        self.numbers = count()
        first = self.shared.join(simulated_world())
        self.worlds = [first, self.shared.join(first.at("192.0.2.1"))]
        self.one, self.two = (self._authenticator(world) for world in self.worlds)

    def _authenticator(self, world: SimulatedWorld) -> Authenticator:
        checker = InMemoryUsernamePasswordDatabaseDontUse(alice=b"right", bob=b"right")
        portal = Portal(Everybody(), [checker])
        delays = FailureDelays(world.now)
        return Authenticator(portal, world, delays, client_network, key=b"of the site")

    def login(self, at: Authenticator, password: str, ip: str, user: str = "alice") -> float:
        """Seconds until it was answered; what answer is not looked at."""
        world = self.worlds[0]
        if password == "wrong":  # another one each time
            password = f"wrong {next(self.numbers)}"
        began = world.now()
        started = Started(at.login(user, password, ip))
        world.reactor.settle()
        while not started.ended:
            world.reactor.advance(0.25)
        try:
            started.result()
        except MailError as error:
            assert error.code == 535
        world.reactor.settle()
        return world.now() - began


@pytest.fixture
def site() -> Site:
    return Site()


def test_failures_at_one_are_waited_for_at_the_other(site: Site) -> None:
    assert site.login(site.one, "wrong", ELSEWHERE) == 1
    assert site.login(site.two, "wrong", ELSEWHERE) == 2
    assert site.login(site.one, "wrong", ELSEWHERE) == 4
    # The account is slow, too, when it is somebody else who tries
    assert site.login(site.two, "wrong", HOME) == 8


def test_a_right_password_at_one_forgives_at_the_other(site: Site) -> None:
    site.login(site.one, "wrong", HOME)
    site.login(site.one, "wrong", HOME)
    site.login(site.one, "right", HOME)
    assert site.login(site.two, "wrong", HOME) == 1


def test_who_is_at_home_at_one_is_not_held_up_at_the_other(site: Site) -> None:
    site.login(site.one, "right", HOME)
    for _ in range(4):
        site.login(site.one, "wrong", HOME, "bob")
    failed = Started(site.one.login("bob", "wrong", HOME))
    site.worlds[0].reactor.settle()
    assert not failed.ended
    assert site.login(site.two, "right", HOME) == 0


def test_an_account_of_ones_own_wipes_out_failures_once_in_all_processes(site: Site) -> None:
    site.login(site.one, "right", ELSEWHERE, "bob")
    site.login(site.one, "wrong", ELSEWHERE)
    site.login(site.one, "wrong", ELSEWHERE)
    site.login(site.two, "right", ELSEWHERE, "bob")
    assert site.login(site.two, "wrong", ELSEWHERE) == 4


def test_who_was_known_is_forgiven_nowhere(site: Site) -> None:
    site.login(site.one, "right", HOME)
    site.login(site.one, "wrong", HOME)
    site.login(site.one, "wrong", HOME)
    site.login(site.one, "right", HOME)
    assert site.login(site.two, "wrong", HOME) > 3


def test_failures_at_home_are_heard_of(site: Site) -> None:
    site.login(site.one, "right", HOME)
    for _ in range(6):
        site.login(site.two, "wrong", HOME)
        site.login(site.one, "wrong", HOME)
    started = Started(site.two.login("alice", "the last one", HOME))
    site.worlds[0].reactor.settle()
    # Who fails so often must wait as anybody else, at both
    assert site.login(site.one, "right", HOME) > 0
    del started


def test_the_same_wrong_password_counts_once_in_all_processes(site: Site) -> None:
    for _ in range(5):
        assert site.login(site.one, "old", ELSEWHERE) == 1
        assert site.login(site.two, "old", ELSEWHERE) == 1
    assert site.login(site.two, "wrong", ELSEWHERE) == 2
    # What is told of it is a hash
    assert all("old" not in str(news) for _, news in site.shared.told)


def test_who_is_known_is_not_told_of_again(site: Site) -> None:
    for _ in range(5):
        site.login(site.one, "right", HOME)
        site.login(site.two, "right", HOME)
    assert [topic for topic, _ in site.shared.told] == ["login right"]
