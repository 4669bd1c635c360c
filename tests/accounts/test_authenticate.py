"""Logging in as a session does: passwords, SASL exchanges, and how failures slow down."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from awaiting import Started, done
from scramp import ScramClient
from twisted.cred.checkers import (
    AllowAnonymousAccess,
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import capturedLogs
from zope.interface import implementer

from twisted_mail.accounts.authenticate import Authenticator, Exchange, Login
from twisted_mail.accounts.checkers import DirectoryChecker
from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.familiar import Familiar
from twisted_mail.accounts.passwords import Cost, Hasher, PasswordRecord
from twisted_mail.accounts.realm import Realm
from twisted_mail.address import Address
from twisted_mail.interfaces import IAccount
from twisted_mail.policy.limits import FailureDelays, client_network
from twisted_mail.status import MailError
from twisted_mail.world import World

HOME, ELSEWHERE = "192.0.2.1", "2001:db8::1"
Record = Callable[[str], PasswordRecord]


async def open_inbox(mailbox: str) -> Any:
    raise AssertionError("nobody reads mail here")


@pytest.fixture
def portal(directory: Directory, record: Record, world: World, cost: Cost) -> Portal:
    for name in ("alice", "bob"):
        directory.add_user(Address.parse(f"{name}@example.org"), record(f"{name}'s"))
    checker = DirectoryChecker(directory, Hasher(world, cost), world)
    return Portal(Realm(directory, open_inbox), [checker])


def authenticator_of(portal: Portal, world: World) -> Authenticator:
    return Authenticator(portal, world, FailureDelays(world.now), client_network)


@pytest.fixture
def authenticator(portal: Portal, world: World) -> Authenticator:
    return authenticator_of(portal, world)


def run(world: World, started: Started[Any]) -> float:
    """Let the threads work and the clock go on until it has ended; the seconds that took."""
    began = world.now()
    world.reactor.settle()
    while not started.ended:
        world.reactor.advance(0.25)
        assert world.now() < began + 120
    return world.now() - began


def refusal(started: Started[Any]) -> tuple[int, str, str | None]:
    with pytest.raises(MailError) as caught:
        started.result()
    error = caught.value
    return error.code, error.enhanced, error.pop3


WRONG = (535, "5.7.8", "AUTH")
MALFORMED = (501, "5.5.2", "AUTH")


def try_password(
    world: World, authenticator: Authenticator, name: str, password: str, client: str = HOME
) -> tuple[object, float]:
    """The account's name or the refusal, and the seconds waited."""
    started = Started(authenticator.login(name, password, client))
    waited = run(world, started)
    try:
        return started.result().account.name, waited
    except MailError as error:
        return (error.code, error.enhanced, error.pop3), waited


# -- what is offered


def test_mechanisms_are_what_the_portal_can_check(
    authenticator: Authenticator, world: World, directory: Directory
) -> None:
    assert authenticator.mechanisms() == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
    realm = Realm(directory, open_inbox)
    plain = Portal(realm, [InMemoryUsernamePasswordDatabaseDontUse()])
    assert authenticator_of(plain, world).mechanisms() == ("PLAIN", "LOGIN")
    nothing = Portal(realm, [AllowAnonymousAccess()])
    assert authenticator_of(nothing, world).mechanisms() == ()
    for name in ("PLAIN", "SCRAM-SHA-256-PLUS", "GSSAPI", ""):
        with pytest.raises(MailError) as caught:
            authenticator_of(nothing, world).exchange(name, HOME)
        assert (caught.value.code, caught.value.enhanced) == (504, "5.5.4")


# -- passwords


def test_right_and_wrong_passwords(world: World, authenticator: Authenticator) -> None:
    assert try_password(world, authenticator, "alice", "alice's")[0] == "alice@example.org"
    assert try_password(world, authenticator, "alice", "bob's")[0] == WRONG
    assert try_password(world, authenticator, "carol@example.org", "carol's")[0] == WRONG
    assert try_password(world, authenticator, "\ud800", "\ud800")[0] == WRONG


def test_a_login_has_an_account_and_a_logout(world: World, authenticator: Authenticator) -> None:
    started = Started(authenticator.login("alice@example.org", "alice's", HOME))
    run(world, started)
    login = started.result()
    assert IAccount.providedBy(login.account)
    login.logout()


