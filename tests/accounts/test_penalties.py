"""Guessing costs guessers and spares users: many addresses, one account; one address, many accounts; the office behind
one address; the telephone with an old password. On the simulated clock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from awaiting import Started, done
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from zope.interface import implementer

from twisted_mail.accounts.authenticate import Authenticator
from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.familiar import DAYS, Familiar, Mistakes
from twisted_mail.config import Config
from twisted_mail.factories import make_authenticator
from twisted_mail.interfaces import IAccount
from twisted_mail.policy.limits import FailureDelays, client_network
from twisted_mail.policy.rates import wider_network
from twisted_mail.status import MailError
from twisted_mail.testing import SimulatedWorld, simulated_world

OFFICE, HOTEL = "192.0.2.1", "203.0.113.9"
HOUR = 3600.0
LONG = 1200.0
AT_ONCE = 20
MOST = AT_ONCE + 10 + int(LONG / 30)
"""Guesses in a flood as `LONG`: those that are there before the first one has failed, a few while the waits grow, and
one in each longest wait."""


@implementer(IAccount)
class Anybody:
    name = "somebody"


@implementer(IRealm)
class Everybody:
    def requestAvatar(self, avatar_id: Any, mind: Any, *interfaces: Any) -> Any:
        return IAccount, Anybody(), lambda: None


@implementer(ICredentialsChecker)
class Checker:
    """Every password but "right" is wrong; `judged` are all that were asked for, each with its time."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.judged: list[tuple[str, float]] = []

    def requestAvatarId(self, credentials: Any) -> bytes:
        self.judged.append((credentials.username.decode(), self.now()))
        if credentials.password != b"right":
            raise UnauthorizedLogin
        return bytes(credentials.username)


class Site:
    def __init__(self, familiar: Familiar | None = None) -> None:
        self.world: SimulatedWorld = simulated_world()
        self.checker = Checker(self.world.now)
        self.delays = FailureDelays(self.world.reactor.seconds)
        self.familiar = Familiar(self.world.now) if familiar is None else familiar
        self.authenticator = Authenticator(
            Portal(Everybody(), [self.checker]),
            self.world,
            self.delays,
            client_network,
            wider=wider_network,
            home=partial(wider_network, bits6=64),
            familiar=self.familiar,
        )

    def start(self, user: str, password: str, ip: str) -> Started[Any]:
        return Started(self.authenticator.login(user, password, ip))

    def login(self, user: str, password: str, ip: str) -> tuple[int, float]:
        """The code, 235 when it was right, and the seconds it took."""
        began = self.world.now()
        started = self.start(user, password, ip)
        while not started.ended:
            self.world.reactor.advance(0.5)
            assert self.world.now() < began + 200
        return answer(started), self.world.now() - began

    def flood(
        self, tries: Callable[[int], tuple[str, str, str]], seconds: float, at_once: int = AT_ONCE
    ) -> None:
        """Somebody who has `at_once` logins under way all the time, for so long."""
        under_way: list[Started[Any]] = []
        number, end = 0, self.world.now() + seconds
        while self.world.now() < end:
            under_way = [one for one in under_way if not one.ended]
            while len(under_way) < at_once:
                under_way.append(self.start(*tries(number)))
                number += 1
            self.world.reactor.advance(2.0)

    def guesses(self, seconds: float = LONG) -> int:
        since = self.world.now() - seconds
        return sum(when >= since for _, when in self.checker.judged)


def answer(started: Started[Any]) -> int:
    try:
        started.result()
    except MailError as error:
        return error.code
    return 235


@pytest.fixture
def site() -> Site:
    return Site()


def address(number: int) -> str:
    """Each in a network of its own."""
    return f"{1 + number // 250}.{number % 250}.7.7"


# Guessers


def test_one_address_against_many_accounts(site: Site) -> None:
    site.flood(lambda n: (f"user{n}", "secret", HOTEL), LONG)
    assert 40 <= site.guesses() <= MOST


def test_all_addresses_of_a_network(site: Site) -> None:
    site.flood(lambda n: (f"user{n}", "secret", f"203.0.113.{n % 256}"), LONG)
    assert site.guesses() <= 30 + MOST


def test_all_networks_of_an_ipv6_site(site: Site) -> None:
    site.flood(lambda n: (f"user{n}", "secret", f"2001:db8:7:{n % 65536:x}::1"), LONG)
    assert site.guesses() <= 30 + MOST


