"""Sessions are told when the directory lets their user in no more: here, or by another process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from twisted_mail.accounts import admitted
from twisted_mail.accounts.admitted import LOOK_EVERY, Admitted
from twisted_mail.accounts.directory import Directory, User
from twisted_mail.accounts.passwords import PasswordRecord
from twisted_mail.address import Address
from twisted_mail.world import World

ALICE, BOB = Address("alice", "example.org"), Address("bob", "example.org")


class Site:
    def __init__(self, world: Any, directory: Directory, record: Any) -> None:
        self.reactor = world.reactor
        self.directory = directory
        self.record = record("secret")
        self.admitted = Admitted(self.reactor, directory)
        self.ended: list[str] = []
        self.users = {name: directory.add_user(name, self.record) for name in (ALICE, BOB)}

    def watch(self, address: Address, name: str = "") -> Callable[[], None]:
        user = self.users[address]
        return self.admitted.watch(user, lambda: self.ended.append(name or address.local))

    def wait(self, seconds: float = LOOK_EVERY) -> list[str]:
        self.reactor.advance(seconds)
        self.reactor.settle()
        return self.ended


@pytest.fixture
def site(world: World, directory: Directory, record: Callable[[str], PasswordRecord]) -> Site:
    return Site(world, directory, record)


def test_all_sessions_of_who_is_disabled_end_once(site: Site) -> None:
    site.watch(ALICE, "one")
    site.watch(ALICE, "two")
    site.watch(BOB)
    assert site.wait() == []
    site.directory.set_enabled(ALICE, False)
    assert site.ended == [], "not before it returns"
    assert site.wait() == ["one", "two"]
    site.directory.set_enabled(ALICE, True)
    site.directory.set_enabled(ALICE, False)
    assert site.wait() == ["one", "two"]


@pytest.mark.parametrize("remove", [True, False])
def test_another_process_does_it(site: Site, open_directory: Any, remove: bool) -> None:
    other = open_directory()
    site.watch(ALICE)
    site.watch(BOB)
    if remove:
        other.remove_user(ALICE)
    else:
        other.set_enabled(ALICE, False)
    assert site.wait() == ["alice"]


def test_a_new_user_of_the_name_is_another_one(site: Site) -> None:
    site.watch(ALICE)
    site.directory.remove_user(ALICE)
    site.directory.add_user(ALICE, site.record)
    assert site.wait() == ["alice"]


def test_other_changes_end_nothing(site: Site) -> None:
    site.watch(ALICE)
    site.directory.set_password(ALICE, site.record)
    site.directory.set_quota(ALICE, 1, 1)
    site.directory.add_alias("info@example.org", [BOB])
    assert site.wait() == []


def test_who_was_disabled_while_the_session_was_made(site: Site) -> None:
    site.directory.set_enabled(ALICE, False)
    site.watch(BOB)
    assert site.wait() == []
    site.watch(ALICE)
    assert site.ended == []
    assert site.wait() == ["alice"]


@pytest.mark.parametrize("elsewhere", [True, False])
@pytest.mark.parametrize("looked", [True, False], ids=["a look between", "no look"])
def test_who_was_let_in_as_of_an_older_look(
    site: Site, open_directory: Any, elsewhere: bool, looked: bool
) -> None:
    site.watch(BOB)
    since = site.directory.seen
    (open_directory() if elsewhere else site.directory).set_enabled(ALICE, False)
    if looked:
        assert site.wait() == []
    ended: list[str] = []
    site.admitted.watch(site.users[ALICE], lambda: ended.append("alice"), since)
    assert ended == []
    site.wait()
    assert ended == ["alice"]


def test_who_has_left_is_not_told_and_no_timer_stays(site: Site) -> None:
    unwatch = site.watch(ALICE)
    other = site.watch(ALICE)
    unwatch()
    unwatch()
    assert len(site.reactor.getDelayedCalls()) == 1
    other()
    assert site.reactor.getDelayedCalls() == []
    site.directory.set_enabled(ALICE, False)
    assert site.wait() == []
    # and the next one is heard of again
    site.watch(BOB)
    site.directory.set_enabled(BOB, False)
    assert site.wait() == ["bob"]


def test_a_session_that_leaves_as_it_is_told(site: Site) -> None:
    leave: list[Callable[[], None]] = []
    leave.append(site.admitted.watch(site.users[ALICE], lambda: leave[0]()))
    site.watch(BOB)
    site.directory.set_enabled(ALICE, False)
    site.directory.set_enabled(BOB, False)
    assert site.wait() == ["bob"]
    assert site.reactor.getDelayedCalls() == []


def test_many_are_looked_up_a_slice_at_a_time(site: Site, monkeypatch: Any) -> None:
    monkeypatch.setattr(admitted, "SLICE", 3)
    users: list[User] = []
    for number in range(10):
        address = Address(f"user{number}", "example.org")
        users.append(site.directory.add_user(address, site.record))
        site.admitted.watch(users[-1], partial(site.ended.append, str(number)))
    for user in users:
        site.directory.set_enabled(user.address, False)
    site.reactor.advance(LOOK_EVERY)
    assert site.ended == ["0", "1", "2"]
    assert site.wait(0.1) == [str(number) for number in range(10)]


def test_nothing_is_looked_up_in_a_directory_that_is_closed(site: Site) -> None:
    site.watch(ALICE)
    site.admitted.stop()
    site.directory.close()
    assert site.reactor.getDelayedCalls() == []
    site.watch(ALICE)()
    assert site.wait() == []