@implementer(ICredentialsChecker)
class Checker:
    """A third party's."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, answer: Callable[[UsernamePassword], Any]) -> None:
        self.requestAvatarId = answer


def portal_with(directory: Directory, answer: Callable[[UsernamePassword], Any]) -> Portal:
    return Portal(Realm(directory, open_inbox), [Checker(answer)])


def test_a_third_partys_checker(world: World, portal: Portal, directory: Directory) -> None:
    asked: list[tuple[bytes, bytes]] = []

    def answer(credentials: UsernamePassword) -> Deferred[bytes]:
        asked.append((credentials.username, credentials.password))
        return succeed(b"bob")

    authenticator = authenticator_of(portal_with(directory, answer), world)
    assert try_password(world, authenticator, "bü", "pässword")[0] == "bob@example.org"
    assert asked == [("bü".encode(), "pässword".encode())]


def test_a_third_partys_user_without_an_account(
    world: World, portal: Portal, directory: Directory
) -> None:
    authenticator = authenticator_of(portal_with(directory, lambda _: b"carol"), world)
    with capturedLogs() as events:
        started = Started(authenticator.login("carol@x", "carol's", HOME))
        run(world, started)
    with pytest.raises(MailError) as caught:
        started.result()
    assert (caught.value.code, caught.value.text) == (535, "Authentication credentials invalid")
    # What the session will log, in its one line; so nothing is logged here.
    assert caught.value.cause == "right password, but no account in the directory, as 'carol@x'"
    assert events == []


def raiser(error: Exception) -> Callable[[object], Any]:
    def answer(_: object) -> Any:
        raise error

    return answer


def test_what_nobody_foresaw_comes_out_as_it_is(
    world: World, portal: Portal, directory: Directory
) -> None:
    """The session logs it, once, with what only it knows: the connection."""
    authenticator = authenticator_of(portal_with(directory, raiser(OSError("no disk"))), world)
    with capturedLogs() as events:
        for started in (
            Started(authenticator.login("alice", "alice's", HOME)),
            Started(authenticator.exchange("PLAIN", HOME).step(b"\0alice\0alice's")),
        ):
            run(world, started)
            with pytest.raises(OSError, match="no disk"):
                started.result()
    assert events == []


def test_a_checkers_own_reply_is_passed_on(
    world: World, portal: Portal, directory: Directory
) -> None:
    busy = MailError(454, "4.7.0", "Too many")
    authenticator = authenticator_of(portal_with(directory, raiser(busy)), world)
    started = Started(authenticator.login("alice", "alice's", HOME))
    # Not at once: whoever is told so tries again at once
    assert run(world, started) == 5
    with pytest.raises(MailError) as caught:
        started.result()
    assert caught.value is busy


def test_an_avatar_that_is_no_account_is_our_trouble(world: World) -> None:
    @implementer(IRealm)
    class Wrong:
        def requestAvatar(self, avatarId: bytes, mind: object, *interfaces: object) -> object:
            return interfaces[0], object(), lambda: logouts.append(avatarId)

    logouts: list[bytes | tuple[()]] = []
    portal = Portal(Wrong(), [Checker(lambda _: b"alice")])
    with pytest.raises(TypeError, match="adapt"):
        done(authenticator_of(portal, world).login("a", "b", HOME))
    assert logouts == [b"alice"]


def test_the_cause_names_the_user_and_not_the_password(
    world: World, authenticator: Authenticator
) -> None:
    started = Started(authenticator.login("alice@x\r\nforged" + "x" * 400, "hunter2", HOME))
    run(world, started)
    with pytest.raises(MailError) as caught:
        started.result()
    text = str(caught.value)
    assert "wrong name or password, as 'alice@x\\r\\nforged" in text
    assert "hunter2" not in text and "\n" not in text and len(text) < 500


def test_what_is_no_address_may_be_a_password(world: World, authenticator: Authenticator) -> None:
    for name in ("hunter2", "@hunter2", "", "hunter2\0"):
        started = Started(authenticator.login(name, "sesame", HOME))
        run(world, started)
        with pytest.raises(MailError) as caught:
            started.result()
        assert f"as a name without a domain, of {len(name)} characters" in str(caught.value)
        assert "hunter2" not in str(caught.value)


# -- slowing down


def test_failures_of_one_client_slow_down(world: World, authenticator: Authenticator) -> None:
    waits = [
        try_password(world, authenticator, f"user{n}", "wrong", ELSEWHERE)[1] for n in range(7)
    ]
    assert waits[0] == 1 and waits[-1] > 10
    assert waits == sorted(waits)


def test_failures_of_one_account_slow_down(world: World, authenticator: Authenticator) -> None:
    waits = [
        try_password(world, authenticator, "Alice" if n % 2 else "alice", f"{n}", f"192.0.{n}.2")
        for n in range(5)
    ]
    assert [answer for answer, _ in waits] == [WRONG] * 5
    assert waits[0][1] == 1 and waits[-1][1] > 10


def test_an_ipv6_network_is_one_client(world: World, authenticator: Authenticator) -> None:
    try_password(world, authenticator, "x", "wrong", "2001:db8::1")
    assert try_password(world, authenticator, "y", "wrong", "2001:db8::2")[1] > 1


def test_nobody_is_locked_out_from_elsewhere(world: World, authenticator: Authenticator) -> None:
    for _ in range(5):
        try_password(world, authenticator, "alice", "wrong", ELSEWHERE)
    assert try_password(world, authenticator, "alice", "alice's", HOME) == (
        "alice@example.org",
        0,
    )


def test_other_connections_of_the_same_client_wait_too(
    world: World, portal: Portal, directory: Directory
) -> None:
    judged: list[float] = []

    def answer(credentials: UsernamePassword) -> bytes:
        judged.append(world.now())
        if credentials.password != b"right":
            raise UnauthorizedLogin
        return b"alice"

    authenticator = authenticator_of(portal_with(directory, answer), world)
    began = world.now()
    first = Started(authenticator.login("alice", "wrong", ELSEWHERE))
    assert judged == [began]
    miss = Started(authenticator.login("bob", "wrong", ELSEWHERE))
    hit = Started(authenticator.login("bob", "right", ELSEWHERE))
    gone = Started(authenticator.login("bob", "wrong", ELSEWHERE))
    gone.deferred.cancel()
    for one in (first, hit, miss):
        run(world, one)
    # One by one, and never all at the end of the same wait
    assert judged == [began, began + 1, began + 2]
    assert hit.result().account.name == "alice@example.org"
    assert refusal(miss) == WRONG
    with pytest.raises(CancelledError):
        gone.result()


def test_who_is_at_home_there_does_not_wait(world: World, authenticator: Authenticator) -> None:
    assert try_password(world, authenticator, "alice", "alice's")[1] == 0
    for _ in range(4):
        try_password(world, authenticator, "bob", "wrong")
    assert try_password(world, authenticator, "alice", "alice's")[1] == 0


def test_who_fails_at_home_waits_when_it_is_no_typing_error(
    world: World, authenticator: Authenticator
) -> None:
    assert try_password(world, authenticator, "alice", "alice's")[1] == 0
    for n in range(10):
        try_password(world, authenticator, "alice", f"wrong{n}")
        assert try_password(world, authenticator, "alice", "alice's")[1] == 0
    missed = [Started(authenticator.login("alice", f"guess{n}", HOME)) for n in range(2)]
    world.reactor.settle()
    assert try_password(world, authenticator, "alice", "alice's")[1] > 0
    for one in missed:
        run(world, one)
        assert refusal(one) == WRONG


def test_a_right_password_clears_the_client_once(
    world: World, authenticator: Authenticator
) -> None:
    for _ in range(4):
        assert try_password(world, authenticator, "bob", "wrong")[0] == WRONG
    assert try_password(world, authenticator, "alice", "alice's")[0] == "alice@example.org"
    assert try_password(world, authenticator, "carol", "wrong")[1] == 1
    # but whoever alternates guesses with his own account gains nothing
    waits = []
    for n in range(4):
        assert try_password(world, authenticator, "alice", "alice's")[1] == 0
        waits.append(try_password(world, authenticator, f"user{n}", "wrong")[1])
    assert waits == sorted(waits) and waits[-1] > 10


def test_how_many_are_known_is_bounded(world: World, directory: Directory, portal: Portal) -> None:
    asked = portal_with(directory, lambda _: b"alice")
    familiar = Familiar(world.now, 2)
    authenticator = Authenticator(asked, world, FailureDelays(world.now), familiar=familiar)
    for name in ("alice", "bob", "alice", "carol"):
        done(authenticator.login(name, "x", HOME))
    for name, waits in (("alice", False), ("carol", False), ("bob", True)):
        failure = Started(authenticator.refuse("x", HOME, "wrong"))
        assert (run(world, Started(authenticator.login(name, "x", HOME))) > 0) is waits
        run(world, failure)


def test_who_goes_away_while_waiting(world: World, authenticator: Authenticator) -> None:
    started = Started(authenticator.login("alice", "wrong", HOME))
    world.reactor.settle()
    started.deferred.cancel()
    with pytest.raises(CancelledError):
        started.result()
    assert world.reactor.getDelayedCalls() == []


# -- SASL


def step(world: World, exchange: Exchange, response: bytes | None) -> Any:
    started = Started(exchange.step(response))
    run(world, started)
    return started.result()


def test_plain(world: World, authenticator: Authenticator) -> None:
    exchange = authenticator.exchange("plain", HOME)
    assert step(world, exchange, None) == b""
    login = step(world, exchange, b"\0alice\0alice's")
    assert isinstance(login, Login) and login.account.name == "alice@example.org"
    direct = authenticator.exchange("PLAIN", HOME)
    assert isinstance(step(world, direct, b"\0bob\0bob's"), Login)


def test_login(world: World, authenticator: Authenticator) -> None:
    exchange = authenticator.exchange("LOGIN", HOME)
    assert step(world, exchange, None) == b"Username:"
    assert step(world, exchange, b"alice") == b"Password:"
    assert isinstance(step(world, exchange, b"alice's"), Login)
    direct = authenticator.exchange("LOGIN", HOME)
    assert step(world, direct, b"alice") == b"Password:"
    assert refused(world, direct, b"bob's") == WRONG


def refused(world: World, exchange: Exchange, response: bytes) -> tuple[int, str, str | None]:
    started = Started(exchange.step(response))
    run(world, started)
    return refusal(started)


def scram(
    world: World, authenticator: Authenticator, name: str, password: str
) -> tuple[ScramClient, Exchange]:
    """Up to where the client has its proof."""
    client = ScramClient(["SCRAM-SHA-256"], name, password)
    exchange = authenticator.exchange("SCRAM-SHA-256", HOME)
    assert step(world, exchange, None) == b""
    challenge = step(world, exchange, client.get_client_first().encode())
    client.set_server_first(challenge.decode())
    return client, exchange


def test_scram(world: World, authenticator: Authenticator) -> None:
    client, exchange = scram(world, authenticator, "alice@example.org", "alice's")
    final = step(world, exchange, client.get_client_final().encode())
    client.set_server_final(final.decode())
    login = step(world, exchange, b"")
    assert isinstance(login, Login) and login.account.name == "alice@example.org"


@pytest.mark.parametrize("name", ["alice", "nobody@example.org"])
def test_scram_refuses_and_slows_down(
    world: World, authenticator: Authenticator, name: str
) -> None:
    for expected in (1, 2):
        client, exchange = scram(world, authenticator, name, "wrong")
        started = Started(exchange.step(client.get_client_final().encode()))
        assert run(world, started) >= expected
        assert refusal(started) == WRONG


def test_scram_nonces_differ(world: World, authenticator: Authenticator) -> None:
    first = b"n,,n=alice,r=abc"
    one, two = (step(world, authenticator.exchange("SCRAM-SHA-256", HOME), first) for _ in range(2))
    assert one != two and one.startswith(b"r=abc")


def test_a_password_changed_in_the_middle_of_scram(
    world: World, authenticator: Authenticator, directory: Directory, record: Record
) -> None:
    client, exchange = scram(world, authenticator, "alice", "alice's")
    step(world, exchange, client.get_client_final().encode())
    directory.set_password(Address.parse("alice@example.org"), record("changed"))
    assert refused(world, exchange, b"") == WRONG


def test_malformed_responses(world: World, authenticator: Authenticator) -> None:
    for name in authenticator.mechanisms():
        for response in (b"", b"\xff", b"\0\0"):
            assert refused(world, authenticator.exchange(name, HOME), response) == MALFORMED
    client, exchange = scram(world, authenticator, "alice", "alice's")
    assert refused(world, exchange, b"c=biws") == MALFORMED
    client, exchange = scram(world, authenticator, "alice", "alice's")
    step(world, exchange, client.get_client_final().encode())
    assert refused(world, exchange, b"more") == MALFORMED


def test_acting_as_somebody_else(world: World, authenticator: Authenticator) -> None:
    for name, response in (
        ("PLAIN", b"bob\0alice\0alice's"),
        ("SCRAM-SHA-256", b"n,a=bob,n=alice,r=abc"),
    ):
        assert refused(world, authenticator.exchange(name, HOME), response) == WRONG


def test_trouble_in_the_middle_of_scram_is_not_taken_for_a_wrong_proof(
    world: World, authenticator: Authenticator, directory: Directory
) -> None:
    directory.close()
    with pytest.raises(sqlite3.ProgrammingError):
        done(authenticator.exchange("SCRAM-SHA-256", HOME).step(b"n,,n=alice,r=abc"))