def test_an_ipv4_address_has_no_second_name(site: Site) -> None:
    site.flood(lambda n: (f"user{n}", "secret", ("::ffff:" if n % 2 else "") + HOTEL), LONG)
    assert site.guesses() <= MOST


def test_thousands_of_addresses_against_one_account(site: Site) -> None:
    assert site.login("alice", "right", OFFICE) == (235, 0)
    site.flood(lambda n: ("alice", f"guess {n}", address(n)), LONG)
    assert 40 <= site.guesses() <= 20 + MOST
    # Where she is at home she comes in at once, on another address of that network, too
    assert site.login("alice", "right", OFFICE) == (235, 0)
    assert site.login("alice", "right", "192.0.2.77") == (235, 0)
    # Others are not concerned, wherever they are
    assert site.login("bob", "right", HOTEL) == (235, 0)


def test_what_is_not_judged_is_told_the_same_whether_there_is_such_an_account(site: Site) -> None:
    told = []
    for name in ("alice", "nobody"):
        site.flood(lambda n, name=name: (name, f"guess {n}", address(n)), 600)  # type: ignore[misc]
        several = [site.start(name, "right", f"198.51.100.{n}") for n in range(5)]
        site.world.reactor.advance(5.0)
        with pytest.raises(MailError) as caught:
            several[-1].result()
        error = caught.value
        told.append((error.code, error.enhanced, error.text, error.pop3, error.imap))
        site.world.reactor.advance(HOUR)
    refusal = (454, "4.7.0", "Too many failed logins, try again later", "SYS/TEMP", "UNAVAILABLE")
    assert told == [refusal, refusal]


def test_a_few_failures_elsewhere_hinder_nobody_anywhere(site: Site) -> None:
    for n in range(15):
        site.login("alice", f"guess {n}", address(n))
    assert site.login("alice", "right", HOTEL) == (235, 0)


def test_it_is_over_when_they_stop(site: Site) -> None:
    site.flood(lambda n: ("alice", f"guess {n}", address(n)), 1000)
    site.world.reactor.advance(1000)
    assert site.login("alice", "right", HOTEL) == (235, 0)


# Users


def test_a_telephone_with_an_old_password_bans_nobody(site: Site) -> None:
    """It tries every minute, all day."""
    assert site.login("alice", "right", OFFICE) == (235, 0)
    for _ in range(60):
        assert site.login("bob", "old", OFFICE) == (535, 1)
        site.world.reactor.advance(59)
    # Who was there before, who comes for the first time, and bob himself with the new one
    assert site.login("alice", "right", OFFICE) == (235, 0)
    assert site.login("carol", "right", OFFICE) == (235, 0)
    assert site.login("bob", "right", OFFICE) == (235, 0)


def test_several_telephones_with_old_passwords(site: Site) -> None:
    for _ in range(20):
        for user in ("bob", "dave", "erin"):
            site.login(user, f"old of {user}", OFFICE)
            site.world.reactor.advance(60)
    assert site.login("carol", "right", OFFICE)[1] <= 4


def test_a_telephone_that_proves_it_another_way(site: Site) -> None:
    """SCRAM shows no password: what is wrong where the user is at home counts for that user there."""
    assert site.login("bob", "right", OFFICE) == (235, 0)
    for _ in range(100):
        failed = Started(site.authenticator.refuse("bob", OFFICE, "wrong proof"))
        site.world.reactor.advance(60)
        assert failed.result().code == 535
    assert site.login("carol", "right", OFFICE) == (235, 0)
    assert site.login("bob", "right", HOTEL) == (235, 0)


def test_a_guesser_in_the_office_hinders_nobody_who_is_at_home_there(site: Site) -> None:
    for user in ("alice", "bob"):
        assert site.login(user, "right", OFFICE) == (235, 0)
    site.flood(lambda n: (f"user{n}", "secret", OFFICE), 1000)
    assert site.login("alice", "right", OFFICE) == (235, 0)
    site.flood(lambda n: ("bob", f"guess {n}", OFFICE), 1000)
    assert site.login("alice", "right", OFFICE) == (235, 0)
    # He has had as many guesses as anybody
    assert site.guesses(1000) <= 10 + MOST


def test_one_account_of_his_own_does_not_help_a_guesser(site: Site) -> None:
    assert site.login("mallory", "right", HOTEL) == (235, 0)
    number = 0

    def tries(n: int) -> tuple[str, str, str]:
        nonlocal number
        number += 1
        return ("mallory", "right", HOTEL) if number % 2 else (f"user{n}", "secret", HOTEL)

    site.flood(tries, LONG, at_once=4)
    assert sum(name != "mallory" for name, _ in site.checker.judged) <= MOST


def test_who_is_forgiven_begins_anew(site: Site) -> None:
    site.flood(lambda n: (f"user{n}", "secret", HOTEL), 600)
    assert site.login("carol", "right", HOTEL) != (235, 0)
    site.world.reactor.advance(100)
    site.authenticator.forgive(HOTEL)
    assert site.login("dave", "right", HOTEL) == (235, 0)
    site.flood(lambda n: ("alice", f"guess {n}", address(n)), 600)
    site.world.reactor.advance(100)
    site.authenticator.forgive("Alice")
    assert site.login("alice", "right", "198.51.100.1") == (235, 0)


# What is kept


def test_a_month_later_nobody_is_at_home(site: Site) -> None:
    site.login("alice", "right", OFFICE)
    assert "192.0.2.0/24 alice" in site.familiar
    site.world.reactor.advance(DAYS * 24 * HOUR)
    assert "192.0.2.0/24 alice" not in site.familiar


def test_who_is_at_home_is_so_after_a_restart() -> None:
    world = simulated_world()
    before = Familiar(world.now, remembers=True)
    site = Site(before)
    site.login("alice", "right", OFFICE)
    rows = before.take()
    assert [(kind, key) for kind, key, _, _ in rows] == [("login", b"192.0.2.0/24 alice")]
    site.login("alice", "right", OFFICE)
    assert before.take() == []
    after = Familiar(world.now)
    after.load([*rows, ("rate", b"\xff", 0.0, b"")])
    assert "192.0.2.0/24 alice" in after
    assert after.has_network("192.0.2.0/24")


def spelling(number: int) -> str:
    """alice@example.org, as it can be written in a great many ways."""
    local = "".join(
        f"\\{octet}" if number >> bit & 1 else octet for bit, octet in enumerate("alice")
    )
    domain = "".join(
        # fullwidth letters
        chr(ord(octet) + 0xFEE0) if number >> bit & 32 and octet != "." else octet
        for bit, octet in enumerate("example.org")
    )
    return f'"{local}"@{domain}'


def test_spellings_of_one_account_are_one(directory: Directory, tmp_path: Path) -> None:
    """Who tries them in turn, from an address each, would have twenty tries for nothing with every one."""
    world: SimulatedWorld = simulated_world()
    config = Config.model_validate({}, context={"directory": tmp_path})
    authenticator = make_authenticator(config, world, directory, Everybody())
    for name in ("alice@example.org", "nobody@elsewhere.example", "al\ud800ce"):
        assert not done(authenticator.hold_back(name, HOTEL))
    spellings = {spelling(n) for n in range(0, 65536, 600)} | {"alice", "ALICE@EXAMPLE.ORG"}
    assert len(spellings) > 100
    for number, name in enumerate(spellings):
        Started(authenticator.refuse(name, address(number), "wrong"))
        world.reactor.advance(1)
    for number, name in enumerate(["alice@example.org", *list(spellings)[:3]]):
        assert not Started(authenticator.hold_back(name, address(1000 + number))).ended
    # neither is one that is not in the directory another than itself, nor others concerned
    assert Started(authenticator.hold_back("bob@example.org", address(2000))).ended
    authenticator.forgive("alice@example.org")
    assert Started(authenticator.hold_back("alice", address(3000))).ended


def test_millions_of_addresses_have_a_bound(site: Site) -> None:
    delays = FailureDelays(site.world.reactor.seconds, size=100)
    familiar = Familiar(site.world.now, 100)
    mistakes = Mistakes(b"key", 100)
    for n in range(5000):
        delays.failed(f"client {n}")
        delays.turn(f"client {n}")
        familiar.add(f"{n} alice")
        for wrong in range(2):
            mistakes.again(f"account {n}", f"{wrong}")
    assert len(delays) == len(familiar) == len(mistakes) == 100
    assert familiar.has_network("4999") and not familiar.has_network("1")
